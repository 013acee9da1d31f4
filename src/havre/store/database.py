"""One database, SQLite or PostgreSQL: the engine, and units of work."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic_core import from_json
from sqlalchemy import Connection, Engine, create_engine, event, exists, inspect, select
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from havre import full_disk
from havre.domain.errors import IncorrectState, SettingInvalid, StateUnavailable
from havre.store import postgresql, recognition
from havre.store.locks import hold
from havre.store.recognition import Owner
from havre.store.schema import IdentityRow, Project

LOCK_WAIT_S = 5.0
CONNECTION_WAIT_S = 5.0
"""For one of the pool's, when all are in use."""
MIGRATIONS = Path(__file__).parent / "migrations"
READ_ONLY = "25006"
"""What PostgreSQL calls a write to a server that only follows another (SQLSTATE)."""

_IS_FULL = "disk is full"
"""In the messages of SQLite and PostgreSQL."""
_NOT_READ = "the database cannot be asked"
_NOT_WRITTEN = "the database did not take the change, nothing was changed"
_NOT_KNOWN = (
    "the connection to the database broke while the change was committed: check whether it was "
    "made before you repeat it"
)


class Database:
    """Hands out units of work. Thread-safe.

    On SQLite writers queue on a lock of this process, so that none of them meets ``database is
    locked`` through a neighbour; for that and for another process (a backup, say) a writer waits
    ``LOCK_WAIT_S`` in all.
    """

    def __init__(self, url: str) -> None:
        """Raises SettingInvalid for a URL of no database that havre can use."""
        self.url = postgresql.with_driver(url)
        try:
            self._engine = _create_engine(self.url)
        except (ArgumentError, ImportError, ValueError) as error:
            # SQLAlchemy's message may have the password in it.
            raise SettingInvalid(
                "database_url cannot be used: write sqlite:////folder/file or "
                "postgresql+psycopg://user:password@host/name, with %40 for an @ in the password"
            ) from error
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._writing = threading.Lock() if self.is_sqlite else None

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @property
    def file(self) -> Path | None:
        """Where SQLite keeps it."""
        return Path(self.url.partition("///")[2]) if self.is_sqlite else None

    @property
    def description(self) -> str:
        """Which it is, in words, without its password."""
        if self.file is not None:
            return f"the database {self.file}"
        url = self._engine.url
        host = url.host or url.query.get("host") or "localhost"
        return f"the database {url.database or url.username} at {host}"

    @property
    def is_there(self) -> bool:
        """Whether there is one to connect to; SQLite would make it."""
        return self.file is None or self.file.exists()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; nothing it does is committed. Raises StateUnavailable."""
        with self._trouble_as_unavailable(_NOT_READ), self._sessions() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises StateUnavailable when the database is locked, full or gone; nothing was changed then,
        unless the connection broke in the very commit, which the message states.
        """
        with self._trouble_as_unavailable(_NOT_WRITTEN):
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

    def is_empty(self) -> bool:
        """Whether it has no tables of ours, or nothing was ever put into them, and change nothing.

        Raises what `check_schema` raises.
        """
        if not self.is_there:
            return True
        with self._read_only() as connection:
            if self._owner(connection) is Owner.NONE:
                return True
            # Both have a row from the first start on.
            inspector = inspect(connection)
            return not any(
                connection.execute(select(exists().select_from(table))).scalar_one()
                for table in (Project, IdentityRow)
                if inspector.has_table(table.__tablename__)
            )

    def check_schema(self) -> None:
        """Check that this version can use the database, and change nothing.

        Raises IncorrectState when it is another program's, or a newer version has changed its
        tables, StateUnavailable.
        """
        if self.is_there:
            with self._read_only() as connection:
                self._owner(connection)

    def migrate(self) -> None:
        """Bring the schema to this version; of two servers that start at once, one does it.

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
        with self._trouble_as_unavailable(_NOT_WRITTEN), engine.connect() as connection:
            configuration.attributes["connection"] = connection
            with Session(connection) as session:
                hold(session, "migrations")
                if self.is_sqlite and not self._is_current():
                    # The driver begins nothing by itself, and one that is cut short must undo all.
                    session.connection().exec_driver_sql("BEGIN IMMEDIATE")
                command.upgrade(configuration, "head")
                session.commit()

    def _is_current(self) -> bool:
        with self._engine.connect() as connection:
            heads = MigrationContext.configure(connection).get_current_heads()
        return set(heads) == set(_scripts().get_heads())

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _read_only(self) -> Iterator[Connection]:
        """For a database that may not be ours: SQLite's file is not even opened for writing, as the
        usual connection would change its journal.
        """
        engine = self._engine
        if self.file is not None:
            address = f"file:{quote(str(self.file.absolute()))}?mode=ro"
            engine = create_engine(
                "sqlite://",
                creator=lambda: sqlite3.connect(address, uri=True, timeout=LOCK_WAIT_S),
                poolclass=NullPool,
            )
        with self._trouble_as_unavailable(_NOT_READ), engine.connect() as connection:
            yield connection

    def _owner(self, connection: Connection) -> Owner:
        """Raises IncorrectState for what is not ours to use."""
        heads = MigrationContext.configure(connection).get_current_heads()
        tables = recognition.tables_of(connection)
        known = {script.revision for script in _scripts().walk_revisions()}
        owner = recognition.owner_of(tables, heads, known)
        if owner is Owner.ANOTHER_PROGRAM:
            raise IncorrectState(
                f"{self.description} holds another program's tables "
                f"({recognition.describe_others(tables, heads)}), and havre has written nothing "
                "there: give havre a database of its own (database_url)"
            )
        if owner is Owner.NEWER_HAVRE:
            raise IncorrectState(
                f"the database was changed by a newer version of havre (its schema is "
                f"{', '.join(sorted(set(heads) - known))}; this version knows up to "
                f"{_scripts().get_current_head()}): install that version or a newer one, or "
                "restore a backup made before it"
            )
        return owner

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

    @contextmanager
    def _trouble_as_unavailable(self, what: str) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StateUnavailable(f"{what}: it has too many callers; try again") from error
        except DBAPIError as error:
            if _is_damage(error):
                raise StateUnavailable(
                    f"the database {self.file} is damaged ({error.orig}): stop the server, move "
                    f"the file away, and {self.file}-wal and -shm with it, and put a backup there"
                ) from error
            if isinstance(error, OperationalError) or _is_trouble(error):
                raise StateUnavailable(f"{what}: {self._cause(error)}") from error
            raise

    def _cause(self, error: DBAPIError) -> str:
        if self.file is not None and _IS_FULL in str(error.orig):
            return full_disk.message(self.file)
        return str(error.orig)

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


def _is_damage(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # without its details
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_trouble(error: DBAPIError) -> bool:
    return (
        error.connection_invalidated
        or _IS_FULL in str(error.orig)
        or getattr(error.orig, "sqlstate", None) == READ_ONLY
    )
