"""A home's first start with a database, distinguished from one whose database was lost.

An empty database is what a new server begins with. To a home that has served before it means that
the database was emptied, removed, or is another one: using it would end every deployment.
"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from havre.auth.identity import OciIdentity, resolve_identity
from havre.domain.errors import IncorrectState
from havre.home import Home
from havre.store import identities
from havre.store.database import Database


def signs_of_use(home: Home) -> list[Path]:
    """What a home has only if a server has served there; empty for a new one."""
    folders = (home.artifacts / "sha256", home.unpacked, home.instances)
    in_use = [folder for folder in folders if any(_entries(folder))]
    return [home.id_file, *in_use] if home.id_file.exists() else in_use


def check(home: Home, database: Database) -> None:
    """Check that this home may start with this database; nothing is changed.

    Raises IncorrectState if it is empty and the home is not new, or if it is another program's,
    StateUnavailable.
    """
    used = signs_of_use(home)
    if used and database.is_empty():
        state = "empty" if database.is_there else "missing"
        raise IncorrectState(
            f"{database.description} is {state}, but {home.root} has "
            f"served before ({used[0].relative_to(home.root)}): restore the database from a "
            "backup, or name the one that was used (database_url). To lose all that it held and "
            "start with an empty one: `havre up --new-database`"
        )


def begin(home: Home, database: Database, *, now: datetime) -> OciIdentity:
    """Migrate the tables, and establish whose the database and the home are.

    Raises what Database.migrate and identities.claim_identity raise, and SystemFault for a
    damaged identity.
    """
    database.migrate()

    def choose(own: OciIdentity | None) -> OciIdentity:
        with database.write() as session:
            return identities.claim_identity(session, own, now=now)

    return resolve_identity(home, choose)


def begin_with_empty(home: Home, database: Database, *, now: datetime) -> None:
    """Have a home that has served before continue with an empty database.

    Raises IncorrectState if it is not empty, and what `begin` raises.
    """
    if not database.is_empty():
        raise IncorrectState(
            "--new-database starts with an empty database, and this one is not: leave the option "
            "out, or move the database away first"
        )
    begin(home, database, now=now)


def _entries(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
