"""Storms, clients that hang up, and streams that break off: a real Envoy and real copies."""

import http.client
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.copy_instance import Instance, in_background
from tests.support.envoy_server import DEADLINE_S, EnvoyServer, envoy, wait_until  # noqa: F401

from havre.balancer.envoy.balancer import EnvoyBalancer
from havre.domain.address import UnixAddress
from havre.domain.ocid import Kind, new_ocid
from havre.domain.route import Endpoint, Route

SCORE = """
import os, time
def predict(data):
    if isinstance(data, str):
        open(data + ".begun", "w").close()
        while not os.path.exists(data):
            time.sleep(0.01)
    else:
        time.sleep(data)
    return data
"""
BREAKS_OFF = """
def predict(data):
    yield "ab"
    raise ValueError("boom")
"""
MOST = 8
ATTEMPTS = 10


class Call(NamedTuple):
    caller: int
    status: int


@pytest.fixture
def balancer(envoy: EnvoyServer) -> Iterator[EnvoyBalancer]:  # noqa: F811
    balancer = EnvoyBalancer(envoy.home)
    balancer.start()
    yield balancer
    balancer.stop()


def publish(balancer: EnvoyBalancer, instance: Instance, *, most: int = MOST) -> str:
    deployment_id = new_ocid(Kind.DEPLOYMENT)
    endpoints = (Endpoint("instance", UnixAddress(Path(instance.socket_path))),)
    balancer.publish(Route(deployment_id, "r1", endpoints, most, 1000))
    return f"/{deployment_id}/predict"


def post(port: int, path: str, data: float | str = 0) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    client.request("POST", path, json.dumps(data), {"content-type": "application/json"})
    return client.getresponse()


@pytest.fixture
def long_idle_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds for which the balancer keeps connections here: more than anybody stands still."""
    monkeypatch.setattr("havre.balancer.envoy.clusters.COPY_CONNECTION_IDLE_S", 8.0)
    return 8.0


def connections(instance: Instance) -> int:
    """How many the keeper has from the balancer: they get the highest numbers."""
    numbers = map(int, os.listdir(f"/proc/{instance.process.pid}/fd"))
    return sum(number > 1000 for number in numbers)


@pytest.mark.parametrize("hang_up", [False, True])
def test_a_storm_leaves_the_copies_free(
    launch,
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
    long_idle_s: float,
    hang_up: bool,
) -> None:
    """Each refused request has had a connection made for it, which nothing is sent on."""
    instance = launch(SCORE, copies=1).ready()
    target = publish(balancer, instance)
    head = f"POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: 4\r\n\r\n0.01".encode()
    began = time.monotonic()
    clients = [socket.create_connection(("127.0.0.1", envoy.port)) for _ in range(64)]
    for client in clients:
        client.sendall(request)
    wait_until(lambda: instance.ask("status")["answered"] > 0)
    for client in clients:
        if not hang_up:
            assert client.recv(65536).split(b" ")[1] in (b"200", b"429")
        client.close()
    # Those that have hung up are in the way until the balancer has seen it.
    wait_until(lambda: balancer.active_requests(["instance"]) == {"instance": 0})
    for _ in range(5):
        assert post(envoy.port, target).read() == b"0"
    # No copy waited at a connection that says nothing until that was closed. Looked at later, they
    # may have been closed meanwhile.
    if time.monotonic() - began < long_idle_s:
        assert connections(instance) > 1
    wait_until(lambda: connections(instance) == 0)


def test_connections_are_kept_between_requests_and_closed_by_the_balancer(
    launch,
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
    long_idle_s: float,
) -> None:
    instance = launch(SCORE).ready()
    target = publish(balancer, instance)
    client = http.client.HTTPConnection("127.0.0.1", envoy.port, timeout=DEADLINE_S)
    for _ in range(ATTEMPTS):
        began = time.monotonic()
        for _ in range(50):
            client.request("POST", target, b"0", {"content-type": "application/json"})
            assert client.getresponse().read() == b"0"
        kept = connections(instance)
        # Looked at later, it may have been closed meanwhile.
        if time.monotonic() - began < long_idle_s:
            assert kept == 1
            break
    else:
        pytest.fail("no try was over before connections are closed")
    wait_until(lambda: connections(instance) == 0)
    assert post(envoy.port, target).status == 200


@contextmanager
def callers(port: int, target: str, *, seconds: float, number: int) -> Iterator[list[Call]]:
    """Clients that call one after the other, each on a connection of its own, until the end."""
    stop = threading.Event()
    calls: list[Call] = []

    def call(caller: int) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        body = json.dumps(seconds).encode()
        while not stop.is_set():
            client.request("POST", target, body, {"content-type": "application/json"})
            answer = client.getresponse()
            answer.read()
            calls.append(Call(caller, answer.status))

    ends = [in_background(partial(call, caller)) for caller in range(number)]
    try:
        yield calls
    finally:
        stop.set()
        assert [end() for end in ends] == [None] * number


def test_no_request_waits_behind_a_slow_one_while_a_copy_is_idle(
    launch,
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
) -> None:
    instance = launch(SCORE).ready()
    target = publish(balancer, instance)
    with callers(envoy.port, target, seconds=0.01, number=3) as calls:
        for name in ("first", "second"):
            enough = instance.folder / name
            slow = in_background(lambda: post(envoy.port, target, str(enough)).status)  # noqa: B023
            wait_until((instance.folder / f"{name}.begun").exists)
            before = len(calls)

            def have_all_been_served(before: int = before) -> bool:
                served = Counter(call.caller for call in calls[before:])
                return len(served) == 3 and min(served.values()) > 30

            # One copy serves three callers meanwhile: whoever waited behind the slow one would
            # be served no more.
            wait_until(have_all_been_served)
            enough.touch()
            assert slow() == 200
    assert {call.status for call in calls} == {200}


def test_a_request_that_overlaps_a_drain_is_answered(
    launch,
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
) -> None:
    """An instance is stopped though it is still routed to: new ones are refused, none is cut."""
    instance = launch(SCORE).ready()
    target = publish(balancer, instance)
    with callers(envoy.port, target, seconds=0.005, number=4) as calls:
        wait_until(lambda: len(calls) > 50)
        instance.process.terminate()
        assert instance.process.wait(DEADLINE_S) == 0
        wait_until(lambda: calls[-1].status == 503)
    assert {call.status for call in calls} == {200, 503}


def test_the_trailer_of_a_broken_stream_reaches_the_client(
    launch,
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
) -> None:
    instance = launch(BREAKS_OFF).ready()
    target = publish(balancer, instance) + "WithResponseStream"
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=DEADLINE_S) as client:
        head = f"POST {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        client.sendall(head.encode() + b"content-length: 2\r\n\r\n{}")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"streamfailure: ValueError: boom" in answer
