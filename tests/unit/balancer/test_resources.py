import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from havre.balancer import routing
from havre.balancer.clusters import COPY_CONNECTION_IDLE_S, clusters
from havre.balancer.resources import DEFAULT_LIMITS, Limits
from havre.balancer.routing import route_table
from havre.domain.route import Endpoint, Route
from havre.settings import load_settings
from havre_copy.connections import IDLE_GRACE_S

API = Path("/run/api.sock")
ONE = Route("ocid1.a", "r1", (Endpoint("i1", Path("/run/i1.sock")),), 8, 10)
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
    table = route_table({"ocid1.a": ONE, "ocid1.b": TWO}, DEFAULT_LIMITS)
    assert table == route_table({"ocid1.b": TWO, "ocid1.a": ONE}, DEFAULT_LIMITS)
    assert json.loads(table.text)["version_info"] == table.version
    assert table.version != route_table({"ocid1.a": ONE}, DEFAULT_LIMITS).version
    assert table.version != route_table({"ocid1.a": ONE, "ocid1.b": TWO}, Limits(9)).version


def test_other_bandwidth_needs_other_routes_but_no_other_clusters() -> None:
    wider = replace(ONE, bandwidth_mbps=80)
    assert clusters([ONE], api_socket=API) == clusters([wider], api_socket=API)
    assert (
        route_table({"ocid1.a": ONE}, DEFAULT_LIMITS).version
        != route_table({"ocid1.a": wider}, DEFAULT_LIMITS).version
    )


def test_a_cluster_is_told_once_however_often_it_is_needed() -> None:
    told = json.loads(clusters([ONE, TWO, ONE], api_socket=API).text)["resources"]
    names = [cluster["name"] for cluster in told]
    assert sorted(names) == sorted({"api", "refusals", ONE.cluster, TWO.cluster})


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
        route_table({"ocid1.a": replace(ONE, bandwidth_mbps=mbps)}, DEFAULT_LIMITS).text
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
    limits = Limits.behind(load_settings(tmp_path, environ={}))
    assert limits == DEFAULT_LIMITS
    assert limits.predict_s < 60, "the SDK gives up at 60 s"
