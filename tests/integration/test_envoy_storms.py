"""Storms, clients that hang up, and streams that break off, through a real Envoy."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.envoy_server import EnvoyServer, envoy, wait_until  # noqa: F401

from havre.balancer.envoy import EnvoyBalancer
from havre.domain.ocid import Kind, new_ocid
from havre.domain.route import Endpoint, Route

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
BROKEN_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"trailer: StreamFailure\r\nconnection: close\r\n\r\n"
    b"2\r\nab\r\n0\r\nStreamFailure: ValueError: boom\r\n\r\n"
)


@contextmanager
def one_copy(path: Path, answer: bytes, *, work_s: float) -> Iterator[list[bytes]]:
    """Takes one connection at a time, as a copy does, and waits for its request for 10 s."""
    requests: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1024)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(10)
                    request = connection.recv(65536)
                    if not request:
                        continue
                    requests.append(request)
                    time.sleep(work_s)
                    try:
                        connection.sendall(answer)
                    except OSError:
                        pass

        server = threading.Thread(target=serve)
        server.start()
        yield requests
        listener.shutdown(socket.SHUT_RDWR)
        server.join(timeout=15)


@pytest.fixture
def balancer(envoy: EnvoyServer) -> Iterator[EnvoyBalancer]:  # noqa: F811
    balancer = EnvoyBalancer(envoy.home)
    balancer.start()
    yield balancer
    balancer.stop()


def publish(balancer: EnvoyBalancer, path: Path) -> str:
    deployment_id = new_ocid(Kind.DEPLOYMENT)
    endpoints = (Endpoint("copy", path),)
    balancer.publish(Route(deployment_id, "r1", endpoints, 8, 1000))
    return deployment_id


def post(port: int, path: str) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("POST", path, b"{}", {"content-type": "application/json"})
    return client.getresponse()


@pytest.mark.parametrize("hang_up", [False, True])
def test_a_storm_leaves_the_copy_free(
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
    hang_up: bool,
) -> None:
    """Each refused request has had a connection made for it, which nothing is sent on."""
    path = envoy.home.instance_sockets / "copy.sock"
    with one_copy(path, OK, work_s=0.01) as requests:
        target = f"/{publish(balancer, path)}/predict"
        head = f"POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n".encode()
        clients = [socket.create_connection(("127.0.0.1", envoy.port)) for _ in range(64)]
        for client in clients:
            client.sendall(head + b"{}")
        wait_until(lambda: bool(requests))
        for client in clients:
            if not hang_up:
                assert client.recv(65536).split(b" ")[1] in (b"200", b"429")
            client.close()
        began = time.monotonic()
        for _ in range(5):
            assert post(envoy.port, target).read() == b"ok"
        # The copy would wait ten seconds for a request on each connection that is kept open.
        assert time.monotonic() - began < 5


def test_the_trailer_of_a_broken_stream_reaches_the_client(
    envoy: EnvoyServer,  # noqa: F811
    balancer: EnvoyBalancer,
) -> None:
    path = envoy.home.instance_sockets / "copy.sock"
    with one_copy(path, BROKEN_STREAM, work_s=0):
        target = f"/{publish(balancer, path)}/predictWithResponseStream"
        with socket.create_connection(("127.0.0.1", envoy.port), timeout=30) as client:
            head = f"POST {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
            client.sendall(head.encode() + b"content-length: 2\r\n\r\n{}")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"streamfailure: ValueError: boom" in answer
