"""Entries of the logs as OTLP's JSON: what an OpenTelemetry collector takes.

Names of attributes are OpenTelemetry's semantic conventions where they have one, ours begin with
``havre.``. 64-bit numbers are texts, as Protobuf's JSON has them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]
Entry = Mapping[str, Any]
"""An entry by the names of its columns; absent is the same as None."""

SCOPE = "havre"
INFO, WARN, ERROR = (9, "INFO"), (13, "WARN"), (17, "ERROR")

_ATTRIBUTES = {
    "id": "log.record.uid",
    "position": "havre.position",
    "request": "havre.request.id",
    "instance": "service.instance.id",
    "copy": "havre.copy",
    "revision": "havre.revision",
    "method": "http.request.method",
    "path": "url.path",
    "protocol": "network.protocol.name",
    "status": "http.response.status_code",
    "flags": "havre.flags",
    "total_ms": "havre.total_ms",
    "copy_ms": "havre.copy_ms",
    "held_ms": "havre.held_ms",
    "model_ms": "havre.model_ms",
    "bytes_in": "http.request.body.size",
    "bytes_out": "http.response.body.size",
}


def logs(entries: Iterable[Entry], *, category: str, deployment: str) -> Json:
    """One deployment's entries of one category, as the body of a request to ``/v1/logs``."""
    scope = {"scope": {"name": f"{SCOPE}.{category}"}, "logRecords": list(map(_record, entries))}
    return {"resourceLogs": [{"resource": resource(deployment), "scopeLogs": [scope]}]}


def resource(deployment: str = "") -> Json:
    """What the signals are of: this server, or one deployment."""
    attributes = {"service.name": "havre", "havre.deployment.id": deployment or None}
    return {"attributes": attribute_list(attributes)}


def attribute_list(attributes: Mapping[str, Any]) -> list[Json]:
    """OTLP's list of pairs; those that are None are left out."""
    return [
        {"key": key, "value": _value(value)}
        for key, value in attributes.items()
        if value is not None
    ]


def nanoseconds(epoch_ms: int) -> str:
    return str(epoch_ms * 1_000_000)


def _record(entry: Entry) -> Json:
    number, text = _severity(entry)
    return {
        "timeUnixNano": _moment(entry),
        "observedTimeUnixNano": nanoseconds(entry["ingested"]),
        "severityNumber": number,
        "severityText": text,
        "body": {"stringValue": entry["message"] or ""},
        "attributes": attribute_list(
            {name: entry.get(column) for column, name in _ATTRIBUTES.items()}
        ),
    }


def _moment(entry: Entry) -> str:
    """As precise as is known: collectors sort by it."""
    position = entry.get("position")
    return nanoseconds(entry["time"]) if position is None else str(position * 1000)


def _severity(entry: Entry) -> tuple[int, str]:
    """By the status of the response; for printed lines, by whether there is a traceback."""
    status = entry.get("status")
    if status is not None:
        return ERROR if status >= 500 else WARN if status >= 400 else INFO
    return ERROR if "Traceback (most recent call last):" in (entry["message"] or "") else INFO


def _value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
