"""SQL over files that another process writes, renames and removes meanwhile."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from havre.domain.errors import Unavailable
from havre.telemetry.files.duck import MEMORY_MB, connect
from havre.telemetry.files.schema import quote
from havre.telemetry.files.turns import Turns

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TIME_LIMIT_S = 10.0
THREADS = 2
TRIES = 10
ENDINGS = (".parquet", ".jsonl")


@dataclass(frozen=True, slots=True)
class Rows:
    """A result. ``is_cut``: there were more rows than the limit."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    is_cut: bool = False


class QueryTooLong(Unavailable):
    """It was interrupted at its time limit, with no other query running."""


class QueryTooLarge(Unavailable):
    """It needed more memory than there is, with all of it to itself."""


class View(Protocol):
    """The files at one moment, and the SELECT that reads them."""

    sql: str

    @property
    def files(self) -> Sequence[Path]: ...

    def is_there(self) -> bool:
        """Whether all the files are still there."""

    def is_current(self) -> bool:
        """Whether no entry has moved to a file that the SELECT does not read."""


class Queries:
    """Thread-safe; a few run at once. The library is loaded with the first."""

    def __init__(self, view: str, turns: Turns | None = None) -> None:
        self._view = view
        self._turns = turns or Turns()
        self._connection: DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    def run(
        self,
        make_view: Callable[[], View],
        sql: str,
        parameters: Sequence[Any] = (),
        *,
        limit: int,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> Rows:
        """The rows of ``sql``, one SELECT over the view, at most ``limit`` of them; it blocks.

        Concurrent queries share memory and CPU: one that had too little of them runs once more,
        alone. Raises QueryTooLong after ``time_limit_s``, QueryTooLarge, TooBusy
        when its turn does not come, and Unavailable when the files cannot be read.
        """

        def run_once() -> Rows:
            return self._run_once(
                make_view, sql, parameters, limit=limit, time_limit_s=time_limit_s
            )

        with self._turns.take() as turn:
            try:
                return run_once()
            except (QueryTooLong, QueryTooLarge):
                if turn.was_alone:
                    raise
        with self._turns.take_alone():
            return run_once()

    def _run_once(
        self,
        make_view: Callable[[], View],
        sql: str,
        parameters: Sequence[Any],
        *,
        limit: int,
        time_limit_s: float,
    ) -> Rows:
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
                    result = cursor.execute(sql, list(parameters))
                    rows = result.fetchmany(limit + 1)
                except duckdb.IOException:
                    # A live file may have been replaced by another of its name.
                    if view.is_there() and view.is_current():
                        raise
                    continue  # a file is gone: its entries are in another by now
                if view.is_current():
                    columns = tuple(column[0] for column in result.description or ())
                    return Rows(columns, rows[:limit], is_cut=len(rows) > limit)
        except duckdb.InterruptException:
            raise QueryTooLong(
                f"the query took longer than {time_limit_s:g} s; ask for less"
            ) from None
        except duckdb.OutOfMemoryException:
            raise QueryTooLarge(f"the query needs more than {MEMORY_MB} MB; ask for less") from None
        except (duckdb.FatalException, duckdb.InternalException):
            with self._lock:
                self._connection = None  # it is unusable: the next query opens another
            raise
        except duckdb.Error as error:
            if not _is_about_a_file(error):
                raise
            raise _damage(cursor, error, view.files) from error
        finally:
            done.set()
            limiter.join()
            cursor.close()
        raise Unavailable("the files kept changing during the query; try again")

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
    """Repeatedly: between two statements there is nothing to interrupt."""
    wait_s = after_s
    while not done.wait(wait_s):
        cursor.interrupt()
        wait_s = 0.1


def _is_about_a_file(error: Exception) -> bool:
    """Whether a file is the cause, and not the query."""
    import duckdb

    if isinstance(error, duckdb.IOException) or type(error) is duckdb.Error:
        return True  # DuckDB raises the base class for a damaged end of a file
    return any(ending in str(error) for ending in ENDINGS)


def _damage(cursor: "DuckDBPyConnection", error: Exception, files: Iterable[Path]) -> Unavailable:
    reason = str(error).partition("\n")[0]
    if not any(ending in reason for ending in ENDINGS) and (name := _damaged(cursor, files)):
        reason = f"{name}: {reason}"
    return Unavailable(
        f"a telemetry file cannot be read ({reason}): move it out of the telemetry folder, or "
        "put a backup in its place"
    )


def _damaged(cursor: "DuckDBPyConnection", files: Iterable[Path]) -> str:
    """The segment that cannot be read to its end; empty if there is none, or no time left."""
    import duckdb

    for path in files:
        if path.suffix == ENDINGS[0]:
            try:
                cursor.execute(f"SELECT max(hash(t)) FROM read_parquet({quote(str(path))}) t")
            except duckdb.InterruptException:
                break
            except duckdb.Error:
                return str(path)
    return ""


def file_id(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file that has this name now; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
