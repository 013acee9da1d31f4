from pathlib import Path

import pytest

from havre.balancer.fake import FakeBalancer
from havre.domain.address import UnixAddress
from havre.domain.errors import Unavailable
from havre.domain.route import Endpoint, Route

ROUTE = Route("ocid1.d", "r1", (Endpoint("i1", UnixAddress(Path("/run/i1.sock"))),), 8, 10)


def test_every_live_table_is_remembered_once() -> None:
    balancer = FakeBalancer()
    balancer.publish(ROUTE)
    balancer.publish(ROUTE)
    balancer.withdraw(ROUTE.deployment_id)
    assert balancer.tables == [{ROUTE.deployment_id: ROUTE}, {}]


@pytest.mark.parametrize("live", [True, False])
def test_scripted_failures_raise_and_say_nothing_of_what_is_live(live: bool) -> None:
    balancer = FakeBalancer()
    balancer.fail_next(2, live=live)
    for _ in range(2):
        with pytest.raises(Unavailable):
            balancer.publish(ROUTE)
    assert (balancer.current(ROUTE.deployment_id) is not None) is live
    balancer.publish(ROUTE)
    assert balancer.current(ROUTE.deployment_id) == ROUTE


def test_requests_are_held_until_released() -> None:
    balancer = FakeBalancer()
    balancer.hold_requests("i1", 2)
    assert balancer.active_requests(["i1"]) == {"i1": 2}
    balancer.hold_requests("i1", 0)
    assert balancer.active_requests(["i1"]) == {"i1": 0}
