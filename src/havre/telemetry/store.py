"""Questions to the logs, in SQL over one view; read-only, and safe beside whoever writes them."""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from havre.domain.errors import Unavailable
from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry import layout
from havre.telemetry.entries import quote, select_json, select_nothing, select_parquet
from havre.telemetry.layout import UNROUTED
from havre.telemetry.sql import MEMORY_MB, connect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROWS = 10_000
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
    """It needed more memory than there is for all searches together."""


class LogStore:
    """Thread-safe; several questions run at once. The library is loaded with the first."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._connection: DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    def query(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        *,
        category: Category | None,
        deployments: Collection[str] | None,
        time_from_ms: int,
        time_to_ms: int,
        limit: int = ROWS,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> Rows:
        """What ``sql``, one SELECT over the view ``entries``, answers; it blocks.

        The view has the columns of ``havre.telemetry.entries.COLUMNS``, of this category and these
        deployments (None: all) and of these times (``time``, both ends included). ``sql`` must not
        hold what users wrote: that goes to ``parameters``, one for each ``?``. At most ``limit``
        rows are returned. Raises QueryTooLong after ``time_limit_s``, QueryTooLarge when memory
        does not suffice, Unavailable when the files cannot be read.
        """
        import duckdb

        cursor = self._cursor()
        done = threading.Event()
        limiter = threading.Thread(target=_interrupt, args=(cursor, done, time_limit_s))
        limiter.start()
        try:
            for _ in range(TRIES):
                views = [
                    _View(self._home, each, deployments, time_from_ms, time_to_ms)
                    for each in ([category] if category else Category)
                ]
                union = " UNION ALL ".join(view.sql for view in views)
                try:
                    cursor.execute(f"CREATE OR REPLACE TEMP VIEW entries AS {union}")
                    answer = cursor.execute(sql, list(parameters))
                    rows = answer.fetchmany(limit + 1)
                except duckdb.IOException:
                    if all(view.is_there() for view in views):
                        raise
                    continue  # a file went away: its entries are in another by now
                if all(view.is_current() for view in views):
                    columns = tuple(each[0] for each in answer.description or ())
                    return Rows(columns, rows[:limit], is_cut=len(rows) > limit)
        except duckdb.InterruptException:
            raise QueryTooLong(
                f"the search took longer than {time_limit_s:g} s; ask for less time or fewer logs"
            ) from None
        except duckdb.OutOfMemoryException:
            raise QueryTooLarge(
                f"the search needs more than {MEMORY_MB} MB; ask for less time or fewer logs"
            ) from None
        except duckdb.IOException as error:
            raise Unavailable(f"the logs cannot be read: {error}") from error
        finally:
            done.set()
            limiter.join()
            cursor.close()
        raise Unavailable("the logs were rewritten again and again meanwhile; ask again")

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


class _View:
    """The files that hold the entries at one moment, each entry in one of them."""

    def __init__(
        self,
        home: Home,
        category: Category,
        deployments: Collection[str] | None,
        from_ms: int,
        to_ms: int,
    ) -> None:
        wanted = layout.deployments(home, category)
        if deployments is not None:
            wanted = sorted({*deployments, UNROUTED})
        # In the order in which an entry goes: what moves on meanwhile is seen by ``is_current``.
        self._live = _live_files(home, category, wanted)
        places = {layout.closed_folder(home, category, each) for each in wanted}
        closed = {
            place: layout.closed_files(place) for place in places | {home.telemetry / category}
        }
        segments: list[Path] = []
        for deployment in wanted:
            found = layout.counting(
                layout.segments(layout.folder(home, category, deployment)),
                closed[layout.closed_folder(home, category, deployment)],
            )
            segments += [each.path for each in found if each.overlaps(from_ms, to_ms)]
        lines = [path for path, identity in self._live.items() if identity]
        lines += [path for files in closed.values() for path in files.values()]
        self._files = lines + segments
        parts = [select_json(category, lines)] if lines else []
        parts += [select_parquet(segments)] if segments else []
        condition = f"time BETWEEN {int(from_ms)} AND {int(to_ms)}"
        if deployments is not None:
            condition += f" AND deployment IN ({', '.join(map(quote, deployments)) or 'NULL'})"
        union = " UNION ALL ".join(parts or [select_nothing()])
        self.sql = f"SELECT * FROM ({union}) WHERE {condition}"

    def is_there(self) -> bool:
        return all(path.exists() for path in self._files)

    def is_current(self) -> bool:
        """Whether what was live still is: else its entries may have been missed."""
        return all(_identity(path) == identity for path, identity in self._live.items())


def _live_files(home: Home, category: Category, deployments: list[str]) -> dict[Path, Any]:
    if category is Category.ACCESS:
        paths = [layout.live_access(home)]
    else:
        paths = [layout.live_predict(home, each) for each in deployments]
    return {path: _identity(path) for path in paths}


def _identity(path: Path) -> tuple[int, int] | None:
    """None: there is no such file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
