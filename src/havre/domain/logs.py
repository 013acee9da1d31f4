"""Which log an entry belongs to: each deployment has a log for its access entries and one for its
predict entries (both may be the same). Where it names none, the tenancy's built-in logs get them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from havre.domain.errors import RelatedNotFound
from havre.domain.ocid import Kind, derived_ocid

BUILT_IN_GROUP = "Default_Group"


class Category(StrEnum):
    """Entries are requests to the endpoint, or what ``score.py`` printed and logged."""

    ACCESS = "access"
    PREDICT = "predict"


@dataclass(frozen=True, slots=True)
class LogAddress:
    """A log as it can be named in a search. ``compartment`` is its group's."""

    compartment: str
    group: str
    group_name: str
    log: str = ""
    log_name: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which logs a search reads: a compartment's OCID, and the OCID or name of a log group and of a
    log in it; None: all there are.
    """

    compartment: str
    group: str | None = None
    log: str | None = None


@dataclass(frozen=True, slots=True)
class LogStream:
    """One category of a deployment's entries, and the log that they belong to."""

    deployment: str
    category: Category
    address: LogAddress
    compartment: str
    """The deployment's own."""

    def is_in(self, scope: Scope) -> bool:
        """Clients name a log by its deployment's compartment, which need not be the log's."""
        return scope.compartment in (self.compartment, self.address.compartment) and _names(
            scope, self.address
        )


def built_in_group(tenancy: str) -> str:
    """OCID of the log group that exists from the start."""
    return derived_ocid(Kind.LOG_GROUP, tenancy)


def built_in_log(tenancy: str, category: Category) -> str:
    return derived_ocid(Kind.LOG, f"{tenancy}/{category}")


def all_categories(
    details: Mapping[str, Any] | None, tenancy: str
) -> dict[Category, dict[str, str]]:
    """``categoryLogDetails`` with a log for each category: the built-in one where none is named."""
    group = built_in_group(tenancy)
    return {
        category: (details or {}).get(category)
        or {"logId": built_in_log(tenancy, category), "logGroupId": group}
        for category in Category
    }


def streams_of(
    deployment: str,
    compartment: str,
    details: Mapping[str, Any] | None,
    *,
    known: Mapping[str, LogAddress],
    tenancy: str,
) -> list[LogStream]:
    """``known`` are the existing logs, by OCID. A log that a deployment names and that is not among
    them keeps the address that the deployment gives it.
    """
    return [
        LogStream(
            deployment,
            category,
            known.get(named["logId"])
            or LogAddress(compartment, named["logGroupId"], "", named["logId"]),
            compartment,
        )
        for category, named in all_categories(details, tenancy).items()
    ]


def require_known(
    scope: Scope, addresses: Iterable[LogAddress], streams: Iterable[LogStream]
) -> None:
    """Raises RelatedNotFound for an unknown log group or log.

    An unknown compartment is just empty.
    """
    if scope.group is None:
        return
    if any(_names(scope, address) for address in addresses) or any(
        stream.is_in(scope) for stream in streams
    ):
        return
    what = f"log {scope.log} of log group {scope.group}" if scope.log else f"group {scope.group}"
    raise RelatedNotFound(
        f"searchQuery: there is no {what}; list log groups with GET /20200531/logGroups, their "
        "logs with GET /20200531/logGroups/<OCID>/logs"
    )


def _names(scope: Scope, address: LogAddress) -> bool:
    if scope.group is not None and scope.group not in (address.group, address.group_name):
        return False
    return scope.log is None or scope.log in (address.log, address.log_name)
