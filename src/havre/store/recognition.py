"""Whose tables a database holds, determined before anything is written: ours, another program's,
nobody's.

Another program may number its migrations as we do, keep them in a table of the same name, and have
tables of the same names: projects, models, logs are common words.
"""

from collections.abc import Collection
from enum import Enum, auto

from sqlalchemy import Connection, inspect, text

from havre.store.schema import Base

VERSIONS = "alembic_version"
CORE = frozenset({"deployments", "retry_tokens", "work_request_errors", "work_request_logs"})
"""Tables that every version of havre has, and hardly any other program."""
OUR_TABLES = frozenset(Base.metadata.tables)
_MAX_NAMED = 5
_OF_EXTENSIONS = text(
    "SELECT relname FROM pg_class JOIN pg_depend ON objid = pg_class.oid "
    "WHERE classid = 'pg_class'::regclass AND deptype = 'e'"
)


class Owner(Enum):
    NONE = auto()
    HAVRE = auto()
    NEWER_HAVRE = auto()
    ANOTHER_PROGRAM = auto()


def owner_of(tables: Collection[str], heads: Collection[str], known: Collection[str]) -> Owner:
    """``tables`` lie in the database, ``heads`` are the migrations that it is at, ``known``
    are ours.

    A start of ours that was cut short has left the table of versions, and perhaps others of ours.
    """
    if not heads:
        begun = VERSIONS in tables
        others = set(tables) - {VERSIONS} - (OUR_TABLES if begun else set())
        return Owner.ANOTHER_PROGRAM if others else Owner.NONE
    if not set(tables) >= CORE:
        return Owner.ANOTHER_PROGRAM
    return Owner.HAVRE if set(heads) <= set(known) else Owner.NEWER_HAVRE


def tables_of(connection: Connection) -> set[str]:
    """Those where ours would be made, but for what extensions of the database brought along."""
    names = set(inspect(connection).get_table_names())
    if connection.dialect.name == "postgresql":
        names -= set(connection.execute(_OF_EXTENSIONS).scalars())
    return names


def describe_others(tables: Collection[str], heads: Collection[str]) -> str:
    """In words, what another program has put there."""
    names = sorted(set(tables) - {VERSIONS}) or sorted(tables)
    listed = ", ".join(names[:_MAX_NAMED])
    if len(names) > _MAX_NAMED:
        listed += f" and {len(names) - _MAX_NAMED} more"
    return f"{listed}; its migrations are at {', '.join(sorted(heads))}" if heads else listed
