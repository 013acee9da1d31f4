"""Who gets what, by path.

* A request with the form of a prediction (POST, a content length of at most 10 MiB, or none: it is
  chunked then, or HTTP/2) is looked up by its whole path in one hash map, so its cost does not grow
  with the number of deployments.
* What the map does not have, but looks like a prediction (a path prefix, doubled slashes, a suffix,
  a query), is rewritten to the map's form by a few lines of Lua and looked up again.
* Everything else is the control plane's, or is refused.
* Before all that, a server that asks for no signatures turns away what web pages send (``guard``).

Each refusal waits for the end of the request's body (the ``buffer`` filter), because an HTTP/1
server that responds earlier must close the connection, and a client that is still sending then sees
a broken pipe instead of the response. The filter also counts a chunked body, so that a copy gets
its length. Only a body that states that it is too large is not held: it goes to the control plane's
refusals, which drain it in constant memory.
"""

from collections.abc import Mapping
from functools import lru_cache

from havre.balancer.base import OpenTo, Timeouts
from havre.balancer.envoy import bandwidth
from havre.balancer.envoy.access_log import DEPLOYMENT, NAMESPACE
from havre.balancer.envoy.clusters import API_CLUSTER, REFUSALS_CLUSTER
from havre.balancer.envoy.guard import strangers
from havre.balancer.envoy.matching import (
    all_of,
    any_of,
    first,
    header_input,
    header_is,
    negation,
    path_is,
    regex_match,
    route_to,
)
from havre.balancer.envoy.resources import (
    API_ANYWHERE,
    API_AT_ROOT,
    BUFFER,
    CACHED,
    LUA,
    PREDICTION,
    ROUTES,
    UPLOAD_S,
    Json,
    Resources,
    echo_request_id,
    response,
    typed,
    whole_requests,
)
from havre.balancer.envoy.signatures import SIGNATURE, key_metadata
from havre.balancer.refusals import REFUSAL_HEADER, REFUSALS, TOO_LARGE
from havre.domain.route import Route

API_IDLE_S = 300
# 0 to 10485760.
_LENGTH_ALLOWED = (
    r"0*(?:[0-9]{1,7}|10[0-3][0-9]{5}|104[0-7][0-9]{4}|1048[0-4][0-9]{3}"
    r"|10485[0-6][0-9]{2}|104857[0-5][0-9]|10485760)"
)


def route_configuration(
    routes: Mapping[str, Route],
    timeouts: Timeouts,
    keys: Mapping[str, str] | None = None,
    *,
    open_to: OpenTo = OpenTo(),
) -> Resources:
    """Who gets what, by path. With ``keys``, predictions must be signed by one of them; without,
    requests must come from those that the server is open to.
    """
    turned_away = strangers(open_to) if keys is None else []
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
                        "retry_policy": _retry_policy(_NOT_BEGUN, retries=RETRIES),
                        "typed_per_filter_config": {BUFFER: whole_requests()},
                        "matcher": _matcher(
                            routes, timeouts, turned_away, is_signed=keys is not None
                        ),
                        **({"metadata": key_metadata(keys)} if keys is not None else {}),
                    }
                ],
            }
        ],
    )


def _matcher(
    routes: Mapping[str, Route],
    timeouts: Timeouts,
    turned_away: list[tuple[Json, str]],
    *,
    is_signed: bool,
) -> Json:
    post = header_is(":method", {"exact": "POST"})
    return first(
        [
            *((who, {"matcher": _turn_away(refusal)}) for who, refusal in turned_away),
            (
                all_of(post, negation(_too_large())),
                {"matcher": _by_path(routes, timeouts, is_signed=is_signed)},
            ),
        ],
        otherwise={"matcher": _not_allowed(post)},
    )


def _by_path(routes: Mapping[str, Route], timeouts: Timeouts, *, is_signed: bool) -> Json:
    entries: Json = {}
    for deployment_id, route in sorted(routes.items()):
        entries[f"/{deployment_id}/predict"] = route_to(_predict(route, timeouts, is_signed))
        entries[f"/{deployment_id}/predictWithResponseStream"] = route_to(
            _stream(route, timeouts, is_signed)
        )
    if not entries:
        # Envoy wants at least one entry.
        entries["/"] = route_to(_refuse(404))
    return {
        "matcher_tree": {"input": header_input(":path"), "exact_match_map": {"map": entries}},
        "on_no_match": _allowed_otherwise(is_signed=is_signed),
    }


def _allowed_otherwise(*, is_signed: bool) -> Json:
    return {
        "matcher": first(
            [
                (path_is(API_AT_ROOT), route_to(_api())),
                (path_is(PREDICTION), route_to(_rewrite(is_signed=is_signed))),
                (path_is(API_ANYWHERE), route_to(_api())),
            ],
            otherwise=route_to(_refuse(404)),
        )
    }


def _not_allowed(post: Json) -> Json:
    """No POST, or too great a length: the control plane's, or refused."""
    return first(
        [
            (path_is(API_AT_ROOT), route_to(_api())),
            (all_of(negation(path_is(PREDICTION)), path_is(API_ANYWHERE)), route_to(_api())),
            (_too_large(), route_to(_drain(TOO_LARGE))),
            (all_of(path_is(PREDICTION), negation(post)), route_to(_refuse(405))),
        ],
        otherwise=route_to(_refuse(404)),
    )


def _turn_away(refusal: str) -> Json:
    """What may be long is drained, so that its sender sees the response."""
    may_be_chunked = all_of(
        header_is(":method", regex_match("POST|PUT|PATCH")),
        negation(header_is("content-length", _ANY)),
    )
    return first(
        [(any_of(may_be_chunked, _too_large()), route_to(_drain(refusal)))],
        otherwise=route_to(_refuse(REFUSALS[refusal].status, REFUSALS[refusal].message)),
    )


def _too_large() -> Json:
    length_allowed = header_is("content-length", regex_match(_LENGTH_ALLOWED))
    return all_of(header_is("content-length", _ANY), negation(length_allowed))


_ANY = regex_match(".*")


@lru_cache(CACHED)
def _predict(route: Route, timeouts: Timeouts, is_signed: bool) -> Json:
    timing: Json = {
        "timeout": f"{timeouts.predict_s}s",
        "idle_timeout": f"{timeouts.predict_s + 5}s",
    }
    if route.is_idempotent:
        # One for all reasons together: Envoy counts no reason apart, and each may kill a copy.
        timing["retry_policy"] = _retry_policy(f"{_NOT_BEGUN},reset", retries=1)
    return _served(route, timing, is_signed=is_signed)


@lru_cache(CACHED)
def _stream(route: Route, timeouts: Timeouts, is_signed: bool) -> Json:
    timing = {
        "timeout": "0s",
        "idle_timeout": f"{timeouts.stream_idle_s}s",
        "max_stream_duration": _max_duration(UPLOAD_S + timeouts.stream_total_s),
    }
    return _served(route, timing, is_signed=is_signed)


def _served(route: Route, timing: Json, *, is_signed: bool) -> Json:
    return {
        "match": {"prefix": "/"},
        "route": {**_clusters(route), **timing},
        "metadata": {
            "filter_metadata": {
                NAMESPACE: {DEPLOYMENT: route.deployment_id},
                **bandwidth.metadata(route.bandwidth_mbps),
            }
        },
        "typed_per_filter_config": {
            **bandwidth.on(route.bandwidth_mbps),
            **({SIGNATURE: _on()} if is_signed else {}),
        },
    }


def _clusters(route: Route) -> Json:
    """Where a request goes: assigned at random while a canary has a share."""
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


def _max_duration(seconds: float) -> Json:
    """Time for a whole exchange; 0: unlimited."""
    return {"max_stream_duration": f"{seconds}s"}


def _rewrite(*, is_signed: bool) -> Json:
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
            "max_stream_duration": _max_duration(0),
        },
        "typed_per_filter_config": _unbuffered(),
    }


def _drain(refusal: str) -> Json:
    return {
        "match": {"prefix": "/"},
        "route": {
            "cluster": REFUSALS_CLUSTER,
            "timeout": "0s",
            "max_stream_duration": _max_duration(UPLOAD_S),
        },
        "request_headers_to_add": [{"header": {"key": REFUSAL_HEADER, "value": refusal}}],
        "typed_per_filter_config": _unbuffered(),
    }


def _refuse(status: int, message: str = "") -> Json:
    body = {"body": {"inline_string": message}} if message else {}
    return {"match": {"prefix": "/"}, "direct_response": {"status": status, **body}}


def _unbuffered() -> Json:
    return {BUFFER: typed("envoy.config.route.v3.FilterConfig", disabled=True)}


_NOT_BEGUN = "connect-failure,refused-stream,reset-before-request"
RETRIES = 5
"""Of what no copy has begun. Two attempts set an instance that died aside
(``clusters.FAILURES_IN_A_ROW``), but Envoy's main thread has to pass that on: where it is kept from
running, further ones meet the same instance.
"""


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
