"""Questions in SQL over files that somebody else writes, renames and removes meanwhile."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from havre.domain.errors import Unavailable
from havre.telemetry.sql import MEMORY_MB, connect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TIME_LIMIT_S = 10.0
THREADS = 2
TRIES = 10


@dataclass(frozen=True, slots=True)
class Rows:
    """An answer. ``is_cut``: there were more rows than were asked for."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    is_cut: bool = False


class QueryTooLong(Unavailable):
    """It was interrupted at its time limit."""


class QueryTooLarge(Unavailable):
    """It needed more memory than there is for all questions together."""


class View(Protocol):
    """Files at one moment, and the SELECT that reads them."""

    sql: str

    def is_there(self) -> bool:
        """Whether all the files are still there."""

    def is_current(self) -> bool:
        """Whether nothing has moved on that the SELECT may have missed."""


class Questions:
    """Thread-safe; several run at once. The library is loaded with the first."""

    def __init__(self, view: str) -> None:
        self._view = view
        self._connection: DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    def ask(
        self,
        make_view: Callable[[], View],
        sql: str,
        parameters: Sequence[Any] = (),
        *,
        limit: int,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> Rows:
        """What ``sql``, one SELECT over the view, answers, at most ``limit`` rows; it blocks.

        Raises QueryTooLong after ``time_limit_s``, QueryTooLarge, and Unavailable when the files
        cannot be read.
        """
        import duckdb

        cursor = self._cursor()
        done = threading.Event()
        limiter = threading.Thread(target=_interrupt, args=(cursor, done, time_limit_s))
        limiter.start()
        try:
            for _ in range(TRIES):
                view = make_view()
                try:
                    cursor.execute(f"CREATE OR REPLACE TEMP VIEW {self._view} AS {view.sql}")
                    answer = cursor.execute(sql, list(parameters))
                    rows = answer.fetchmany(limit + 1)
                except duckdb.IOException:
                    # A live file may have gone, and another of its name have come.
                    if view.is_there() and view.is_current():
                        raise
                    continue  # a file went away: what it held is in another by now
                if view.is_current():
                    columns = tuple(each[0] for each in answer.description or ())
                    return Rows(columns, rows[:limit], is_cut=len(rows) > limit)
        except duckdb.InterruptException:
            raise QueryTooLong(
                f"the query took longer than {time_limit_s:g} s; ask for less"
            ) from None
        except duckdb.OutOfMemoryException:
            raise QueryTooLarge(f"the query needs more than {MEMORY_MB} MB; ask for less") from None
        except duckdb.IOException as error:
            raise Unavailable(f"what is kept cannot be read: {error}") from error
        finally:
            done.set()
            limiter.join()
            cursor.close()
        raise Unavailable("the files were rewritten again and again meanwhile; ask again")

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _cursor(self) -> "DuckDBPyConnection":
        with self._lock:
            if self._connection is None:
                self._connection = connect(threads=THREADS)
            return self._connection.cursor()


def _interrupt(cursor: "DuckDBPyConnection", done: threading.Event, after_s: float) -> None:
    """Again and again: between two statements there is nothing that it could interrupt."""
    wait_s = after_s
    while not done.wait(wait_s):
        cursor.interrupt()
        wait_s = 0.1


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file a name means now; None: there is no such file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
