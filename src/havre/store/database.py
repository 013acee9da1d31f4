"""One database, SQLite or PostgreSQL: the engine, and units of work."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic_core import from_json
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from havre.domain.errors import IncorrectState, StateUnavailable
from havre.store import postgresql
from havre.store.locks import hold

LOCK_WAIT_S = 5.0
CONNECTION_WAIT_S = 5.0
"""For one of the pool's, when all are in use."""
MIGRATIONS = Path(__file__).parent / "migrations"
READ_ONLY = "25006"
"""What PostgreSQL calls a write to a server that only follows another (SQLSTATE)."""

_NOT_READ = "the database cannot be asked"
_NOT_WRITTEN = "the database did not take the change, nothing was changed"
_NOT_KNOWN = (
    "the connection to the database broke while the change was committed: look whether it was made "
    "before you repeat it"
)


class Database:
    """Hands out units of work. Thread-safe.

    On SQLite writers queue on a lock of this process, so that none of them meets ``database is
    locked`` through a neighbour; for that and for another process (a backup, say) a writer waits
    ``LOCK_WAIT_S`` in all.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = _create_engine(url)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._writing = threading.Lock() if self.is_sqlite else None

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; nothing it does is committed. Raises StateUnavailable."""
        with _trouble_as_unavailable(_NOT_READ), self._sessions() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises StateUnavailable when the database is locked, full or gone; nothing was changed then,
        unless the connection broke in the very commit, which the message says.
        """
        with _trouble_as_unavailable(_NOT_WRITTEN):
            if self._writing is None:
                with self._sessions() as session:
                    yield session
                    self._commit(session)
                return
            with self._turn(self._writing) as left_s, self._sessions() as session:
                connection = session.connection()
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(left_s * 1000)}")
                # SQLite takes its write lock here and not at the first write, so that what was
                # read inside the block still holds when it writes.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(LOCK_WAIT_S * 1000)}")
                try:
                    yield session
                    session.commit()
                except BaseException:
                    session.rollback()
                    raise

    def check_schema(self) -> None:
        """Look whether this version can use the database, and change nothing.

        Raises IncorrectState when a newer version has changed its tables, StateUnavailable.
        """
        known = {script.revision for script in _scripts().walk_revisions()}
        with _trouble_as_unavailable(_NOT_READ), self._engine.connect() as connection:
            found = set(MigrationContext.configure(connection).get_current_heads())
        if newer := sorted(found - known):
            raise IncorrectState(
                f"the database was changed by a newer version of havre (its schema is "
                f"{', '.join(newer)}; this version knows up to {_scripts().get_current_head()}): "
                "install that version or a newer one, or restore a backup made before it"
            )

    def migrate(self) -> None:
        """Bring the schema to this version; of two servers that begin at once, one does it.

        Raises what `check_schema` raises.
        """
        self.check_schema()
        configuration = _configuration()
        # On a connection without limits: changing a large table may take its time.
        engine = (
            self._engine
            if self.is_sqlite
            else create_engine(
                self.url,
                poolclass=NullPool,
                connect_args={"connect_timeout": postgresql.CONNECT_LIMIT_S},
            )
        )
        with _trouble_as_unavailable(_NOT_WRITTEN), engine.connect() as connection:
            configuration.attributes["connection"] = connection
            with Session(connection) as session:
                hold(session, "migrations")
                command.upgrade(configuration, "head")
                session.commit()

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _turn(self, writing: threading.Lock) -> Iterator[float]:
        """A writer's turn on SQLite; yields how long it may still wait for other processes."""
        deadline = time.monotonic() + LOCK_WAIT_S
        if not writing.acquire(timeout=LOCK_WAIT_S):
            raise StateUnavailable(f"{_NOT_WRITTEN}: it is locked, and others wait for it, too")
        try:
            yield max(0.0, deadline - time.monotonic())
        finally:
            writing.release()

    def _commit(self, session: Session) -> None:
        session.flush()
        try:
            session.commit()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise StateUnavailable(f"{_NOT_KNOWN} ({error.orig})") from error
            raise


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    return configuration


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_configuration())


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def _create_engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        engine = create_engine(
            url,
            pool_pre_ping=True,
            pool_size=20,
            max_overflow=20,
            pool_timeout=CONNECTION_WAIT_S,
            json_deserializer=from_json,
        )

        @event.listens_for(engine, "do_connect")
        def _connect(_: Any, __: Any, arguments: list[Any], parameters: dict[str, Any]) -> Any:
            return postgresql.connect(*arguments, **parameters)

        return engine
    engine = create_engine(
        url,
        connect_args={"timeout": LOCK_WAIT_S},
        pool_size=20,
        max_overflow=40,
        json_deserializer=from_json,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        # Transactions are begun by us (BEGIN IMMEDIATE), never implicitly by the driver.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


@contextmanager
def _trouble_as_unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise StateUnavailable(f"{what}: it has too many callers; try again") from error
    except DBAPIError as error:
        if isinstance(error, OperationalError) or _is_trouble(error):
            raise StateUnavailable(f"{what}: {error.orig}") from error
        raise


def _is_trouble(error: DBAPIError) -> bool:
    return (
        error.connection_invalidated
        or "disk is full" in str(error.orig)
        or getattr(error.orig, "sqlstate", None) == READ_ONLY
    )
