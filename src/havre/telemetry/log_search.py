"""Answers a search over logs: entries in the form of OCI's records, or what was made of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from havre.domain.log_query import LogQuery
from havre.domain.logs import Category, Place
from havre.telemetry.log_expressions import FIELDS, SPEC_VERSION, TYPE_PREFIX, Kind
from havre.telemetry.log_sql import RECORD_COLUMNS, Column, plan
from havre.telemetry.store import LogStore

_OF_WHOLE = (
    Column("datetime", Kind.TIME),
    *(
        Column(f"logContent.{path}", field.kind)
        for path, field in FIELDS.items()
        if field.kind in (Kind.TEXT, Kind.NUMBER)
    ),
)
_ACCESS_DATA = {
    "status": "status",
    "modelLatency": "model_ms",
    "copyLatency": "copy_ms",
    "totalLatency": "total_ms",
    "method": "method",
    "path": "path",
    "protocol": "protocol",
    "flags": "flags",
    "bytesIn": "bytes_in",
    "bytesOut": "bytes_out",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """``rows`` are what the API calls ``data``; ``has_more``: there are rows after these."""

    rows: list[dict[str, Any]]
    fields: tuple[Column, ...]
    has_more: bool


class LogSearch:
    """Looks through the entries of a home."""

    def __init__(self, store: LogStore, *, tenancy: str) -> None:
        self._store = store
        self._tenancy = tenancy

    def search(
        self,
        query: LogQuery,
        places: Sequence[Place],
        *,
        from_ms: int,
        to_ms: int,
        limit: int,
        offset: int,
    ) -> Answer:
        """Entries of these places, from ``from_ms`` on and before ``to_ms``.

        Raises InvalidParameter, and what LogStore.query raises.
        """
        wanted = _of_interest(query, places)
        planned = plan(query, wanted, from_ms=from_ms, to_ms=to_ms, limit=limit, offset=offset)
        categories = {place.category for place in wanted}
        found = self._store.query(
            planned.sql,
            planned.parameters,
            category=categories.pop() if len(categories) == 1 else None,
            deployments={place.deployment for place in wanted},
            time_from_ms=from_ms,
            time_to_ms=to_ms - 1,
            limit=limit,
        )
        whole = len(RECORD_COLUMNS) if planned.is_whole else 0
        rows = []
        for row in found.rows:
            data = self._record(dict(zip(RECORD_COLUMNS, row, strict=False))) if whole else {}
            for column, value in zip(planned.columns, row[whole:], strict=True):
                data[column.name] = _sendable(value)
            rows.append(data)
        fields = (*_OF_WHOLE, *planned.columns) if planned.is_whole else planned.columns
        return Answer(rows, fields, found.is_cut)

    def _record(self, entry: dict[str, Any]) -> dict[str, Any]:
        moment = _moment(entry["time"])
        data = {"logEmissionTime": moment, "message": entry["message"]}
        said = {"opcRequestId": entry["request"], "instance": entry["instance"]}
        said |= {"copy": entry["copy"], "revision": entry["revision"]}
        if entry["category"] == Category.ACCESS:
            said |= {name: entry[column] for name, column in _ACCESS_DATA.items()}
        data |= {name: _sendable(value) for name, value in said.items() if value is not None}
        return {
            "datetime": entry["time"],
            "logContent": {
                "id": entry["id"],
                "time": moment,
                "type": TYPE_PREFIX + entry["category"],
                "source": entry["deployment"],
                "specversion": SPEC_VERSION,
                "oracle": {
                    "compartmentid": entry["compartment"],
                    "ingestedtime": _moment(entry["ingested"]),
                    "loggroupid": entry["log_group"],
                    "logid": entry["log"],
                    "tenantid": self._tenancy,
                },
                "data": data,
            },
        }


def _of_interest(query: LogQuery, places: Sequence[Place]) -> list[Place]:
    """Without those that a condition rules out: their files need not be opened."""
    sources, types = query.wanted("source"), query.wanted("type")
    return [
        place
        for place in places
        if all(text.matches(place.deployment) for text in sources)
        and all(text.matches(TYPE_PREFIX + place.category) for text in types)
    ]


def _moment(epoch_ms: int | None) -> str | None:
    if epoch_ms is None:
        return None
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sendable(value: Any) -> Any:
    """JSON has no infinity, and says nothing of NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
