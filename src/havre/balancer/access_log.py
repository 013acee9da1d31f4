"""The access log: one JSON object per request to a deployment, written by Envoy.

Envoy writes from a buffer that it flushes every half second, so no request waits for the disk, and
an Envoy that is killed takes so much of the log with it. What a line says:

=========== ======================================================================================
id          a UUID of the entry's own
time        when the request's first byte came, UTC, RFC 3339 with milliseconds
deployment  OCID; absent where no deployment was found for the path
request     ``opc-request-id``
method, path, protocol  as they were routed; the query is left out: clients put secrets there
status      of the answer
flags       Envoy's response flags: why it answered itself (``UO``: too busy), ``-`` if it did not
total_ms    from the request's first byte to the answer's last
copy_us     from when the request was passed on to the first byte of the copy's answer: waiting for
            a copy that is free, and ``predict``; absent where no copy was asked
bytes_in, bytes_out  bodies
copy        who answered: instance, copy, revision, and µs in ``predict`` (nothing if it did not
            come to that; of a stream, to its first part), ``8b1f0c7a55d2/1/3c9d02e1aa70/412``
=========== ======================================================================================
"""

from pathlib import Path

from havre.balancer.matching import regex_match
from havre.balancer.resources import ORIGINAL_PATH, PREDICTION, REQUEST_ID, Json, typed

FLUSH_MS = 500
COPY_HEADER = "x-havre-copy"
NAMESPACE = "havre"
COPY = "copy"
DEPLOYMENT = "deployment"
"""Keys of metadata: of a request, and of a route."""

LONGEST_PATH = 1000

_FIELDS = {
    "id": "%UNIQUE_ID%",
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "deployment": f"%METADATA(ROUTE:{NAMESPACE}:{DEPLOYMENT})%",
    "request": f"%REQ({REQUEST_ID})%",
    "method": "%REQ(:METHOD)%",
    "path": f"%PATH(NQ:ORIG_OR_PATH):{LONGEST_PATH}%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "total_ms": "%DURATION%",
    "copy_us": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "copy": f"%DYNAMIC_METADATA({NAMESPACE}:{COPY})%",
}

_PREDICTION = regex_match(PREDICTION)
_AS_WE_SAY_IT = {"prefix": "/ocid1.datasciencemodeldeployment."}
"""How the paths begin that deployments have been given; looked at first: it is cheap."""


def access_log(path: Path) -> Json:
    """The connection manager's log of requests to deployments; the API's are not in it."""
    return {
        "name": "envoy.access_loggers.file",
        "filter": {
            "or_filter": {
                "filters": [
                    {"header_filter": {"header": {"name": name, "string_match": match}}}
                    for name, match in (
                        (":path", _AS_WE_SAY_IT),
                        (":path", _PREDICTION),
                        (ORIGINAL_PATH, _PREDICTION),
                    )
                ]
            }
        },
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=str(path),
            log_format={"json_format": _FIELDS, "omit_empty_values": True},
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
