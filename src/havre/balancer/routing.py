"""Who gets what, by path.

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

from collections.abc import Mapping
from functools import lru_cache

from havre.balancer import bandwidth
from havre.balancer.access_log import DEPLOYMENT, NAMESPACE
from havre.balancer.clusters import API_CLUSTER, REFUSALS_CLUSTER
from havre.balancer.matching import (
    all_of,
    first,
    go,
    header_input,
    header_is,
    negation,
    path_is,
    regex_match,
)
from havre.balancer.resources import (
    BUFFER,
    CACHED,
    LUA,
    ORIGINAL_PATH,
    PREDICTION,
    ROUTES,
    UPLOAD_S,
    Json,
    Limits,
    Resources,
    echo_request_id,
    response,
    typed,
    whole_requests,
)
from havre.balancer.signatures import SIGNATURE, key_metadata
from havre.domain.route import Route

API_IDLE_S = 300
REFUSALS_PATH = "/_refused/"
"""Paths of the API that read a body away and answer: ``/_refused/413``."""

API_VERSIONS = ("20190101", "20180409", "20190909", "20200531", "20180401", "20160918")
_API_ROOTS = r"healthz|metrics|console|openapi\.json|docs"
_API_AT_ROOT = rf"/(?:{'|'.join(API_VERSIONS)}|{_API_ROOTS})(?:[/?].*)?"
_API_ANYWHERE = rf"[^?]*/(?:{'|'.join(API_VERSIONS)})(?:[/?].*)?|/+(?:{_API_ROOTS})(?:[/?].*)?"
# 0 to 10485760.
_LENGTH_ALLOWED = (
    r"0*(?:[0-9]{1,7}|10[0-3][0-9]{5}|104[0-7][0-9]{4}|1048[0-4][0-9]{3}"
    r"|10485[0-6][0-9]{2}|104857[0-5][0-9]|10485760)"
)


def route_table(
    routes: Mapping[str, Route], limits: Limits, keys: Mapping[str, str] | None = None
) -> Resources:
    """Who gets what, by path. With ``keys``, predictions must be signed by one of them."""
    return response(
        "envoy.config.route.v3.RouteConfiguration",
        [
            {
                "name": ROUTES,
                "response_headers_to_add": [echo_request_id()],
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        # Never a request that a copy may have begun, but where its owner says
                        # that predictions may be repeated.
                        "retry_policy": _retry_policy(_NOT_BEGUN, retries=2),
                        "typed_per_filter_config": {BUFFER: whole_requests()},
                        "matcher": _matcher(routes, limits, is_signed=keys is not None),
                        **({"metadata": key_metadata(keys)} if keys is not None else {}),
                    }
                ],
            }
        ],
    )


def _matcher(routes: Mapping[str, Route], limits: Limits, *, is_signed: bool) -> Json:
    post = header_is(":method", {"exact": "POST"})
    length_allowed = header_is("content-length", regex_match(_LENGTH_ALLOWED))
    return first(
        [
            (
                all_of(post, length_allowed),
                {"matcher": _by_path(routes, limits, is_signed=is_signed)},
            )
        ],
        otherwise={"matcher": _not_allowed(post)},
    )


def _by_path(routes: Mapping[str, Route], limits: Limits, *, is_signed: bool) -> Json:
    entries: Json = {}
    for deployment_id, route in sorted(routes.items()):
        entries[f"/{deployment_id}/predict"] = go(_predict(route, limits, is_signed))
        entries[f"/{deployment_id}/predictWithResponseStream"] = go(
            _stream(route, limits, is_signed)
        )
    if not entries:
        # Envoy wants at least one entry.
        entries["/"] = go(_refuse(404))
    return {
        "matcher_tree": {"input": header_input(":path"), "exact_match_map": {"map": entries}},
        "on_no_match": _allowed_otherwise(is_signed=is_signed),
    }


def _allowed_otherwise(*, is_signed: bool) -> Json:
    return {
        "matcher": first(
            [
                (path_is(_API_AT_ROOT), go(_api())),
                (path_is(PREDICTION), go(_look_again(is_signed=is_signed))),
                (path_is(_API_ANYWHERE), go(_api())),
            ],
            otherwise=go(_refuse(404)),
        )
    }


def _not_allowed(post: Json) -> Json:
    """No POST, no content length, or too great a length: the control plane's, or refused."""
    has_length = header_is("content-length", regex_match(".*"))
    length_allowed = header_is("content-length", regex_match(_LENGTH_ALLOWED))
    too_large = all_of(has_length, negation(length_allowed))
    return first(
        [
            (path_is(_API_AT_ROOT), go(_api())),
            (all_of(negation(path_is(PREDICTION)), path_is(_API_ANYWHERE)), go(_api())),
            (too_large, go(_read_away(413))),
            (all_of(path_is(PREDICTION), negation(post)), go(_refuse(405))),
            (all_of(post, negation(has_length)), go(_refuse(411))),
        ],
        otherwise=go(_refuse(404)),
    )


@lru_cache(CACHED)
def _predict(route: Route, limits: Limits, is_signed: bool) -> Json:
    manner: Json = {"timeout": f"{limits.predict_s}s", "idle_timeout": f"{limits.predict_s + 5}s"}
    if route.is_idempotent:
        manner["retry_policy"] = _retry_policy(f"{_NOT_BEGUN},reset", retries=1)
    return _served(route, manner, is_signed=is_signed)


@lru_cache(CACHED)
def _stream(route: Route, limits: Limits, is_signed: bool) -> Json:
    manner = {
        "timeout": "0s",
        "idle_timeout": f"{limits.stream_idle_s}s",
        "max_stream_duration": _at_most(UPLOAD_S + limits.stream_total_s),
    }
    return _served(route, manner, is_signed=is_signed)


def _served(route: Route, manner: Json, *, is_signed: bool) -> Json:
    return {
        "match": {"prefix": "/"},
        "route": {**_clusters(route), **manner},
        "metadata": {"filter_metadata": {NAMESPACE: {DEPLOYMENT: route.deployment_id}}},
        "typed_per_filter_config": {
            **bandwidth.on(route.bandwidth_mbps),
            **({SIGNATURE: _on()} if is_signed else {}),
        },
    }


def _clusters(route: Route) -> Json:
    """Where a request goes: drawn by lot while a canary has a share."""
    if route.canary is None:
        return {"cluster": route.cluster}
    serving, canary = route.parts
    percent = route.canary.percent
    return {
        "weighted_clusters": {
            "clusters": [
                {"name": serving.cluster, "weight": 100 - percent},
                {"name": canary.cluster, "weight": percent},
            ]
        }
    }


def _at_most(seconds: float) -> Json:
    """Time for a whole exchange; 0: unlimited."""
    return {"max_stream_duration": f"{seconds}s"}


def _look_again(*, is_signed: bool) -> Json:
    """A 404, unless the deployment's id in the path leads to a route."""
    return {
        **_refuse(404),
        "typed_per_filter_config": {
            name: _on() for name in (LUA, *bandwidth.NAMES, *([SIGNATURE] if is_signed else []))
        },
    }


def _on() -> Json:
    return typed("envoy.config.route.v3.FilterConfig", config={})


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
        # Told to the access log: by then the path is the one that it was rewritten to.
        "request_headers_to_add": [{"header": {"key": ORIGINAL_PATH, "value": "%REQ(:PATH)%"}}],
        "typed_per_filter_config": _unbuffered(),
    }


def _refuse(status: int) -> Json:
    return {"match": {"prefix": "/"}, "direct_response": {"status": status}}


def _unbuffered() -> Json:
    return {BUFFER: typed("envoy.config.route.v3.FilterConfig", disabled=True)}


_NOT_BEGUN = "connect-failure,refused-stream,reset-before-request"


def _retry_policy(conditions: str, *, retries: int) -> Json:
    return {
        "retry_on": conditions,
        "num_retries": retries,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.1s"},
        "host_selection_retry_max_attempts": 3,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed(
                    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                ),
            }
        ],
    }
