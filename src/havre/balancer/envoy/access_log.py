"""The access log: one JSON object per request to a deployment, written by Envoy.

Envoy writes from a buffer that it flushes every half second, so no request waits for the disk, and
an Envoy that is killed takes so much of the log with it.
`havre.domain.access_log` says what each field is.
"""

from pathlib import Path

from havre.balancer.envoy import held
from havre.balancer.envoy.matching import regex_match
from havre.balancer.envoy.resources import PREDICTION, REQUEST_ID, Json, typed
from havre.domain.access_log import FIELDS
from havre.domain.ocid import DEPLOYMENT_OCID_PREFIX

FLUSH_MS = 500
COPY_HEADER = "x-havre-copy"
NAMESPACE = "havre"
COPY = "copy"
DEPLOYMENT = "deployment"
"""Keys of metadata: of a request, and of a route."""

MAX_PATH_LENGTH = 1000

FORMATS = {
    "id": "%UNIQUE_ID%",
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "deployment": f"%METADATA(ROUTE:{NAMESPACE}:{DEPLOYMENT})%",
    "request": f"%REQ({REQUEST_ID})%",
    "method": "%REQ(:METHOD)%",
    "path": f"%PATH(NQ:PATH):{MAX_PATH_LENGTH}%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "total_ms": "%DURATION%",
    "copy_us": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "held_ms": f"%DYNAMIC_METADATA({held.NAMESPACE}:{held.HELD_MS})%",
    "copy": f"%DYNAMIC_METADATA({NAMESPACE}:{COPY})%",
}
"""Envoy's format of each field of `havre.domain.access_log`."""

_PREDICTION = regex_match(PREDICTION)
_CANONICAL_PREFIX = {"prefix": f"/{DEPLOYMENT_OCID_PREFIX}"}
"""How the paths begin that deployments have been given; compared first: it is cheap."""


def access_log(path: Path) -> Json:
    """The connection manager's log of requests to deployments; the API's are not in it."""
    return {
        "name": "envoy.access_loggers.file",
        "filter": {
            "or_filter": {
                "filters": [
                    {"header_filter": {"header": {"name": name, "string_match": match}}}
                    for name, match in (
                        (":path", _CANONICAL_PREFIX),
                        (":path", _PREDICTION),
                    )
                ]
            }
        },
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=str(path),
            log_format={
                "json_format": {name: FORMATS[name] for name in FIELDS},
                "omit_empty_values": True,
            },
        ),
    }


def note_copy() -> Json:
    """A filter that keeps the name of the copy for the log, and keeps it from the client."""
    return {
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": typed(
            "envoy.extensions.filters.http.header_to_metadata.v3.Config",
            response_rules=[
                {
                    "header": COPY_HEADER,
                    "on_header_present": {
                        "metadata_namespace": NAMESPACE,
                        "key": COPY,
                        "type": "STRING",
                    },
                    "remove": True,
                }
            ],
        ),
    }
