"""What Envoy is told: a table of routes becomes listener, cluster and route resources.

Pure: routes in, text out. The shape:

* A request with the form of a prediction (POST, a content length of at most 10 MiB) is looked up by
  its whole path in one hash map, so its cost does not grow with the number of deployments.
* What the map does not have, but looks like a prediction (a path prefix, doubled slashes, a suffix,
  a query), is rewritten to the map's form by a few lines of Lua and looked up again.
* Everything else is the control plane's, or is refused.

Each refusal waits for the end of the request's body (the ``buffer`` filter), because an HTTP/1
server that answers earlier must close the connection, and a client that is still sending then sees
a broken pipe instead of the answer. Only a body that is too large is not held: it goes to the
control plane's refusals, which read it away in constant memory.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from havre.domain.route import Route
from havre.settings import Settings

Json = dict[str, Any]


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


MAX_BODY_BYTES = 10 * 1024 * 1024
"""A prediction's largest body (OCI: 10 MB)."""
UPLOAD_S = 60
"""Time a client gets to send its request, on top of the time the answer may take."""
CONNECT_TIMEOUT_S = 2
API_IDLE_S = 300
API_CONNECTION_IDLE_S = 3
"""Below uvicorn's 5 s keep-alive: the balancer, not the API, closes idle connections."""
KEEP_ALIVE_S = 600
BACKLOG_S = 10
"""Seconds of provisioned bandwidth that may be asked for ahead before 429."""
MAX_CONCURRENT_REFUSALS = 256
UNBOUNDED = 1_000_000
LARGEST_UINT32 = 2**32 - 1
CACHED = 4096
"""Routes whose resources are kept: a change of one need not build those of a thousand again."""

API_CLUSTER = "api"
REFUSALS_CLUSTER = "refusals"
REFUSALS_PATH = "/_refused/"
"""Paths of the API that read a body away and answer: ``/_refused/413``."""
LISTENER = "front"
ROUTES = "front"
STATS_PREFIX = "front"
COPY_HEADER = "x-havre-copy"
PATH_HEADER = "x-havre-path"
"""The path as the client sent it, where it was rewritten."""
REQUEST_ID = "opc-request-id"
REQUEST_ID_LENGTH = 128

API_VERSIONS = ("20190101", "20180409", "20190909", "20200531", "20180401", "20160918")
_API_ROOTS = r"healthz|metrics|console|openapi\.json|docs"
_API_AT_ROOT = rf"/(?:{'|'.join(API_VERSIONS)}|{_API_ROOTS})(?:[/?].*)?"
_API_ANYWHERE = rf"[^?]*/(?:{'|'.join(API_VERSIONS)})(?:[/?].*)?|/+(?:{_API_ROOTS})(?:[/?].*)?"
_PREDICTION = (
    r"[^?]*/ocid1\.datasciencemodeldeployment\.[^/?]+/+predict(?:WithResponseStream)?(?:[/?].*)?"
)
# 0 to 10485760.
_LENGTH_ALLOWED = (
    r"0*(?:[0-9]{1,7}|10[0-3][0-9]{5}|104[0-7][0-9]{4}|1048[0-4][0-9]{3}"
    r"|10485[0-6][0-9]{2}|104857[0-5][0-9]|10485760)"
)

# A wildcard first: the deployment's id is the last one before "predict", as in _PREDICTION.
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

_TYPE = "type.googleapis.com/"
_BANDWIDTH = "envoy.filters.http.bandwidth_limit"
_RATE = "envoy.filters.http.local_ratelimit"
_BUFFER = "envoy.filters.http.buffer"
_COLLECT = "havre.collect"
_LUA = "envoy.filters.http.lua"


def listeners(*, host: str, port: int, rds_file: Path, limits: Limits) -> Resources:
    """The one listener: ``port`` 0 lets the system pick."""
    return _response(
        "envoy.config.listener.v3.Listener",
        [
            {
                "name": LISTENER,
                "address": {"socket_address": {"address": host, "port_value": port}},
                "per_connection_buffer_limit_bytes": 262_144,
                "filter_chains": [{"filters": [_connection_manager(rds_file, limits)]}],
            }
        ],
    )


def clusters(routes: Iterable[Route], *, api_socket: Path) -> Resources:
    """The endpoint sets of these routes, live and retiring alike, and the control plane."""
    by_name = {route.cluster: route for route in routes}
    return _response(
        "envoy.config.cluster.v3.Cluster",
        [
            _api_cluster(API_CLUSTER, api_socket, max_requests=UNBOUNDED),
            _api_cluster(REFUSALS_CLUSTER, api_socket, max_requests=MAX_CONCURRENT_REFUSALS),
            *(_cluster(by_name[name]) for name in sorted(by_name)),
        ],
    )


def route_table(routes: Mapping[str, Route], limits: Limits) -> Resources:
    """Who gets what, by path."""
    return _response(
        "envoy.config.route.v3.RouteConfiguration",
        [
            {
                "name": ROUTES,
                "response_headers_to_remove": [COPY_HEADER],
                "response_headers_to_add": [_echo_request_id()],
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "retry_policy": _retry_policy(),
                        "typed_per_filter_config": {_BUFFER: _whole()},
                        "matcher": _matcher(routes, limits),
                    }
                ],
            }
        ],
    )


def _response(kind: str, resources: list[Json]) -> Resources:
    text = json.dumps([_typed(kind, **each) for each in resources], separators=(",", ":"))
    version = hashlib.sha256(text.encode()).hexdigest()[:20]
    return Resources(version, f'{{"version_info":"{version}","resources":{text}}}')


# Listener


def _connection_manager(rds_file: Path, limits: Limits) -> Json:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": _typed(
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
        "typed_config": _typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[{"append": sane}, {"append": fresh}, {"remove": PATH_HEADER}],
        ),
    }


def _http_filters() -> list[Json]:
    """In the order a request meets them; all but the router are off where no route turns them on.

    A request is whole before anything is decided, so that a refusal leaves the connection usable;
    after shaping it is collected again, so that it waits here and does not occupy a copy.
    """
    filters = "envoy.extensions.filters.http"
    return [
        _off(_LUA, f"{filters}.lua.v3.Lua", default_source_code={"inline_string": _LENIENT_PATHS}),
        _off(_BUFFER, f"{filters}.buffer.v3.Buffer", max_request_bytes=MAX_BODY_BYTES),
        _off(_RATE, f"{filters}.local_ratelimit.v3.LocalRateLimit", stat_prefix="rate"),
        _off(_BANDWIDTH, f"{filters}.bandwidth_limit.v3.BandwidthLimit", stat_prefix="bandwidth"),
        _off(_COLLECT, f"{filters}.buffer.v3.Buffer", max_request_bytes=MAX_BODY_BYTES),
        {
            "name": "envoy.filters.http.router",
            "typed_config": _typed(
                f"{filters}.router.v3.Router", dynamic_stats=False, suppress_envoy_headers=True
            ),
        },
    ]


def _off(name: str, kind: str, **settings: Any) -> Json:
    return {"name": name, "disabled": True, "typed_config": _typed(kind, **settings)}


def _local_replies() -> Json:
    """Envoy's own answers in OCI's form. The first mapper that fits decides."""
    unreachable = "The deployment's instances cannot be reached; try again."
    failed = "The model did not answer: it failed or took longer than 60 seconds."
    return {
        "mappers": [
            _reply(_flags("UO"), 429, "TooManyRequests", "The deployment is busy; try again."),
            _reply(_status(408), 408, "RequestTimeout", "The request was not sent in time."),
            _reply(_flags("UF", "UH", "NC"), 503, "ServiceUnavailable", unreachable),
            _reply(
                _flags("UT", "UC", "UR", "SI", "DT", "UMSDR", "UPE", "LR"),
                500,
                "InternalServerError",
                failed,
            ),
            *(_reply(_status(row[0]), *row) for row in _PLAIN_REPLIES),
            _reply(_at_least(500), 503, "ServiceUnavailable", "The server is busy; try again."),
            _reply(_at_least(400), None, "InvalidParameter", "The request is not valid HTTP."),
        ]
    }


_PLAIN_REPLIES = (
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
        "headers_to_add": [_echo_request_id()],
    }


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _status(status: int) -> Json:
    return _compare("EQ", status)


def _at_least(status: int) -> Json:
    return _compare("GE", status)


def _compare(op: str, status: int) -> Json:
    value = {"default_value": status, "runtime_key": "havre.unused"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _echo_request_id() -> Json:
    return {
        "header": {"key": REQUEST_ID, "value": f"%REQ({REQUEST_ID})%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


# Clusters


@lru_cache(CACHED)
def _cluster(route: Route) -> Json:
    """One endpoint per instance. The bound is on requests; connections and waiting follow it."""
    cluster = _pipes(
        route.cluster,
        [endpoint.socket for endpoint in route.endpoints],
        max_requests=route.max_requests,
        connection={"max_requests_per_connection": 1},
    )
    if len(route.endpoints) > 1:
        cluster["load_balancing_policy"] = {
            "policies": [
                {
                    "typed_extension_config": {
                        "name": "envoy.load_balancing_policies.least_request",
                        "typed_config": _typed(
                            "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
                            selection_method="FULL_SCAN",
                        ),
                    }
                }
            ]
        }
    return cluster


def _api_cluster(name: str, api_socket: Path, *, max_requests: int) -> Json:
    return _pipes(
        name,
        [api_socket],
        max_requests=max_requests,
        connection={"idle_timeout": f"{API_CONNECTION_IDLE_S}s"},
    )


def _pipes(name: str, sockets: list[Path], *, max_requests: int, connection: Json) -> Json:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"pipe": {"path": str(path)}}}} for path in sockets
                    ]
                }
            ],
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_requests": max_requests,
                    "max_connections": UNBOUNDED,
                    "max_pending_requests": UNBOUNDED,
                    "max_retries": UNBOUNDED,
                }
            ]
        },
        "typed_extension_protocol_options": {
            options: _typed(
                options,
                common_http_protocol_options=connection,
                explicit_http_config={"http_protocol_options": {}},
            )
        },
    }


# Routes


def _matcher(routes: Mapping[str, Route], limits: Limits) -> Json:
    post = _header_is(":method", {"exact": "POST"})
    length_allowed = _header_is("content-length", _regex(_LENGTH_ALLOWED))
    return _first(
        [
            (
                _all(post, length_allowed),
                {"matcher": _by_path(routes, limits, otherwise=_allowed_otherwise())},
            )
        ],
        otherwise={"matcher": _not_allowed(post)},
    )


def _by_path(routes: Mapping[str, Route], limits: Limits, *, otherwise: Json) -> Json:
    entries: Json = {}
    for deployment_id, route in sorted(routes.items()):
        entries[f"/{deployment_id}/predict"] = _go(_predict(route, limits))
        entries[f"/{deployment_id}/predictWithResponseStream"] = _go(_stream(route, limits))
    if not entries:
        # Envoy wants at least one entry.
        entries["/"] = _go(_refuse(404))
    return {
        "matcher_tree": {"input": _input(":path"), "exact_match_map": {"map": entries}},
        "on_no_match": otherwise,
    }


def _allowed_otherwise() -> Json:
    return {
        "matcher": _first(
            [
                (_path_is(_API_AT_ROOT), _go(_api())),
                (_path_is(_PREDICTION), _go(_look_again())),
                (_path_is(_API_ANYWHERE), _go(_api())),
            ],
            otherwise=_go(_refuse(404)),
        )
    }


def _not_allowed(post: Json) -> Json:
    """No POST, no content length, or too great a length: the control plane's, or refused."""
    has_length = _header_is("content-length", _regex(".*"))
    length_allowed = _header_is("content-length", _regex(_LENGTH_ALLOWED))
    too_large = _all(has_length, _not(length_allowed))
    return _first(
        [
            (_path_is(_API_AT_ROOT), _go(_api())),
            (_all(_not(_path_is(_PREDICTION)), _path_is(_API_ANYWHERE)), _go(_api())),
            (too_large, _go(_read_away(413))),
            (_all(_path_is(_PREDICTION), _not(post)), _go(_refuse(405))),
            (_all(post, _not(has_length)), _go(_refuse(411))),
        ],
        otherwise=_go(_refuse(404)),
    )


@lru_cache(CACHED)
def _predict(route: Route, limits: Limits) -> Json:
    times = {"timeout": f"{limits.predict_s}s", "idle_timeout": f"{limits.predict_s + 5}s"}
    return _served(route, times)


@lru_cache(CACHED)
def _stream(route: Route, limits: Limits) -> Json:
    times = {
        "timeout": "0s",
        "idle_timeout": f"{limits.stream_idle_s}s",
        "max_stream_duration": _at_most(UPLOAD_S + limits.stream_total_s),
    }
    return _served(route, times)


def _served(route: Route, times: Json) -> Json:
    return {
        "match": {"prefix": "/"},
        "route": {"cluster": route.cluster, **times},
        "typed_per_filter_config": _bandwidth(route.bandwidth_mbps),
    }


def _at_most(seconds: float) -> Json:
    """Time for a whole exchange; 0: unlimited."""
    return {"max_stream_duration": f"{seconds}s"}


def _bandwidth(mbps: int) -> Json:
    """Both directions are shaped to the provisioned rate; too great a backlog is refused.

    The backlog is counted in bytes of requests, by their content length, when they are whole.
    """
    rate = max(1, mbps * 1_000_000 // 8)
    return {
        _BANDWIDTH: _typed(
            "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit",
            stat_prefix="bandwidth",
            enable_mode="REQUEST_AND_RESPONSE",
            limit_kbps=max(1, rate // 1024),
        ),
        _RATE: _typed(
            "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            stat_prefix="rate",
            filter_enabled=_ALWAYS,
            filter_enforced=_ALWAYS,
            token_bucket=_tokens(UNBOUNDED, UNBOUNDED),
            rate_limits=[
                {
                    "actions": [{"generic_key": {"descriptor_value": "bytes"}}],
                    "hits_addend": {"format": "%REQ(content-length)%"},
                },
            ],
            descriptors=[
                {
                    "entries": [{"key": "generic_key", "value": "bytes"}],
                    "token_bucket": _tokens(max(BACKLOG_S * rate, MAX_BODY_BYTES), rate),
                }
            ],
        ),
        _COLLECT: _whole(),
    }


_ALWAYS: Json = {"default_value": {"numerator": 100}}


def _tokens(most: int, per_second: int) -> Json:
    return {
        "max_tokens": min(most, LARGEST_UINT32),
        "tokens_per_fill": min(per_second, LARGEST_UINT32),
        "fill_interval": "1s",
    }


def _whole() -> Json:
    return _typed(
        "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
        buffer={"max_request_bytes": MAX_BODY_BYTES},
    )


def _look_again() -> Json:
    """A 404, unless the deployment's id in the path leads to a route."""
    return {
        **_refuse(404),
        "typed_per_filter_config": {
            name: _typed("envoy.config.route.v3.FilterConfig", config={})
            for name in (_LUA, _RATE, _BANDWIDTH, _COLLECT)
        },
    }


def _api() -> Json:
    return {
        "match": {"prefix": "/"},
        "route": {
            "cluster": API_CLUSTER,
            "timeout": "0s",
            "idle_timeout": f"{API_IDLE_S}s",
            "max_stream_duration": _at_most(0),
        },
        "typed_per_filter_config": _unbuffered(),
    }


def _read_away(status: int) -> Json:
    return {
        "match": {"prefix": "/"},
        "route": {
            "cluster": REFUSALS_CLUSTER,
            "regex_rewrite": {
                "pattern": {"regex": ".*"},
                "substitution": f"{REFUSALS_PATH}{status}",
            },
            "timeout": "0s",
            "max_stream_duration": _at_most(UPLOAD_S),
        },
        "typed_per_filter_config": _unbuffered(),
    }


def _refuse(status: int) -> Json:
    return {"match": {"prefix": "/"}, "direct_response": {"status": status}}


def _unbuffered() -> Json:
    return {_BUFFER: _typed("envoy.config.route.v3.FilterConfig", disabled=True)}


def _retry_policy() -> Json:
    """Never a request that a copy may have begun: predictions need not be idempotent."""
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.1s"},
        "host_selection_retry_max_attempts": 3,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": _typed(
                    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                ),
            }
        ],
    }


# The language of matchers


def _first(cases: list[tuple[Json, Json]], *, otherwise: Json) -> Json:
    matchers = [{"predicate": predicate, "on_match": on_match} for predicate, on_match in cases]
    return {"matcher_list": {"matchers": matchers}, "on_no_match": otherwise}


def _go(route: Json) -> Json:
    return {
        "action": {"name": "go", "typed_config": _typed("envoy.config.route.v3.Route", **route)}
    }


def _path_is(regex: str) -> Json:
    return _header_is(":path", _regex(regex))


def _regex(regex: str) -> Json:
    return {"safe_regex": {"google_re2": {}, "regex": regex}}


def _header_is(header: str, value: Json) -> Json:
    return {"single_predicate": {"input": _input(header), "value_match": value}}


def _input(header: str) -> Json:
    return {
        "name": header,
        "typed_config": _typed(
            "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=header
        ),
    }


def _all(*predicates: Json) -> Json:
    return {"and_matcher": {"predicate": list(predicates)}}


def _not(predicate: Json) -> Json:
    return {"not_matcher": predicate}


def _typed(kind: str, **fields: Any) -> Json:
    return {"@type": _TYPE + kind, **fields}
