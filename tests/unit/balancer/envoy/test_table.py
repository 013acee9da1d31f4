import json
from dataclasses import replace
from pathlib import Path

from havre.balancer.envoy.table import ALIAS_S, RoutingTable
from havre.domain.address import TcpAddress, UnixAddress
from havre.domain.route import Endpoint, Route

A1 = Route("ocid1.a", "r1", (Endpoint("i1", UnixAddress(Path("/run/i1.sock"))),), 8, 10)
A2 = replace(A1, revision="r2", endpoints=(Endpoint("i2", UnixAddress(Path("/run/i2.sock"))),))
B1 = replace(A1, deployment_id="ocid1.b")
NOBODY: frozenset[str] = frozenset()
SERVING_A1 = RoutingTable().change({"ocid1.a": A1}).confirm()


def test_a_change_is_current_only_when_confirmed() -> None:
    changed = SERVING_A1.change({"ocid1.a": A2, "ocid1.b": B1})
    assert changed.confirmed("ocid1.a") == A1
    assert changed.confirmed("ocid1.b") is None
    assert changed.confirm().confirmed("ocid1.a") == A2
    assert changed.confirm().confirmed("ocid1.b") == B1


def test_what_was_confirmed_last_survives_several_unconfirmed_changes() -> None:
    changed = SERVING_A1.change({"ocid1.a": A2}).change({"ocid1.a": None})
    assert changed.confirmed("ocid1.a") == A1
    assert changed.deployments() == {"ocid1.a"}
    assert changed.confirm().deployments() == set()


def test_endpoints_stay_known_until_they_are_retired() -> None:
    table = SERVING_A1.change({"ocid1.a": A2}).confirm().change({"ocid1.a": None}).confirm()
    assert {route.cluster for route in table.needed()} == {A1.cluster, A2.cluster}
    assert table.retire({"ocid1.b": NOBODY}, now=0) == table
    assert table.retire({"ocid1.a": frozenset({"i1"})}, now=0).needed() == [A1]
    assert table.retire({"ocid1.a": NOBODY}, now=0).needed() == []


def test_scaling_out_and_in_for_years_leaves_nothing() -> None:
    table = SERVING_A1
    for number in range(3):
        more = replace(
            A1, endpoints=(*A1.endpoints, Endpoint(f"x{number}", UnixAddress(Path("/run/x.sock"))))
        )
        table = table.change({"ocid1.a": more}).confirm().change({"ocid1.a": A1}).confirm()
        draining = frozenset({"i1", f"x{number}"})
        assert table.retire({"ocid1.a": draining}, now=0).needed() == [A1, more]
        table = table.retire({"ocid1.a": frozenset({"i1"})}, now=0)
        assert table.retiring == {}


def test_what_was_stored_comes_back_whatever_the_kind_of_address() -> None:
    far = Endpoint("i3", TcpAddress("10.0.0.7", 80))
    table = SERVING_A1.change({"ocid1.b": replace(B1, endpoints=(*B1.endpoints, far))})
    assert RoutingTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_what_was_stored_when_there_were_sockets_alone_comes_back_by_its_name() -> None:
    stored = A1.to_json() | {"endpoints": [{"instance_id": "i1", "socket": "/run/i1.sock"}]}
    assert Route.from_json(stored) == A1
    assert A1.cluster == "3d02a60a0bbc2e365de0", "the clusters of a running home keep their names"


def test_going_back_retires_what_was_between() -> None:
    table = SERVING_A1.change({"ocid1.a": A2}).confirm().change({"ocid1.a": A1}).confirm()
    assert table.retire({"ocid1.a": NOBODY}, now=0).needed() == [A1]


def test_a_retired_cluster_leads_to_the_current_route_for_a_while() -> None:
    table = SERVING_A1.change({"ocid1.a": A2}).confirm().retire({"ocid1.a": NOBODY}, now=100)
    assert table.aliases_at(100) == {A1.cluster: A2}
    assert table.aliases_at(100 + ALIAS_S) == {}
    assert table.retire({}, now=100 + ALIAS_S).aliases == {}
    # Routed again it needs no alias, and without any route there is nothing to lead to.
    assert table.change({"ocid1.a": A1}).aliases_at(100) == {}
    assert table.change({"ocid1.a": None}).confirm().aliases_at(100) == {}
    assert RoutingTable.from_json(table.to_json()) == table


def test_other_bandwidth_retires_nothing() -> None:
    table = SERVING_A1.change({"ocid1.a": replace(A1, bandwidth_mbps=99)}).confirm()
    assert table.retiring == {}


def test_the_same_route_again_is_no_change() -> None:
    assert SERVING_A1.change({"ocid1.a": A1}) == SERVING_A1
    assert SERVING_A1.change({"ocid1.b": None}) == SERVING_A1


def test_a_route_table_can_be_stored() -> None:
    table = SERVING_A1.change({"ocid1.a": A2, "ocid1.b": B1}).confirm().change({"ocid1.a": None})
    assert RoutingTable.from_json(table.to_json()) == table
    assert RoutingTable.from_json(RoutingTable().to_json()) == RoutingTable()
