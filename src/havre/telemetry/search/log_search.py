"""Runs a log query: entries in the form of OCI's records, or rows that the query made of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from havre.domain.logs import Category, LogStream
from havre.queries.log_ast import LogQuery
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.search.expressions import FIELDS, SPEC_VERSION, TYPE_PREFIX, ValueKind
from havre.telemetry.search.sql import RECORD_COLUMNS, Column, compile_query

_RECORD_FIELDS = (
    Column("datetime", ValueKind.TIME),
    *(
        Column(f"logContent.{path}", field.kind)
        for path, field in FIELDS.items()
        if field.kind in (ValueKind.TEXT, ValueKind.NUMBER)
    ),
)
_ACCESS_DATA = {
    "status": "status",
    "modelLatency": "model_ms",
    "copyLatency": "copy_ms",
    "heldBack": "held_ms",
    "totalLatency": "total_ms",
    "method": "method",
    "path": "path",
    "protocol": "protocol",
    "flags": "flags",
    "bytesIn": "bytes_in",
    "bytesOut": "bytes_out",
}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """``rows`` are what the API calls ``data``; ``has_more``: there are rows after these."""

    rows: list[dict[str, Any]]
    fields: tuple[Column, ...]
    has_more: bool


class LogSearch:
    """Searches the entries of a home."""

    def __init__(self, reader: LogReader, *, tenancy: str) -> None:
        self._reader = reader
        self._tenancy = tenancy

    def search(
        self,
        query: LogQuery,
        streams: Sequence[LogStream],
        *,
        from_ms: int,
        to_ms: int,
        limit: int,
        offset: int,
    ) -> SearchResult:
        """Entries of these log streams, from ``from_ms`` on and before ``to_ms``.

        Raises InvalidParameter, and what LogReader.query raises.
        """
        relevant = _relevant(query, streams)
        compiled = compile_query(
            query, relevant, from_ms=from_ms, to_ms=to_ms, limit=limit, offset=offset
        )
        categories = {stream.category for stream in relevant}
        result = self._reader.query(
            compiled.sql,
            compiled.parameters,
            category=categories.pop() if len(categories) == 1 else None,
            deployments={stream.deployment for stream in relevant},
            time_from_ms=from_ms,
            time_to_ms=to_ms - 1,
            limit=limit,
        )
        whole = len(RECORD_COLUMNS) if compiled.is_whole else 0
        rows = []
        for row in result.rows:
            data = self._record(dict(zip(RECORD_COLUMNS, row, strict=False))) if whole else {}
            for column, value in zip(compiled.columns, row[whole:], strict=True):
                data[column.name] = _json_value(value)
            rows.append(data)
        fields = (*_RECORD_FIELDS, *compiled.columns) if compiled.is_whole else compiled.columns
        return SearchResult(rows, fields, result.is_cut)

    def _record(self, entry: dict[str, Any]) -> dict[str, Any]:
        moment = _time_of(entry["time"])
        data = {"logEmissionTime": moment, "message": entry["message"]}
        values = {"opcRequestId": entry["request"], "instance": entry["instance"]}
        values |= {"copy": entry["copy"], "revision": entry["revision"]}
        if entry["category"] == Category.ACCESS:
            values |= {name: entry[column] for name, column in _ACCESS_DATA.items()}
        data |= {name: _json_value(value) for name, value in values.items() if value is not None}
        return {
            "datetime": entry["time"],
            "logContent": {
                "id": entry["id"],
                "time": _exact_time(entry["position"]) or moment,
                "type": TYPE_PREFIX + entry["category"],
                "source": entry["deployment"],
                "specversion": SPEC_VERSION,
                "oracle": {
                    "compartmentid": entry["compartment"],
                    "ingestedtime": _time_of(entry["ingested"]),
                    "loggroupid": entry["log_group"],
                    "logid": entry["log"],
                    "tenantid": self._tenancy,
                },
                "data": data,
            },
        }


def _relevant(query: LogQuery, streams: Sequence[LogStream]) -> list[LogStream]:
    """Without the log streams that a condition rules out: their files need not be opened."""
    sources, types = query.required_texts("source"), query.required_texts("type")
    return [
        stream
        for stream in streams
        if all(text.matches(stream.deployment) for text in sources)
        and all(text.matches(TYPE_PREFIX + stream.category) for text in types)
    ]


def _time_of(epoch_ms: int | None) -> str | None:
    if epoch_ms is None:
        return None
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _exact_time(position: int | None) -> str | None:
    """So that sorting by this text, as ADS does, gives the order of printing."""
    if position is None:
        return None
    moment = datetime.fromtimestamp(position // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{position % 1_000_000:06d}Z"


def _json_value(value: Any) -> Any:
    """JSON has neither infinity nor NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
