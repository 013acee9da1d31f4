"""One suite over every load balancer."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.envoy_server import running_envoy

from havre.balancer.base import Balancer
from havre.balancer.envoy.balancer import EnvoyBalancer
from havre.balancer.fake import FakeBalancer
from havre.domain.address import UnixAddress
from havre.domain.route import Endpoint, Route


def route(name: str, instance: str = "i1", **changes: int) -> Route:
    wanted = Route(
        f"ocid1.datasciencemodeldeployment.oc1.iad.{name}",
        "r1",
        (Endpoint(instance, UnixAddress(Path(f"/run/{instance}.sock"))),),
        max_requests=8,
        bandwidth_mbps=10,
    )
    return replace(wanted, **changes)


@pytest.fixture(scope="module", params=["fake", "envoy"])
def balancer(request: pytest.FixtureRequest) -> Iterator[Balancer]:
    if request.param == "fake":
        yield FakeBalancer()
        return
    with running_envoy() as server:
        real = EnvoyBalancer(server.home)
        real.start()
        yield real
        real.stop()


@pytest.fixture(autouse=True)
def _empty(balancer: Balancer) -> Iterator[None]:
    yield
    for deployment_id in balancer.deployments():
        balancer.withdraw(deployment_id)
        balancer.retire(deployment_id, alive=())


def test_a_published_route_is_current(balancer: Balancer) -> None:
    wanted = route("a")
    assert balancer.current(wanted.deployment_id) is None
    balancer.publish(wanted)
    assert balancer.current(wanted.deployment_id) == wanted
    assert balancer.deployments() == {wanted.deployment_id}


@pytest.mark.parametrize(
    "changed",
    [route("a", "i2"), route("a", bandwidth_mbps=20), route("a", max_requests=3)],
    ids=["endpoints", "bandwidth", "limit"],
)
def test_a_route_is_replaced(balancer: Balancer, changed: Route) -> None:
    balancer.publish(route("a"))
    balancer.publish(changed)
    assert balancer.current(changed.deployment_id) == changed
    balancer.publish(route("a"))
    assert balancer.current(changed.deployment_id) == route("a")


def test_withdrawing_is_idempotent(balancer: Balancer) -> None:
    wanted = route("a")
    balancer.withdraw(wanted.deployment_id)
    balancer.publish(wanted)
    balancer.withdraw(wanted.deployment_id)
    balancer.withdraw(wanted.deployment_id)
    assert balancer.current(wanted.deployment_id) is None
    assert balancer.deployments() == set()


def test_retiring_leaves_the_current_route_alone(balancer: Balancer) -> None:
    old, new = route("a", "i1"), route("a", "i2")
    balancer.retire(old.deployment_id, alive=())
    balancer.publish(old)
    balancer.publish(new)
    assert balancer.active_requests(["i1"]) == {"i1": 0}
    balancer.retire(old.deployment_id, alive=())
    balancer.retire(old.deployment_id, alive=())
    assert balancer.current(old.deployment_id) == new
    assert balancer.active_requests(["i1"]) == {"i1": 0}
    assert balancer.active_requests(["i2"]) == {"i2": 0}


def test_a_route_without_endpoints_is_a_route(balancer: Balancer) -> None:
    wanted = Route("ocid1.datasciencemodeldeployment.oc1.iad.e", "r1", (), 8, 10)
    balancer.publish(wanted)
    assert balancer.current(wanted.deployment_id) == wanted


def test_many_threads_publish_at_once(balancer: Balancer) -> None:
    wanted = [route(f"d{number}", f"i{number}") for number in range(32)]
    threads = [threading.Thread(target=balancer.publish, args=(each,)) for each in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [balancer.current(each.deployment_id) for each in wanted] == wanted


def test_what_is_confirmed_is_settled(balancer: Balancer) -> None:
    wanted = route("s")
    balancer.publish(wanted)
    assert balancer.is_settled(wanted.deployment_id)
    balancer.withdraw(wanted.deployment_id)
    assert balancer.is_settled(wanted.deployment_id)
