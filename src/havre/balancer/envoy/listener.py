"""The one listener: what is done to every request, and how Envoy's own responses look."""

from pathlib import Path

from havre.balancer.base import Timeouts
from havre.balancer.envoy import bandwidth
from havre.balancer.envoy.access_log import FORMATS, access_log, note_copy
from havre.balancer.envoy.matching import regex_match
from havre.balancer.envoy.resources import (
    API_AT_ROOT,
    BUFFER,
    LISTENER,
    LUA,
    OWN_HEADERS,
    PATH_HEADER,
    PREDICTION,
    REQUEST_ID,
    ROUTES,
    STATS_PREFIX,
    UPLOAD_S,
    Json,
    Resources,
    disabled_filter,
    echo_request_id,
    response,
    typed,
)
from havre.balancer.envoy.signatures import SIGNATURE, VERIFY
from havre.balancer.refusals import API_AWAY, REFUSALS, TOO_LARGE
from havre.domain.limits import MAX_PREDICTION_BYTES
from havre.domain.ocid import DEPLOYMENT_OCID_PREFIX

KEEP_ALIVE_S = 600
RESPONSE_BUFFER_BYTES = 16 * 1024 * 1024
"""So much of a response is read from its copy at once, however slowly the client reads, or the
provisioned bandwidth lets it: otherwise a client per copy that does not read stops a deployment.
"""
MAX_STREAMS = 100
"""Requests at a time on one connection of HTTP/2."""
STREAM_WINDOW_BYTES = 1024 * 1024
"""So much of a request may be on its way on a stream of HTTP/2; on a connection, ten times that."""
REQUEST_ID_LENGTH = 128

# A wildcard first: the deployment's id is the last one before "predict", as in PREDICTION.
LENIENT_PATHS = f"""
local pattern = "^[^?]*/({DEPLOYMENT_OCID_PREFIX.replace(".", "%.")}[^/?]+)/+(predict%a*)"
function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  local deployment, verb = path:match(pattern)
  if deployment then
    headers:replace("{PATH_HEADER}", path)
    headers:replace(":path", "/" .. deployment .. "/" .. verb)
    handle:clearRouteCache()
  end
end
"""


def listeners(
    *, host: str, port: int, routes: Json, requests_file: Path, timeouts: Timeouts
) -> Resources:
    """The one listener: ``port`` 0 lets the system pick. ``routes`` is where it has them from,
    ``requests_file`` the access log.
    """
    return response(
        "envoy.config.listener.v3.Listener",
        [
            {
                "name": LISTENER,
                "address": {"socket_address": {"address": host, "port_value": port}},
                "per_connection_buffer_limit_bytes": RESPONSE_BUFFER_BYTES,
                "filter_chains": [
                    {"filters": [_connection_manager(routes, requests_file, timeouts)]}
                ],
            }
        ],
    )


def _connection_manager(routes: Json, requests_file: Path, timeouts: Timeouts) -> Json:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": typed(
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix=STATS_PREFIX,
            # HTTP/1 or, by its first bytes, HTTP/2.
            codec_type="AUTO",
            server_name="havre",
            # Every client is a stranger, on loopback too (an empty list would mean all private
            # addresses): its x-envoy-* headers, which order retries and timeouts, are dropped.
            use_remote_address=True,
            internal_address_config={
                "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]
            },
            access_log=[access_log(requests_file)],
            generate_request_id=False,
            # The signature covers the path as it was sent.
            normalize_path=False,
            merge_slashes=False,
            path_with_escaped_slashes_action="KEEP_UNCHANGED",
            common_http_protocol_options={
                "idle_timeout": f"{KEEP_ALIVE_S}s",
                "max_headers_count": 100,
                # Here and not at the predictions' routes, where it would replace their timeout.
                "max_stream_duration": f"{UPLOAD_S + timeouts.predict_s}s",
            },
            http_protocol_options={
                "enable_trailers": True,
                # What proxies in front of us and simple load generators speak.
                "accept_http_10": True,
                "default_host_for_http_10": "localhost",
            },
            http2_protocol_options={
                "max_concurrent_streams": MAX_STREAMS,
                "initial_stream_window_size": STREAM_WINDOW_BYTES,
                "initial_connection_window_size": MAX_PREDICTION_BYTES,
            },
            request_headers_timeout="10s",
            stream_idle_timeout=f"{UPLOAD_S}s",
            max_request_headers_kb=60,
            early_header_mutation_extensions=[_early_headers()],
            local_reply_config=_local_replies(),
            http_filters=_http_filters(),
            rds={"route_config_name": ROUTES, "config_source": routes},
        ),
    }


def _early_headers() -> Json:
    """Name the request before anything can respond to it; no client may forge our own headers."""
    sane = {
        "header": {"key": REQUEST_ID, "value": f"%REQ({REQUEST_ID}):{REQUEST_ID_LENGTH}%"},
        "append_action": "OVERWRITE_IF_EXISTS",
    }
    fresh = {
        "header": {"key": REQUEST_ID, "value": "%UNIQUE_ID%"},
        "append_action": "ADD_IF_ABSENT",
    }
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[
                {"append": sane},
                {"append": fresh},
                {"remove_on_match": {"key_matcher": {"prefix": OWN_HEADERS}}},
            ],
        ),
    }


def _http_filters() -> list[Json]:
    """In the order a request meets them; all but the last two are off where no route turns them
    on. A request is whole before anything is decided, so that a refusal leaves the connection
    usable.
    """
    filters = "envoy.extensions.filters.http"
    lua, buffer = f"{filters}.lua.v3.Lua", f"{filters}.buffer.v3.Buffer"
    return [
        disabled_filter(LUA, typed(lua, default_source_code={"inline_string": LENIENT_PATHS})),
        disabled_filter(BUFFER, typed(buffer, max_request_bytes=MAX_PREDICTION_BYTES)),
        disabled_filter(SIGNATURE, typed(lua, default_source_code={"inline_string": VERIFY})),
        *bandwidth.filters(),
        note_copy(),
        {
            "name": "envoy.filters.http.router",
            "typed_config": typed(
                f"{filters}.router.v3.Router", dynamic_stats=False, suppress_envoy_headers=True
            ),
        },
    ]


def _local_replies() -> Json:
    """Envoy's own responses in OCI's form. The first mapper that fits decides."""
    unreachable = "The deployment's instances cannot be reached; try again."
    failed = "The model did not answer: its copy (worker process) died or took too long."
    broken = "The API ended before it responded; check whether it was done before you try again."
    too_large = REFUSALS[TOO_LARGE]
    return {
        "mappers": [
            # First, whatever the flags are: what failed is the client.
            _reply(_status(408), 408, "RequestTimeout", "The request was not sent in time."),
            _reply(_all(_of_the_api(), _flags(*_UNREACHABLE)), 503, "ServiceUnavailable", API_AWAY),
            # Envoy would send the request again, to an API that is away, and cannot hold it.
            _reply(_all(_of_the_api(), _status(507)), 503, "ServiceUnavailable", API_AWAY),
            _reply(_all(_of_the_api(), _flags(*_BROKEN)), 503, "ServiceUnavailable", broken),
            _reply(_flags("UO"), 429, "TooManyRequests", "The deployment is busy; try again."),
            _reply(_flags(*_UNREACHABLE), 503, "ServiceUnavailable", unreachable),
            _reply(_flags(*_BROKEN), 500, "InternalServerError", failed, **_WHERE_TO_LOOK),
            _reply(_all(_status(403), _has("upgrade")), 403, "InvalidParameter", _UPGRADE),
            _reply(_status(403), 403, "NotAuthorized", "%LOCAL_REPLY_BODY%"),
            _reply(_status(413), too_large.status, too_large.code, too_large.message),
            *(_reply(_status(row[0]), *row) for row in _PLAIN_REPLIES),
            _reply(_min_status(500), 503, "ServiceUnavailable", "The server is busy; try again."),
            _reply(_min_status(400), None, "InvalidParameter", "The request is not valid HTTP."),
        ]
    }


_WHERE_TO_LOOK = {
    "opcRequestId": FORMATS["request"],
    "logs": f"havre logs {FORMATS['deployment']} --request {FORMATS['request']}",
}
"""How the copy ended is known to its keeper alone. An exception's response says this, too."""
_UNREACHABLE = ("UF", "UH", "NC")
_UPGRADE = "The connection cannot be made another protocol's, such as WebSocket's."
_BROKEN = ("UT", "UC", "UR", "SI", "DT", "UMSDR", "UPE", "LR")
_TOO_MUCH = (
    "The deployment's provisioned bandwidth is exceeded; try again, or give it more bandwidthMbps."
)
_PLAIN_REPLIES = (
    (401, "NotAuthenticated", "%LOCAL_REPLY_BODY%"),
    (404, "NotAuthorizedOrNotFound", "No such resource, or the deployment is not active."),
    (405, "MethodNotAllowed", "A prediction is a POST."),
    (429, "TooManyRequests", _TOO_MUCH),
    (431, "RequestHeaderFieldsTooLarge", "The request's headers are too large."),
    (
        501,
        "MethodNotImplemented",
        "Send the body as it is, or chunked: no other encoding is known.",
    ),
)


def _reply(condition: Json, status: int | None, code: str, message: str, **details: str) -> Json:
    return {
        "filter": condition,
        **({"status_code": status} if status else {}),
        "body_format_override": {"json_format": {"code": code, "message": message, **details}},
        "headers_to_add": [echo_request_id()],
    }


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _of_the_api() -> Json:
    """What is no prediction; and whatever comes after a version is none."""
    path = {"name": ":path", "string_match": regex_match(PREDICTION), "invert_match": True}
    at_root = {"name": ":path", "string_match": regex_match(API_AT_ROOT)}
    return {
        "or_filter": {
            "filters": [{"header_filter": {"header": header}} for header in (path, at_root)]
        }
    }


def _has(header: str) -> Json:
    return {"header_filter": {"header": {"name": header, "present_match": True}}}


def _all(*conditions: Json) -> Json:
    return {"and_filter": {"filters": list(conditions)}}


def _status(status: int) -> Json:
    return _compare("EQ", status)


def _min_status(status: int) -> Json:
    return _compare("GE", status)


def _compare(op: str, status: int) -> Json:
    value = {"default_value": status, "runtime_key": "havre.unused"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}
