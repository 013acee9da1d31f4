"""A database that is another program's is recognised and left as it was, on both kinds."""

from pathlib import Path

import pytest
import sqlalchemy
from tests.contract.test_database import NOW
from tests.contract.test_migrations import FIRST, migrate_to

from havre.domain.errors import IncorrectState, SettingInvalid
from havre.home import Home
from havre.operate import upgrade
from havre.settings import load_settings
from havre.store import beginning
from havre.store.database import Database
from havre.store.recognition import CORE, OUR_TABLES, VERSIONS, Owner, owner_of, tables_of

USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)"
PROJECTS = "CREATE TABLE projects (id INTEGER PRIMARY KEY, title TEXT)"
VERSION = f"CREATE TABLE {VERSIONS} (version_num VARCHAR(32) NOT NULL)"

OTHERS = {
    "tables": ([USERS, "CREATE TABLE orders (id INTEGER)"], "orders, users"),
    "tables of names that are ours too": ([PROJECTS], "projects"),
    "tables and migrations": (
        [USERS, VERSION, f"INSERT INTO {VERSIONS} VALUES ('ae1027a6acf')"],
        "users; its migrations are at ae1027a6acf",
    ),
    "migrations numbered as ours": (
        [PROJECTS, VERSION, f"INSERT INTO {VERSIONS} VALUES ('{FIRST}')"],
        "projects; its migrations are at 0001",
    ),
    "migrations alone": (
        [VERSION, f"INSERT INTO {VERSIONS} VALUES ('ae1027a6acf')"],
        f"{VERSIONS}; its migrations are at ae1027a6acf",
    ),
    "many tables": (
        [f"CREATE TABLE t{number} (id INTEGER)" for number in range(9)],
        "t0, t1, t2, t3, t4 and 4 more",
    ),
}


def contents(database: Database) -> object:
    """All of a file; else the tables."""
    if database.file is not None:
        beside = sorted(path.name for path in database.file.parent.glob(f"{database.file.name}*"))
        return beside, database.file.read_bytes()
    engine = sqlalchemy.create_engine(database.url)
    with engine.connect() as connection:
        found = {
            table: connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            for table in sorted(sqlalchemy.inspect(connection).get_table_names())
        }
    engine.dispose()
    return found


@pytest.mark.parametrize("other", OTHERS)
def test_another_programs_database_is_told_and_left_alone(
    empty_database: Database, tmp_path: Path, other: str
) -> None:
    statements, told = OTHERS[other]
    engine = sqlalchemy.create_engine(empty_database.url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()
    before = contents(empty_database)
    new, used = Home(tmp_path / "new"), Home(tmp_path / "used")
    for home in (new, used):
        home.make()
    used.id_file.touch()
    settings = load_settings(new.root, environ={"HAVRE_DATABASE_URL": empty_database.url})
    for use in (
        empty_database.check_schema,
        empty_database.is_empty,
        empty_database.migrate,
        lambda: upgrade.check(new, settings),
        lambda: upgrade.check(used, settings, new_database=True),
        lambda: beginning.check(used, empty_database),
        lambda: beginning.begin(new, empty_database, now=NOW),
    ):
        with pytest.raises(IncorrectState, match="another program's") as refused:
            use()
        assert f"({told})" in refused.value.message
        assert "database of its own" in refused.value.message
        assert contents(empty_database) == before


def test_every_version_of_ours_is_recognised(empty_database: Database) -> None:
    empty_database.migrate()
    engine = sqlalchemy.create_engine(empty_database.url)
    with engine.begin() as connection:
        connection.exec_driver_sql(USERS)  # who put it there knew what is there
    empty_database.check_schema()
    with engine.begin() as connection:
        assert tables_of(connection) >= CORE
        assert tables_of(connection) == {*OUR_TABLES, VERSIONS, "users"}
    engine.dispose()


def test_the_first_version_has_the_tables_by_which_ours_is_known(
    empty_database: Database,
) -> None:
    engine = sqlalchemy.create_engine(empty_database.url)
    with engine.begin() as connection:
        migrate_to(FIRST, connection)
        assert tables_of(connection) >= CORE
    engine.dispose()
    empty_database.check_schema()


def test_what_a_database_brings_along_is_nobodys(postgresql: str) -> None:
    """As PostGIS brings spatial_ref_sys."""
    engine = sqlalchemy.create_engine(postgresql)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE brought (id INTEGER)")
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER)")
        connection.exec_driver_sql(
            "INSERT INTO pg_depend SELECT 'pg_class'::regclass, 'brought'::regclass, 0, "
            "'pg_extension'::regclass, oid, 0, 'e' FROM pg_extension LIMIT 1"
        )
        assert tables_of(connection) == {"users"}
        connection.rollback()
    engine.dispose()


def test_a_start_that_was_cut_short_left_nobodys_tables() -> None:
    assert owner_of({VERSIONS, "projects", "models"}, [], [FIRST]) is Owner.NONE
    assert owner_of({"projects", "models"}, [], [FIRST]) is Owner.ANOTHER_PROGRAM
    assert owner_of({*OUR_TABLES, VERSIONS}, ["9999"], [FIRST]) is Owner.NEWER_HAVRE


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:secret@host/name",
        "user:secret@host",
        "postgresql+asyncpg://user:secret@host/name",
        "sqlite://",
    ],
)
def test_a_database_of_another_kind_is_told_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingInvalid, match=r"postgresql\+psycopg://") as refused:
        load_settings(tmp_path, environ={"HAVRE_DATABASE_URL": url})
    assert "secret" not in refused.value.message


def test_an_address_that_cannot_be_read_is_told_without_its_password() -> None:
    with pytest.raises(SettingInvalid, match="database_url") as refused:
        Database("postgresql+psycopg://user:secret@host:port/name")
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_other_programs_ways_to_write_an_address_work(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://user:secret@db.internal/havre"
    stated = load_settings(tmp_path, environ={"HAVRE_DATABASE_URL": url}).database_url
    database = Database(stated)
    assert database.url == "postgresql+psycopg://user:secret@db.internal/havre"
    assert database.description == "the database havre at db.internal"
    database.close()
