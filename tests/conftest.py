"""What tests of every ring share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.support.api_server import api  # noqa: F401
from tests.support.budget import (  # noqa: F401
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)
from tests.support.databases import PostgresDatabases, migrated_sqlite
from tests.support.postgresql_server import PostgresServer
from tests.support.temporary import pytest_configure  # noqa: F401

from havre.store.database import Database, sqlite_url

# Containers often set it. The tests start hundreds of short-lived Pythons, and most of the time of
# an `oci` command or an oracle-ads session is the compiling of what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Hypothesis would fail an example that takes over 200 ms, which any may on a busy machine. The same
# examples each time: whoever looks for new ones runs `pytest --hypothesis-profile=explore`.
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("explore", **UNHURRIED)
settings.register_profile("havre", derandomize=True, **UNHURRIED)
settings.load_profile("havre")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a real PostgreSQL server that lives as long as the tests."""
    server = PostgresServer()
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgresql_databases(postgresql: str) -> PostgresDatabases:
    return PostgresDatabases(postgresql)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def empty_database(
    request: pytest.FixtureRequest, database_kind: str, tmp_path: Path
) -> Iterator[Database]:
    """One of each kind, without a table."""
    if database_kind == "sqlite":
        database = Database(sqlite_url(tmp_path / "havre.sqlite3"))
        yield database
        database.close()
    else:
        with request.getfixturevalue("postgresql_databases").empty() as database:
            yield database


@pytest.fixture
def database(
    request: pytest.FixtureRequest, database_kind: str, tmp_path: Path
) -> Iterator[Database]:
    """A migrated, empty database of each kind."""
    if database_kind == "sqlite":
        database = migrated_sqlite(tmp_path / "havre.sqlite3")
        yield database
        database.close()
    else:
        with request.getfixturevalue("postgresql_databases").migrated() as database:
            yield database
