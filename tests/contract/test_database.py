"""The database on SQLite and on PostgreSQL: the same schema, the same promises."""

import sqlite3
import threading
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from havre.domain.errors import Unavailable
from havre.store.database import Database, sqlite_url
from havre.store.schema import Base, Project

NOW = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)


def project(name: str) -> Project:
    return Project(id=name, compartment_id="c", created_by="u", time_created=NOW, display_name=name)


def test_migrations_lead_to_the_schema_that_the_code_declares(database):
    with database.read() as session:
        context = MigrationContext.configure(session.connection())
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_twice_changes_nothing(database):
    with database.write() as session:
        session.add(project("kept"))
    database.migrate()
    with database.read() as session:
        assert session.get(Project, "kept") is not None


def test_a_unit_of_work_that_raises_leaves_nothing(database):
    def fail_halfway() -> None:
        with database.write() as session:
            session.add(project("lost"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    with database.read() as session:
        assert session.get(Project, "lost") is None


def test_moments_keep_their_zone_and_microseconds(database):
    with database.write() as session:
        session.add(project("timed"))
    with database.read() as session:
        assert session.scalars(select(Project.time_created)).one() == NOW


def test_concurrent_increments_are_all_counted(database):
    with database.write() as session:
        session.add(project("counted"))

    def increment() -> None:
        for _ in range(10):
            with database.write() as session:
                row = session.get(Project, "counted", with_for_update=True)
                assert row is not None
                row.version += 1

    threads = [threading.Thread(target=increment) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.scalars(select(Project.version)).one() == 81


def test_a_locked_sqlite_refuses_the_change_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("havre.store.database.LOCK_WAIT_S", 0.1)
    path = tmp_path / "db.sqlite3"
    database = Database(sqlite_url(path))
    database.migrate()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="nothing was changed"), database.write():
        pass
    other.execute("ROLLBACK")
    other.close()
    with database.write() as session:
        session.add(project("later"))
    database.close()
