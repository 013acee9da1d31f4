"""Storms, clients that hang up, and streams that break off: a real Envoy and real copies."""

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.copy_instance import Instance, in_background
from tests.support.envoy_server import EnvoyServer, envoy, wait_until  # noqa: F401

from havre.balancer.envoy.balancer import EnvoyBalancer
from havre.balancer.envoy.clusters import COPY_CONNECTION_IDLE_S
from havre.domain.address import UnixAddress
from havre.domain.ocid import Kind, new_ocid
from havre.domain.route import Endpoint, Route

SCORE = """
import time
def predict(data):
    time.sleep(data)
    return data
"""
BREAKS_OFF = """
def predict(data):
    yield "ab"
    raise ValueError("boom")
"""
MOST = 8


class Call(NamedTuple):
    status: int
    took_s: float


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


def post(port: int, path: str, seconds: float = 0) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("POST", path, json.dumps(seconds), {"content-type": "application/json"})
    return client.getresponse()


def connections(instance: Instance) -> int:
    """How many the keeper has from the balancer: they get the highest numbers."""
    numbers = map(int, os.listdir(f"/proc/{instance.process.pid}/fd"))
    return sum(number > 1000 for number in numbers)


@pytest.mark.parametrize("hang_up", [False, True])
def test_a_storm_leaves_the_copies_free(
    launch,
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
    hang_up: bool,
) -> None:
    """Each refused request has had a connection made for it, which nothing is sent on."""
    instance = launch(SCORE, copies=1).ready()
    target = publish(balancer, instance)
    head = f"POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: 4\r\n\r\n0.01".encode()
    clients = [socket.create_connection(("127.0.0.1", envoy.port)) for _ in range(64)]
    for client in clients:
        client.sendall(request)
    wait_until(lambda: instance.ask("status")["answered"] > 0)
    for client in clients:
        if not hang_up:
            assert client.recv(65536).split(b" ")[1] in (b"200", b"429")
        client.close()
    began = time.monotonic()
    for _ in range(5):
        assert post(envoy.port, target).read() == b"0"
    # No copy waits at a connection that says nothing.
    assert time.monotonic() - began < 5
    wait_until(lambda: connections(instance) == 0)


def test_connections_are_kept_between_requests_and_closed_by_the_balancer(
    launch,
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
) -> None:
    instance = launch(SCORE).ready()
    target = publish(balancer, instance)
    client = http.client.HTTPConnection("127.0.0.1", envoy.port, timeout=30)
    began = time.monotonic()
    for _ in range(50):
        client.request("POST", target, b"0", {"content-type": "application/json"})
        assert client.getresponse().read() == b"0"
    if time.monotonic() - began < COPY_CONNECTION_IDLE_S:
        assert connections(instance) == 1
    wait_until(lambda: connections(instance) == 0)
    assert post(envoy.port, target).status == 200


@contextmanager
def callers(port: int, target: str, *, seconds: float, number: int) -> Iterator[list[Call]]:
    """Clients that call one after the other, each on a connection of its own, until the end."""
    stop = threading.Event()
    calls: list[Call] = []

    def call() -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = json.dumps(seconds).encode()
        while not stop.is_set():
            began = time.monotonic()
            client.request("POST", target, body, {"content-type": "application/json"})
            answer = client.getresponse()
            answer.read()
            calls.append(Call(answer.status, time.monotonic() - began))

    ends = [in_background(call) for _ in range(number)]
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
    target = publish(balancer, launch(SCORE).ready())
    with callers(envoy.port, target, seconds=0.01, number=3) as calls:
        for _ in range(2):
            assert post(envoy.port, target, 1.0).status == 200
    assert {call.status for call in calls} == {200}
    # One copy serves three callers meanwhile: 30 ms each, not the second of the slow one.
    assert max(call.took_s for call in calls) < 0.8


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
        assert instance.process.wait(20) == 0
        wait_until(lambda: calls[-1].status == 503)
    assert {call.status for call in calls} == {200, 503}


def test_the_trailer_of_a_broken_stream_reaches_the_client(
    launch,
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
) -> None:
    instance = launch(BREAKS_OFF).ready()
    target = publish(balancer, instance) + "WithResponseStream"
    with socket.create_connection(("127.0.0.1", envoy.port), timeout=30) as client:
        head = f"POST {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        client.sendall(head.encode() + b"content-length: 2\r\n\r\n{}")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"streamfailure: ValueError: boom" in answer
