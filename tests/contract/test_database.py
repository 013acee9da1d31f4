"""The database on SQLite and on PostgreSQL: the same schema, the same promises."""

import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from havre.domain import workload
from havre.domain.errors import Unavailable
from havre.domain.workload import PythonWorkload
from havre.store.database import MIGRATIONS, Database, sqlite_url
from havre.store.schema import Base, Deployment, LeaseRow, Project, Revision

NOW = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)


def project(name: str) -> Project:
    return Project(id=name, compartment_id="c", created_by="u", time_created=NOW, display_name=name)


def deployment(name: str) -> Deployment:
    return Deployment(
        id=name,
        compartment_id="c",
        created_by="u",
        time_created=NOW,
        project_id="p",
        display_name=name,
        configuration={},
        model_id="m",
        spec={},
    )


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


def test_concurrent_increments_are_all_counted(database, monkeypatch):
    # On a slow disk some of them wait for long.
    monkeypatch.setattr("havre.store.database.LOCK_WAIT_S", 60.0)
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


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """An SQLite whose one write lock another process has, and that other."""
    monkeypatch.setattr("havre.store.database.LOCK_WAIT_S", 0.3)
    path = tmp_path / "db.sqlite3"
    database = Database(sqlite_url(path))
    database.migrate()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield database, other
    other.close()
    database.close()


def test_a_locked_sqlite_refuses_the_change_and_says_so(locked):
    database, other = locked
    with pytest.raises(Unavailable, match="nothing was changed"), database.write():
        pass
    other.execute("ROLLBACK")
    with database.write() as session:
        session.add(project("later"))


def test_writers_that_queue_behind_a_locked_sqlite_do_not_wait_for_each_other(locked):
    database, _ = locked
    waited = []

    def write() -> None:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="locked"), database.write():
            pass
        waited.append(time.monotonic() - began)

    threads = [threading.Thread(target=write) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waited) == 100
    assert max(waited) < 15.0  # not 100 x 0.3 s


def back_to_the_first_schema(database):
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(database.url)
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "0001")
    engine.dispose()


def test_two_servers_that_start_at_once_migrate_once(database):
    second = Database(database.url)
    beside = [threading.Thread(target=each.migrate) for each in (database, second)]
    back_to_the_first_schema(database)
    if database.is_sqlite:
        beside = beside[:1]  # nobody else: the home is locked by its supervisor
    for thread in beside:
        thread.start()
    for thread in beside:
        thread.join()
    with database.read() as session:
        assert session.scalars(select(LeaseRow.token)).one() == 0
    second.close()


def test_what_was_in_the_database_before_there_was_a_lease_stays(database):
    """An upgrade of a home whose models run: they are not forgotten."""
    with database.write() as session:
        session.add(project("kept"))
    back_to_the_first_schema(database)
    database.migrate()
    with database.read() as session:
        assert session.get(Project, "kept") is not None
        assert session.get_one(LeaseRow, 1).holder == ""


def test_what_revisions_were_made_into_is_carried_over(database):
    """An upgrade of a home whose models run: what they are started from is not made again."""
    workloads = [PythonWorkload(Path(f"/p{each}"), "3.11", Path(f"/a{each}")) for each in range(3)]

    def add(session: Session, number: int) -> None:
        session.add(
            Revision(
                deployment_id="d",
                revision=f"r{number}",
                spec={"copies": number},
                environment=f"e{number}",
                workload=workload.to_json(workloads[number]),
                time_created=NOW,
            )
        )

    with database.write() as session:
        session.add(deployment("d"))
        session.flush()
        for number in range(2):
            add(session, number)
    back_to_the_first_schema(database)
    database.migrate()
    with database.write() as session:
        add(session, 2)  # as numbers go on after those that were carried over
    with database.read() as session:
        rows = session.scalars(select(Revision).order_by(Revision.id)).all()
    for number, row in enumerate(rows):
        assert (row.deployment_id, row.revision) == ("d", f"r{number}")
        assert (row.spec, row.environment) == ({"copies": number}, f"e{number}")
        assert row.time_created == NOW
        assert workload.from_json(row.workload) == workloads[number]
    assert len(rows) == 3


def test_a_migration_that_is_cut_short_has_done_nothing(database, monkeypatch):
    """A full disk, or a kill, between a table that is dropped and the one that takes its place."""
    with database.write() as session:
        session.add(deployment("d"))
        session.flush()
        session.add(
            Revision(
                deployment_id="d",
                revision="r",
                spec={},
                environment="e",
                workload=PythonWorkload(Path("/p"), "3.11", Path("/a")).to_json(),
                time_created=NOW,
            )
        )
    back_to_the_first_schema(database)

    class CutShort(Exception):
        pass

    def cut_short(*_: object, **__: object) -> None:
        raise CutShort

    with monkeypatch.context() as patched:
        patched.setattr("alembic.op.bulk_insert", cut_short)
        with pytest.raises(CutShort):
            database.migrate()
    database.migrate()
    with database.read() as session:
        assert [row.revision for row in session.scalars(select(Revision))] == ["r"]


def test_a_transaction_that_sleeps_loses_its_locks(database, monkeypatch):
    """So that a control plane that was paused inside one keeps no other from taking over."""
    if database.is_sqlite:
        pytest.skip("nobody else waits for SQLite")
    monkeypatch.setattr("havre.store.postgresql.IDLE_LIMIT_S", 0.5)
    sleepy = Database(database.url)

    def sleep() -> None:
        with sleepy.write() as session:
            session.get_one(LeaseRow, 1, with_for_update=True)
            with database.write() as other:
                other.get_one(LeaseRow, 1, with_for_update=True).holder = "other"
            session.get_one(LeaseRow, 1).holder = "sleepy"

    with pytest.raises(Unavailable, match="nothing was changed"):
        sleep()
    with database.read() as session:
        assert session.get_one(LeaseRow, 1).holder == "other"
    sleepy.close()
