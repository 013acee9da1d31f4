"""What Envoy's resources share: their form on the wire, names, limits.

Pure, like ``listener``, ``clusters`` and ``routing``, which make them: routes in, text out.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from havre.domain.api_versions import API_VERSIONS
from havre.domain.limits import MAX_PREDICTION_BYTES
from havre.domain.ocid import DEPLOYMENT_OCID_PREFIX

Json = dict[str, Any]

UPLOAD_S = 60
"""Time a client gets to send its request, on top of the time the response may take."""
UNBOUNDED = 1_000_000
CACHED = 4096
"""Routes whose resources are kept: a change of one need not build those of a thousand again."""
LISTENER = "front"
ROUTES = "front"
STATS_PREFIX = "front"
OWN_HEADERS = "x-havre-"
"""So begin the headers by which the parts of a server speak to one another: no client's are let in.
"""
PATH_HEADER = "x-havre-path"
"""The path as the client sent it, where it was rewritten."""
REQUEST_ID = "opc-request-id"

_API_ROOTS = r"healthz|metrics|console|openapi\.json"
API_AT_ROOT = rf"/(?:{'|'.join(API_VERSIONS)}|{_API_ROOTS})(?:[/?].*)?"
API_ANYWHERE = rf"[^?]*/(?:{'|'.join(API_VERSIONS)})(?:[/?].*)?|/+(?:{_API_ROOTS})(?:[/?].*)?"
"""Paths of the API, looked for in this order, `PREDICTION` between them."""
PREDICTION = (
    rf"[^?]*/{re.escape(DEPLOYMENT_OCID_PREFIX)}[^/?]+/+predict(?:WithResponseStream)?(?:[/?].*)?"
)
"""Paths that mean to ask a deployment for a prediction."""

BUFFER = "envoy.filters.http.buffer"
LUA = "envoy.filters.http.lua"
"""Names by which routes turn the listener's filters on."""


@dataclass(frozen=True, slots=True)
class Resources:
    """One publication: the text of its file, and the digest Envoy repeats when it serves it."""

    version: str
    text: str


def response(kind: str, resources: list[Json]) -> Resources:
    text = json.dumps([typed(kind, **fields) for fields in resources], separators=(",", ":"))
    version = hashlib.sha256(text.encode()).hexdigest()[:20]
    return Resources(version, f'{{"version_info":"{version}","resources":{text}}}')


def typed(kind: str, **fields: Any) -> Json:
    return {"@type": f"type.googleapis.com/{kind}", **fields}


def disabled_filter(name: str, settings: Json) -> Json:
    """A filter of the listener that only routes enable."""
    return {"name": name, "disabled": True, "typed_config": settings}


def whole_requests() -> Json:
    """For a route: turns a filter on that waits for a request's end."""
    return typed(
        "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
        buffer={"max_request_bytes": MAX_PREDICTION_BYTES},
    )


def echo_request_id() -> Json:
    return {
        "header": {"key": REQUEST_ID, "value": f"%REQ({REQUEST_ID})%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
