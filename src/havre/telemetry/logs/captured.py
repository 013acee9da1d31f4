"""Parses requests that a copy has captured, a line of JSON each.

``havre_copy.capture`` writes them and documents the format. The model owns the file, so it may hold
anything: other lines are skipped, every value is checked, and each line has a bounded size.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_BODY_LENGTH = 256 * 1024
"""Characters; a copy writes at most 64 KiB of a body, redacted or in base64 a little more."""
MAX_TEXT_LENGTH = 200
MAX_AGE_MS = 30 * 86_400_000
"""How far back a time may lie; others are replaced by now."""

_INT32 = 1 << 31
_INT63 = 1 << 62


@dataclass(frozen=True, slots=True)
class Captured:
    """A request: the line at offset ``at``. ``fields`` are by the columns of ``CAPTURED``."""

    at: int
    time_ms: int
    size: int
    """Characters that the rate limit counts."""
    fields: Mapping[str, Any]
    lines: int = 1


def read(data: bytes, at: int, *, settled_until: int, now_ms: int) -> tuple[list[Captured], int]:
    """The requests in ``data``, which is at offset ``at`` of its file, and the offset reached.

    A line without its end is left for the next pass, unless there is nothing else and it ends by
    the offset ``settled_until``: then it stays incomplete.
    """
    end = data.rfind(b"\n") + 1
    if not end and at + len(data) <= settled_until:
        end = len(data)
    requests, offset = [], at
    for line in data[:end].splitlines(keepends=True):
        fields = _fields(line, now_ms)
        if fields is not None:
            requests.append(Captured(offset, fields.pop("time"), len(line), fields))
        offset += len(line)
    return requests, at + end


def _fields(line: bytes, now_ms: int) -> dict[str, Any] | None:
    """None if it is no line of a copy."""
    if not line.startswith(b"{"):
        return None
    try:
        line_fields = json.loads(line)
        time_ms = _number(line_fields["time"], _INT63)
        if not now_ms - MAX_AGE_MS <= time_ms <= now_ms:
            time_ms = now_ms
        return {
            "time": time_ms,
            "request_id": _text(line_fields["request_id"]),
            "status": _number(line_fields["status"], 1000),
            "model_us": _number(line_fields["model_us"], _INT63),
            "is_stream": line_fields["is_stream"] is True,
            "lost_before": _number(line_fields["lost_before"], _INT32),
            "request_type": _text(line_fields["request_type"]),
            "response_type": _text(line_fields["response_type"]),
            **_body("request", line_fields["request"]),
            **_body("response", line_fields.get("response") or {}),
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _body(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if not isinstance(body, dict):
        raise TypeError("not a body")
    if "bytes" in body:
        fields[f"{name}_bytes"] = _number(body["bytes"], _INT63)
    if "text" in body:
        fields[name] = _text(body["text"], MAX_BODY_LENGTH)
    elif "base64" in body:
        content = body["base64"][:MAX_BODY_LENGTH]
        b64decode(content, validate=True)
        fields[f"{name}_base64"] = content
    return fields


def _number(value: object, below: int) -> int:
    if type(value) is not int or not 0 <= value < below:
        raise ValueError("not such a number")
    return value


def _text(value: object, limit: int = MAX_TEXT_LENGTH) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    # Later readers take no lone surrogates.
    return value[:limit].encode("utf-8", "replace").decode("utf-8")
