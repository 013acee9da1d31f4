"""The one listener: what is done to every request, and how Envoy's own answers look."""

from pathlib import Path

from havre.balancer import bandwidth
from havre.balancer.access_log import access_log, note_copy
from havre.balancer.resources import (
    BUFFER,
    LISTENER,
    LUA,
    MAX_BODY_BYTES,
    ORIGINAL_PATH,
    PATH_HEADER,
    REQUEST_ID,
    ROUTES,
    STATS_PREFIX,
    UPLOAD_S,
    Json,
    Limits,
    Resources,
    echo_request_id,
    off,
    response,
    typed,
)
from havre.balancer.signatures import SIGNATURE, VERIFY

KEEP_ALIVE_S = 600
ANSWER_TAKEN_BYTES = 16 * 1024 * 1024
"""So much of an answer is taken off its copy at once, however slowly the client reads, or the
provisioned bandwidth lets it: otherwise a client per copy that does not read stops a deployment.
"""
REQUEST_ID_LENGTH = 128

# A wildcard first: the deployment's id is the last one before "predict", as in PREDICTION.
_LENIENT_PATHS = f"""
local pattern = "^[^?]*/(ocid1%.datasciencemodeldeployment%.[^/?]+)/+(predict%a*)"
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
    *, host: str, port: int, rds_file: Path, requests_file: Path, limits: Limits
) -> Resources:
    """The one listener: ``port`` 0 lets the system pick. ``requests_file`` is the access log."""
    return response(
        "envoy.config.listener.v3.Listener",
        [
            {
                "name": LISTENER,
                "address": {"socket_address": {"address": host, "port_value": port}},
                "per_connection_buffer_limit_bytes": ANSWER_TAKEN_BYTES,
                "filter_chains": [
                    {"filters": [_connection_manager(rds_file, requests_file, limits)]}
                ],
            }
        ],
    )


def _connection_manager(rds_file: Path, requests_file: Path, limits: Limits) -> Json:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": typed(
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix=STATS_PREFIX,
            codec_type="HTTP1",
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
                "max_stream_duration": f"{UPLOAD_S + limits.predict_s}s",
            },
            http_protocol_options={
                "enable_trailers": True,
                # What proxies in front of us and simple load generators speak.
                "accept_http_10": True,
                "default_host_for_http_10": "havre",
            },
            request_headers_timeout="10s",
            stream_idle_timeout=f"{UPLOAD_S}s",
            max_request_headers_kb=60,
            early_header_mutation_extensions=[_early_headers()],
            local_reply_config=_local_replies(),
            http_filters=_http_filters(),
            rds={
                "route_config_name": ROUTES,
                "config_source": {
                    "path_config_source": {"path": str(rds_file)},
                    "resource_api_version": "V3",
                },
            },
        ),
    }


def _early_headers() -> Json:
    """Name the request before anything can answer it, and let nobody forge our own header."""
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
                {"remove": PATH_HEADER},
                {"remove": ORIGINAL_PATH},
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
        off(LUA, typed(lua, default_source_code={"inline_string": _LENIENT_PATHS})),
        off(BUFFER, typed(buffer, max_request_bytes=MAX_BODY_BYTES)),
        off(SIGNATURE, typed(lua, default_source_code={"inline_string": VERIFY})),
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
    """Envoy's own answers in OCI's form. The first mapper that fits decides."""
    unreachable = "The deployment's instances cannot be reached; try again."
    failed = "The model did not answer: it failed or took longer than 60 seconds."
    away = "The API is not up at the moment; try again."
    broken = "The API broke off before it answered; look whether it was done before asking again."
    return {
        "mappers": [
            _reply(_of_the_api(*_UNREACHABLE), 503, "ServiceUnavailable", away),
            _reply(_of_the_api(*_BROKEN), 503, "ServiceUnavailable", broken),
            _reply(_flags("UO"), 429, "TooManyRequests", "The deployment is busy; try again."),
            _reply(_status(408), 408, "RequestTimeout", "The request was not sent in time."),
            _reply(_flags(*_UNREACHABLE), 503, "ServiceUnavailable", unreachable),
            _reply(_flags(*_BROKEN), 500, "InternalServerError", failed),
            *(_reply(_status(row[0]), *row) for row in _PLAIN_REPLIES),
            _reply(_at_least(500), 503, "ServiceUnavailable", "The server is busy; try again."),
            _reply(_at_least(400), None, "InvalidParameter", "The request is not valid HTTP."),
        ]
    }


_UNREACHABLE = ("UF", "UH", "NC")
_BROKEN = ("UT", "UC", "UR", "SI", "DT", "UMSDR", "UPE", "LR")
_PLAIN_REPLIES = (
    (401, "NotAuthenticated", "Sign the request, its body included, with a key known here."),
    (404, "NotAuthorizedOrNotFound", "No such resource, or the deployment is not active."),
    (405, "MethodNotAllowed", "A prediction is a POST."),
    (411, "LengthRequired", "Send a Content-Length; chunked requests are not accepted."),
    (413, "PayloadTooLarge", "The body of a prediction is at most 10 MB."),
    (429, "TooManyRequests", "The deployment's provisioned bandwidth is exceeded; try again."),
    (431, "RequestHeaderFieldsTooLarge", "The request's headers are too large."),
)


def _reply(condition: Json, status: int | None, code: str, message: str) -> Json:
    return {
        "filter": condition,
        **({"status_code": status} if status else {}),
        "body_format_override": {"json_format": {"code": code, "message": message}},
        "headers_to_add": [echo_request_id()],
    }


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _of_the_api(*flags: str) -> Json:
    path = {"header": {"name": ":path", "string_match": {"prefix": "/20"}}}
    return {"and_filter": {"filters": [_flags(*flags), {"header_filter": path}]}}


def _status(status: int) -> Json:
    return _compare("EQ", status)


def _at_least(status: int) -> Json:
    return _compare("GE", status)


def _compare(op: str, status: int) -> Json:
    value = {"default_value": status, "runtime_key": "havre.unused"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}
