"""Deployments of one name: which of them is meant, and how to distinguish them.

The API lets several have one name. Rows are deployments as the API returns them. Pure.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from havre.domain.errors import Conflict, NotFound

Row = Mapping[str, Any]

GOING = frozenset({"DELETING", "DELETED"})


def meant_by(name: str, rows: Sequence[Row], now: datetime) -> Row:
    """The deployment that has this name: one that is on its way out only if there is no other.

    Raises NotFound, Conflict with a line for each.
    """
    matches = [row for row in rows if row["lifecycleState"] not in GOING] or list(rows)
    if not matches:
        raise NotFound(f"there is no deployment called {name!r}; `havre list` shows what there is")
    if len(matches) > 1:
        listed = "".join(f"\n  {format_row(row, now)}" for row in matches)
        raise Conflict(
            f"{len(matches)} deployments are called {name!r}; name one by its OCID:{listed}"
        )
    return matches[0]


def format_row(row: Row, now: datetime) -> str:
    """State, age and OCID, in one line."""
    return f"{row['lifecycleState']:<15} {age(row['timeCreated'], now):>4} old  {row['id']}"


def age(created: str, now: datetime) -> str:
    """Of what was created then (RFC 3339), in the largest unit that it fills: ``45s``, ``3d``."""
    seconds = max(0, int((now - datetime.fromisoformat(created)).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
