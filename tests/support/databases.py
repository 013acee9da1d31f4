"""Databases of tests: their schema is made once, and nothing of them has to outlive the machine."""

import functools
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import Connection, Dialect, Engine, event

from havre.store import database as store
from havre.store.database import Database, sqlite_url


def migrated_sqlite(file: Path) -> Database:
    """A migrated, empty one in this file, which must not be there."""
    file.write_bytes(_migrated_bytes())
    return Database(sqlite_url(file))


@functools.cache
def _migrated_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "havre.sqlite3")
        database = Database(sqlite_url(file))
        database.migrate()
        database.close()
        return file.read_bytes()


class PostgresDatabases:
    """Databases on a server of the tests' own, which has to run when one is made."""

    def __init__(self, url: str) -> None:
        self._url = sqlalchemy.engine.make_url(url)
        self._template = ""

    @contextmanager
    def empty(self) -> Iterator[Database]:
        with self._made("template1") as database:
            yield database

    @contextmanager
    def migrated(self) -> Iterator[Database]:
        if not self._template:
            self._template = self._create("template1")
            database = self._open(self._template)
            database.migrate()
            database.close()
        with self._made(self._template) as database:
            yield database

    @contextmanager
    def _made(self, template: str) -> Iterator[Database]:
        name = self._create(template)
        database = self._open(name)
        try:
            yield database
        finally:
            database.close()
            self._run(f"DROP DATABASE {name} (FORCE)")

    def _create(self, template: str) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        # Through the log of changes, which is the default, takes twice as long.
        self._run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def _open(self, name: str) -> Database:
        return Database(self._url.set(database=name).render_as_string(hide_password=False))

    def _run(self, statement: str) -> None:
        address = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_synced() -> Iterator[None]:
    """Where a conftest imports it, no test waits for a disk: it tests what a crash of the program
    leaves behind, and that is in the kernel's hands already.
    """
    create_engine = store._create_engine
    dialects: dict[str, Dialect] = {}

    def keep_dialect(connection: Connection) -> None:
        dialects.setdefault(connection.dialect.name, connection.dialect)

    def create(url: str) -> Engine:
        engine = create_engine(url)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _do_not_sync)
        # SQLAlchemy keeps what it made of a statement by its dialect, and each engine has one of
        # its own: every test would pay again for all of its statements. One that was connected
        # once knows its server, and the tests of a run have one of each kind.
        if engine.dialect.name in dialects:
            engine.dialect = dialects[engine.dialect.name]
        else:
            event.listen(engine, "engine_connect", keep_dialect, once=True)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_create_engine", create)
        patch.setattr(os, "fsync", lambda file: None)
        patch.setattr(os, "fdatasync", lambda file: None)
        yield


def _do_not_sync(connection, _) -> None:
    connection.execute("PRAGMA synchronous=OFF")
