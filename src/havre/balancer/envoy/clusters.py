"""Where requests can go: a cluster per endpoint set, and the control plane."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from havre.balancer.envoy.resources import CACHED, UNBOUNDED, Json, Resources, response, typed
from havre.domain.address import Address, TcpAddress, UnixAddress
from havre.domain.route import Route

API_CLUSTER = "api"
REFUSALS_CLUSTER = "refusals"
CONNECT_TIMEOUT_S = 2
API_CONNECTION_IDLE_S = 3
"""The balancer, not the API (``service.KEEP_ALIVE_S``), closes idle connections."""
COPY_CONNECTION_IDLE_S = 0.5
"""The balancer, not the copies, closes idle connections. Well below the second after which a keeper
that drains cuts them (``havre_copy.connections.IDLE_GRACE_S``): so none is cut under a request."""
MAX_CONCURRENT_REFUSALS = 256
FAILURES_IN_A_ROW = 2
SET_ASIDE_S = 1.0


def clusters(
    routes: Iterable[Route], *, api_socket: Path, aliases: Mapping[str, Route] | None = None
) -> Resources:
    """The endpoint sets of these routes, live and retiring alike, and the control plane.

    ``aliases`` are further names for the endpoints of routes.
    """
    by_name = {**(aliases or {}), **{route.cluster: route for route in routes}}
    return response(
        "envoy.config.cluster.v3.Cluster",
        [
            _api_cluster(API_CLUSTER, api_socket, max_requests=UNBOUNDED),
            _api_cluster(REFUSALS_CLUSTER, api_socket, max_requests=MAX_CONCURRENT_REFUSALS),
            *(_cluster(name, by_name[name]) for name in sorted(by_name)),
        ],
    )


@lru_cache(CACHED)
def _cluster(name: str, route: Route) -> Json:
    """One endpoint per instance. The bound is on requests; connections and waiting follow it."""
    cluster = _static(
        name,
        [endpoint.address for endpoint in route.endpoints],
        max_requests=route.max_requests,
        connection={"idle_timeout": f"{COPY_CONNECTION_IDLE_S}s"},
    )
    if len(route.endpoints) > 1:
        cluster["load_balancing_policy"] = {
            "policies": [
                {
                    "typed_extension_config": {
                        "name": "envoy.load_balancing_policies.least_request",
                        "typed_config": typed(
                            "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
                            selection_method="FULL_SCAN",
                        ),
                    }
                }
            ]
        }
        cluster["outlier_detection"] = _ejection()
        cluster["common_lb_config"] = {
            # Above zero, so that with every instance set aside all are tried.
            "healthy_panic_threshold": {"value": 1},
            # Otherwise Envoy's threads learn a second late that one is set aside once more.
            "update_merge_window": "0s",
        }
    return cluster


def _ejection() -> Json:
    """An instance that died is set aside at once, before the reconciler has seen it and withdraws
    it. As long as it is there it has the fewest requests of all and is chosen first, by a retry
    too. Two failures in a row, so that the death of a copy, one reset, sets no instance aside; what
    a model responds, 500 too, does not count.
    """
    others = ("consecutive_5xx", "consecutive_gateway_failure", "success_rate")
    local = ("local_origin_success_rate", "failure_percentage", "failure_percentage_local_origin")
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": FAILURES_IN_A_ROW,
        "max_ejection_percent": 100,
        "base_ejection_time": f"{SET_ASIDE_S}s",
        "max_ejection_time": f"{SET_ASIDE_S}s",
        "interval": f"{SET_ASIDE_S / 2}s",
        **{f"enforcing_{detector}": 0 for detector in (*others, *local)},
    }


def _api_cluster(name: str, api_socket: Path, *, max_requests: int) -> Json:
    return _static(
        name,
        [UnixAddress(api_socket)],
        max_requests=max_requests,
        connection={"idle_timeout": f"{API_CONNECTION_IDLE_S}s"},
    )


def _static(
    name: str, addresses: Sequence[Address], *, max_requests: int, connection: Json
) -> Json:
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
                        {"endpoint": {"address": _address(address)}} for address in addresses
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
            options: typed(
                options,
                common_http_protocol_options=connection,
                # A stream that breaks off ends with a trailer that says so.
                explicit_http_config={"http_protocol_options": {"enable_trailers": True}},
            )
        },
    }


def _address(address: Address) -> Json:
    match address:
        case UnixAddress(path):
            return {"pipe": {"path": str(path)}}
        case TcpAddress(host, port):
            return {"socket_address": {"address": host, "port_value": port}}
