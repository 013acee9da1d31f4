import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from havre.balancer.base import DEFAULT_TIMEOUTS, Timeouts
from havre.balancer.envoy import routing
from havre.balancer.envoy.clusters import COPY_CONNECTION_IDLE_S, clusters
from havre.balancer.envoy.routing import route_configuration
from havre.domain.address import TcpAddress, UnixAddress
from havre.domain.route import Endpoint, Route
from havre.settings import load_settings
from havre_copy.connections import IDLE_GRACE_S

API = Path("/run/api.sock")
ONE = Route("ocid1.a", "r1", (Endpoint("i1", UnixAddress(Path("/run/i1.sock"))),), 8, 10)
TWO = replace(ONE, deployment_id="ocid1.b")


def found(content: Any, key: str) -> list[Any]:
    """Every value of this key, at any depth."""
    if isinstance(content, list):
        return [value for each in content for value in found(each, key)]
    if not isinstance(content, dict):
        return []
    here = [content[key]] if key in content else []
    return here + [value for each in content.values() for value in found(each, key)]


def test_the_version_tells_contents_apart_and_nothing_else() -> None:
    table = route_configuration({"ocid1.a": ONE, "ocid1.b": TWO}, DEFAULT_TIMEOUTS)
    assert table == route_configuration({"ocid1.b": TWO, "ocid1.a": ONE}, DEFAULT_TIMEOUTS)
    assert json.loads(table.text)["version_info"] == table.version
    assert table.version != route_configuration({"ocid1.a": ONE}, DEFAULT_TIMEOUTS).version
    assert (
        table.version != route_configuration({"ocid1.a": ONE, "ocid1.b": TWO}, Timeouts(9)).version
    )


def test_other_bandwidth_needs_other_routes_but_no_other_clusters() -> None:
    wider = replace(ONE, bandwidth_mbps=80)
    assert clusters([ONE], api_socket=API) == clusters([wider], api_socket=API)
    assert (
        route_configuration({"ocid1.a": ONE}, DEFAULT_TIMEOUTS).version
        != route_configuration({"ocid1.a": wider}, DEFAULT_TIMEOUTS).version
    )


def test_a_cluster_is_told_once_however_often_it_is_needed() -> None:
    told = json.loads(clusters([ONE, TWO, ONE], api_socket=API).text)["resources"]
    names = [cluster["name"] for cluster in told]
    assert sorted(names) == sorted({"api", "refusals", ONE.cluster, TWO.cluster})


def test_endpoints_may_be_sockets_and_ports() -> None:
    far = (Endpoint("i2", TcpAddress("10.0.0.7", 8080)), Endpoint("i3", TcpAddress("::1", 80)))
    mixed = replace(ONE, endpoints=(*ONE.endpoints, *far))
    told = json.loads(clusters([mixed], api_socket=API).text)["resources"]
    (cluster,) = (each for each in told if each["name"] == mixed.cluster)
    (group,) = cluster["load_assignment"]["endpoints"]
    assert [each["endpoint"]["address"] for each in group["lb_endpoints"]] == [
        {"pipe": {"path": "/run/i1.sock"}},
        {"socket_address": {"address": "10.0.0.7", "port_value": 8080}},
        {"socket_address": {"address": "::1", "port_value": 80}},
    ]


def test_a_cluster_bounds_requests_and_nothing_else() -> None:
    told = json.loads(clusters([ONE], api_socket=API).text)["resources"]
    (cluster,) = (each for each in told if each["name"] == ONE.cluster)
    (bounds,) = cluster["circuit_breakers"]["thresholds"]
    assert bounds.pop("max_requests") == ONE.max_requests
    assert min(bounds.values()) >= 1_000_000
    # Connections are kept: who closes one under a request loses it, so it is never the copy.
    assert found(cluster, "max_requests_per_connection") == []
    assert found(cluster, "idle_timeout") == [f"{COPY_CONNECTION_IDLE_S}s"]
    assert 2 * COPY_CONNECTION_IDLE_S <= IDLE_GRACE_S


@pytest.mark.parametrize("mbps", [0, 1, 10, 100_000, 10**9])
def test_any_bandwidth_fits_the_fields_of_envoy(mbps: int) -> None:
    table = json.loads(
        route_configuration({"ocid1.a": replace(ONE, bandwidth_mbps=mbps)}, DEFAULT_TIMEOUTS).text
    )
    for key, bits in (("max_tokens", 32), ("tokens_per_fill", 32), ("limit_kbps", 64)):
        assert all(0 < value < 2**bits for value in found(table, key))


@pytest.mark.parametrize(
    ("length", "allowed"),
    [
        ("0", True),
        ("1", True),
        ("9999999", True),
        ("10000000", True),
        ("10399999", True),
        ("10479999", True),
        ("10485759", True),
        ("10485760", True),
        ("0010485760", True),
        ("10485761", False),
        ("10485800", False),
        ("10490000", False),
        ("10500000", False),
        ("11000000", False),
        ("20000000", False),
        ("100000000", False),
        ("", False),
        ("-1", False),
        ("1e3", False),
    ],
)
def test_the_largest_content_length(length: str, allowed: bool) -> None:
    assert bool(re.fullmatch(routing._LENGTH_ALLOWED, length)) is allowed


def test_limits_are_a_little_behind_the_settings(tmp_path: Path) -> None:
    timeouts = Timeouts.behind(load_settings(tmp_path, environ={}))
    assert timeouts == DEFAULT_TIMEOUTS
    assert timeouts.predict_s < 60, "the SDK gives up at 60 s"
