"""A server whose load balancer cannot watch its files: whoever dies, the feed tells it anew."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.matrix.rows import Row
from tests.matrix.server import MatrixServer
from tests.support.supervisor_harness import runs, wait_until

from havre.balancer.envoy.process import FEED
from havre.domain.errors import HavreError
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE

NO_INOTIFY = Row("no inotify", "root", ("no inotify",))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs as root")


@pytest.fixture
def server(environments: Path) -> Iterator[MatrixServer]:
    server = MatrixServer(NO_INOTIFY, environments)
    try:
        server.up()
        yield server
    finally:
        server.close()


def kill(server: MatrixServer, name: str) -> None:
    pid = server.pid(name)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not runs(pid), f"the end of {name}")


def serves(server: MatrixServer, deployment: str) -> bool:
    try:
        return bool(server.predict(deployment, 1))
    except (HavreError, httpx.HTTPError):
        return False


def test_it_lives_through_deaths_of_the_balancer_and_of_the_feed(server: MatrixServer) -> None:
    deployment, _ = server.deploy()
    control_plane = server.pid(CONTROL_PLANE)
    os.kill(control_plane, signal.SIGSTOP)
    try:
        kill(server, BALANCER)
        wait_until(lambda: serves(server, deployment), "a balancer that learnt from the feed")
    finally:
        os.kill(control_plane, signal.SIGCONT)
    kill(server, FEED)
    assert server.predict(deployment, 3)["prediction"] == 3
    server.swap(deployment)
    assert server.predict(deployment, 3)["prediction"] == 6


def test_once_it_asks_it_goes_on_asking(server: MatrixServer) -> None:
    """Where inotify is to be had again: a balancer that runs knows no other source."""
    deployment, _ = server.deploy()
    balancer = server.pid(BALANCER)
    done = server.havre("up", machine={})
    assert "runs already" in done.stdout
    server.swap(deployment)
    assert server.predict(deployment, 3)["prediction"] == 6
    assert server.pid(BALANCER) == balancer
