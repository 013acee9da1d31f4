"""Whose database it is: the same for every home that uses it, on both databases."""

import pytest
from tests.contract.test_database import NOW, project

from havre.auth.identity import OciIdentity, home_id, load_or_create, resolve_identity
from havre.domain.errors import SystemFault
from havre.home import Home
from havre.store import identities
from havre.store.database import Database
from havre.store.schema import Project


def start(home: Home, database: Database) -> OciIdentity:
    """What a control plane does first."""
    home.root.mkdir(exist_ok=True)

    def choose(own: OciIdentity | None) -> OciIdentity:
        with database.write() as session:
            return identities.claim_identity(session, own, now=NOW)

    return resolve_identity(home, choose)


@pytest.fixture
def homes(tmp_path) -> tuple[Home, Home]:
    return Home(tmp_path / "a"), Home(tmp_path / "b")


def test_a_second_home_joins_the_first(homes, database):
    first, second = homes
    identity = start(first, database)
    assert start(second, database) == identity
    assert load_or_create(second) == load_or_create(first) == identity
    assert start(first, database) == identity
    with database.read() as session:
        assert session.get_one(Project, identity.project_ocid).display_name == "default"
    assert home_id(first) == home_id(first) != home_id(second)


def test_a_home_that_was_there_before_gives_the_database_its_identity(homes, database):
    first, second = homes
    first.root.mkdir()
    identity = load_or_create(first)
    assert start(first, database) == identity
    assert start(second, database) == identity


def test_a_home_of_somebody_else_is_refused_and_stays_as_it_is(homes, database):
    first, second = homes
    start(first, database)
    second.root.mkdir()
    own = load_or_create(second)
    with pytest.raises(SystemFault, match="start with an empty one"):
        start(second, database)
    assert load_or_create(second) == own


def test_a_new_home_does_not_claim_a_database_without_an_identity(homes, database):
    with database.write() as session:
        session.add(project("of another home"))
    with pytest.raises(SystemFault, match="start that one first"):
        start(homes[1], database)
    first = homes[0]
    first.root.mkdir()
    own = load_or_create(first)
    assert start(first, database) == own
