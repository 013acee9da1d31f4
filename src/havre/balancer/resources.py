"""What Envoy's resources share: their form on the wire, names, limits.

Pure, like ``listener``, ``clusters`` and ``routing``, which make them: routes in, text out.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from havre.settings import Settings

Json = dict[str, Any]

MAX_BODY_BYTES = 10 * 1024 * 1024
"""A prediction's largest body (OCI: 10 MB)."""
UPLOAD_S = 60
"""Time a client gets to send its request, on top of the time the answer may take."""
UNBOUNDED = 1_000_000
CACHED = 4096
"""Routes whose resources are kept: a change of one need not build those of a thousand again."""
LISTENER = "front"
ROUTES = "front"
STATS_PREFIX = "front"
PATH_HEADER = "x-havre-path"
"""The path as the client sent it, where it was rewritten."""
ORIGINAL_PATH = "x-envoy-original-path"
"""The same, where Envoy itself rewrote it."""
REQUEST_ID = "opc-request-id"

PREDICTION = (
    r"[^?]*/ocid1\.datasciencemodeldeployment\.[^/?]+/+predict(?:WithResponseStream)?(?:[/?].*)?"
)
"""Paths that mean to ask a deployment for a prediction."""

BUFFER = "envoy.filters.http.buffer"
LUA = "envoy.filters.http.lua"
"""Names by which routes turn the listener's filters on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The balancer's own limits, in seconds: backstops a little behind the copies' limits.

    The SDK gives up on a prediction at 60.
    """

    predict_s: float = 59.0
    stream_idle_s: float = 65.0
    stream_total_s: float = 305.0

    @classmethod
    def behind(cls, settings: Settings) -> "Limits":
        return cls(
            predict_s=settings.predict_timeout_s + 1,
            stream_idle_s=settings.stream_idle_s + 5,
            stream_total_s=settings.stream_total_s + 5,
        )


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Resources:
    """One publication: the text of its file, and the digest Envoy repeats when it serves it."""

    version: str
    text: str


def response(kind: str, resources: list[Json]) -> Resources:
    text = json.dumps([typed(kind, **each) for each in resources], separators=(",", ":"))
    version = hashlib.sha256(text.encode()).hexdigest()[:20]
    return Resources(version, f'{{"version_info":"{version}","resources":{text}}}')


def typed(kind: str, **fields: Any) -> Json:
    return {"@type": f"type.googleapis.com/{kind}", **fields}


def off(name: str, settings: Json) -> Json:
    """A filter of the listener that only routes turn on."""
    return {"name": name, "disabled": True, "typed_config": settings}


def whole_requests() -> Json:
    """For a route: turns a filter on that waits for a request's end."""
    return typed(
        "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
        buffer={"max_request_bytes": MAX_BODY_BYTES},
    )


def echo_request_id() -> Json:
    return {
        "header": {"key": REQUEST_ID, "value": f"%REQ({REQUEST_ID})%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
