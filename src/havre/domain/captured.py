"""Requests that a copy has captured, read from its file: a line of JSON each.

``havre_copy.capture`` writes them, and says how. The file is the model's own, so anything may lie
there: what is no such line is left out, every value is checked, and each line has a bounded size.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_BODY = 256 * 1024
"""Characters; a copy writes at most 64 KiB of a body, redacted or in base64 a little more."""
LONGEST_TEXT = 200
OLDEST_MS = 30 * 86_400_000
"""How far back a time may lie; another one is not believed."""

_INT32 = 1 << 31
_INT63 = 1 << 62


@dataclass(frozen=True, slots=True)
class Captured:
    """A request: the line at ``at`` of the file. ``fields`` are columns of what is kept."""

    at: int
    time_ms: int
    size: int
    """Characters that count where a flood is bounded."""
    fields: Mapping[str, Any]
    lines: int = 1


def read(data: bytes, at: int, *, patience: int, now_ms: int) -> tuple[list[Captured], int]:
    """The requests in ``data``, which lies at ``at`` in its file; where what was read ends.

    A line that has not ended is left for another time, unless there is nothing else and it reaches
    no farther than ``patience`` (a place in the file): then it never will.
    """
    end = data.rfind(b"\n") + 1
    if not end and at + len(data) <= patience:
        end = len(data)
    found, here = [], 0
    for line in data[:end].splitlines(keepends=True):
        fields = _fields(line, now_ms)
        if fields is not None:
            found.append(Captured(at + here, fields.pop("time"), len(line), fields))
        here += len(line)
    return found, at + end


def _fields(line: bytes, now_ms: int) -> dict[str, Any] | None:
    """None if it is no line of a copy's."""
    if not line.startswith(b"{"):
        return None
    try:
        told = json.loads(line)
        time_ms = _number(told["time"], _INT63)
        if not now_ms - OLDEST_MS <= time_ms <= now_ms:
            time_ms = now_ms
        return {
            "time": time_ms,
            "request_id": _text(told["id"]),
            "status": _number(told["status"], 1000),
            "model_us": _number(told["us"], _INT63),
            "is_stream": told["stream"] is True,
            "lost_before": _number(told["lost"], _INT32),
            "request_type": _text(told["type"]),
            "response_type": _text(told["answer_type"]),
            **_body("request", told["request"]),
            **_body("response", told.get("response") or {}),
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _body(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if not isinstance(told, dict):
        raise TypeError("not a body")
    if "bytes" in told:
        fields[f"{name}_bytes"] = _number(told["bytes"], _INT63)
    if "text" in told:
        fields[name] = _text(told["text"], LONGEST_BODY)
    elif "base64" in told:
        body = told["base64"][:LONGEST_BODY]
        b64decode(body, validate=True)
        fields[f"{name}_base64"] = body
    return fields


def _number(value: object, below: int) -> int:
    if type(value) is not int or not 0 <= value < below:
        raise ValueError("not such a number")
    return value


def _text(value: object, most: int = LONGEST_TEXT) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    # Lone surrogates are no text for whoever reads on.
    return value[:most].encode("utf-8", "replace").decode("utf-8")
