"""What the load balancer knows before it has spoken with Envoy."""

import json
from pathlib import Path

from havre.balancer.envoy.balancer import EnvoyBalancer
from havre.balancer.envoy.files import Files
from havre.balancer.envoy.table import RoutingTable
from havre.domain.address import UnixAddress
from havre.domain.route import Endpoint, Route
from havre.home import Home

CONFIRMED = Route("ocid1.d", "r1", (Endpoint("i1", UnixAddress(Path("/run/i1.sock"))),), 8, 10)
LATE = Route("ocid1.late", "r1", (Endpoint("i2", UnixAddress(Path("/run/i2.sock"))),), 8, 10)


def test_what_an_earlier_control_plane_did_not_see_confirmed_is_not_settled(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    left = RoutingTable().change({CONFIRMED.deployment_id: CONFIRMED}).confirm()
    left = left.change({LATE.deployment_id: LATE})
    Files(home).routing_table.write_text(json.dumps(left.to_json()))
    balancer = EnvoyBalancer(home)
    assert balancer.is_settled(CONFIRMED.deployment_id)
    assert not balancer.is_settled(LATE.deployment_id)
    assert balancer.current(LATE.deployment_id) is None
