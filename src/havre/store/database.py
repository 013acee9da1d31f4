"""One database, SQLite or PostgreSQL: the engine, and units of work."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from havre.domain.errors import IncorrectState, Unavailable

LOCK_WAIT_S = 5.0
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Hands out units of work. Thread-safe.

    On SQLite writers queue on a lock of this process, so that none of them meets ``database is
    locked`` through a neighbour; another process (a backup, say) is waited for ``LOCK_WAIT_S``.
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
        """A session for reading; nothing it does is committed. Raises Unavailable."""
        with _trouble_as_unavailable(), self._sessions() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises Unavailable when the database is locked, full or gone; nothing was changed then.
        """
        with _trouble_as_unavailable():
            if self._writing is None:
                with self._sessions.begin() as session:
                    yield session
                return
            with self._writing, self._sessions() as session:
                # SQLite takes its write lock here and not at the first write, so that what was
                # read inside the block still holds when it writes.
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    yield session
                    session.commit()
                except BaseException:
                    session.rollback()
                    raise

    def check_schema(self) -> None:
        """Look whether this version can use the database, and change nothing.

        Raises IncorrectState when a newer version has changed its tables, Unavailable.
        """
        known = {script.revision for script in _scripts().walk_revisions()}
        with _trouble_as_unavailable(), self._engine.connect() as connection:
            found = set(MigrationContext.configure(connection).get_current_heads())
        if newer := sorted(found - known):
            raise IncorrectState(
                f"the database was changed by a newer version of havre (its schema is "
                f"{', '.join(newer)}; this version knows up to {_scripts().get_current_head()}): "
                "install that version or a newer one, or restore a backup made before it"
            )

    def migrate(self) -> None:
        """Bring the schema to this version. Raises what `check_schema` raises."""
        self.check_schema()
        configuration = _configuration()
        with _trouble_as_unavailable(), self._engine.connect() as connection:
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
            connection.commit()

    def close(self) -> None:
        self._engine.dispose()


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
        return create_engine(url, pool_pre_ping=True, pool_size=20, max_overflow=20)
    engine = create_engine(
        url, connect_args={"timeout": LOCK_WAIT_S}, pool_size=20, max_overflow=40
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
def _trouble_as_unavailable() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise Unavailable(
            f"the database did not take the change, nothing was changed: {error.orig}"
        ) from error
    except DBAPIError as error:
        if error.connection_invalidated or _is_full(error):
            raise Unavailable(
                f"the database is not to be reached, nothing was changed: {error.orig}"
            ) from error
        raise


def _is_full(error: DBAPIError) -> bool:
    return "disk is full" in str(error.orig)
