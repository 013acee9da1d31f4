"""A home's first start with a database, and one whose database was lost, on both databases."""

from pathlib import Path

import pytest
from sqlalchemy import delete
from tests.contract.test_database import NOW, project

from havre.auth.identity import home_id, load_or_create
from havre.domain.errors import IncorrectState
from havre.home import Home
from havre.store import beginning
from havre.store.database import Database, sqlite_url
from havre.store.schema import IdentityRow, Project


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


def test_a_new_home_begins_with_an_empty_database(home: Home, empty_database: Database) -> None:
    load_or_create(home)  # `havre oci-config` may have been first
    beginning.check(home, empty_database)
    identity = beginning.begin(home, empty_database, now=NOW)
    assert identity == load_or_create(home)
    home_id(home)
    beginning.check(home, empty_database)
    assert beginning.begin(home, empty_database, now=NOW) == identity


def test_a_standby_begins_with_the_others_database(home: Home, empty_database: Database) -> None:
    beginning.begin(home, empty_database, now=NOW)
    home_id(home)
    second = Home(home.root.with_name("second"))
    second.make()
    beginning.check(second, empty_database)
    assert beginning.begin(second, empty_database, now=NOW) == load_or_create(home)
    home_id(second)
    beginning.check(second, empty_database)


@pytest.mark.parametrize(
    "sign", ["home_id", "artifacts/sha256/0a", "unpacked/0a", "instances/8b1f0c7a55d2"]
)
def test_a_home_that_has_served_does_not_begin_with_an_empty_database(
    home: Home, empty_database: Database, sign: str
) -> None:
    path = home.root / sign
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(IncorrectState, match="--new-database") as refused:
        beginning.check(home, empty_database)
    assert "restore the database" in refused.value.message
    assert str(home.root) in refused.value.message
    beginning.begin_with_empty(home, empty_database, now=NOW)
    beginning.check(home, empty_database)
    with pytest.raises(IncorrectState, match="this one is not"):
        beginning.begin_with_empty(home, empty_database, now=NOW)


def test_tables_that_were_emptied_are_no_first_start(home: Home, empty_database: Database) -> None:
    beginning.begin(home, empty_database, now=NOW)
    home_id(home)
    with empty_database.write() as session:
        session.execute(delete(IdentityRow))
    beginning.check(home, empty_database)
    with empty_database.write() as session:
        session.execute(delete(Project))
    with pytest.raises(IncorrectState, match="is empty"):
        beginning.check(home, empty_database)


def test_a_file_that_is_gone_is_not_made_by_looking(home: Home) -> None:
    database = Database(sqlite_url(home.database))
    beginning.check(home, database)
    home_id(home)
    with pytest.raises(IncorrectState, match="is missing"):
        beginning.check(home, database)
    assert not home.database.exists()


def test_a_start_that_was_cut_short_is_a_first_one(home: Home, empty_database: Database) -> None:
    empty_database.migrate()
    beginning.check(home, empty_database)
    with empty_database.write() as session:
        session.add(project("a"))
    assert not empty_database.is_empty()
