"""Bodies that a real Envoy slows to the provisioned bandwidth, requests that it refuses for it, and
what it is not to slow.
"""

import contextlib
import http.client
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from tests.support.balancer_front import Answer, Front, answer_of, ask, running_front
from tests.support.envoy_server import (
    StartUpstream,
    Upstream,
    answer_with,
    upstreams,  # noqa: F401
    wait_until,
)

from havre.balancer.envoy.bandwidth import AMPLE_MBPS
from havre.balancer.envoy.held import HEADER

MIB = 1024 * 1024
DATA_SEGMENTS_IN = 152
"""Where Linux's ``tcp_info`` has how many segments with data have come."""


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with running_front() as front:
        yield front


@pytest.fixture
def copies(front: Front, upstreams: StartUpstream) -> Upstream:  # noqa: F811
    return upstreams(front.socket(), answer_with(b"{}"))


@contextmanager
def refused_for_bandwidth(
    front: Front, path: str, *, chunked: bool = False
) -> Iterator[tuple[Answer, http.client.HTTPConnection]]:
    """The answer to the first of several large requests that is answered at once, and its client;
    those before it are being slowed. Which it is depends on when each is whole.
    """
    with ExitStack() as stack:
        for number in range(5):
            client = stack.enter_context(contextlib.closing(front.client()))
            body: object = iter([b"x" * MIB] * 8) if chunked else b"x" * (8 * MIB)
            client.request("POST", path, body, encode_chunked=chunked)
            if select.select([client.sock], [], [], 1.0)[0]:
                assert number > 0, "the first is slowed, too"
                yield answer_of(client), client
                return
        pytest.fail("none was refused")


def test_a_chunked_body_counts_against_the_bandwidth(front: Front, copies: Upstream) -> None:
    path = f"/{front.route(copies.socket_path, bandwidth_mbps=8)}/predict"
    with refused_for_bandwidth(front, path, chunked=True) as (answer, _):
        assert (answer.status, answer.code) == (429, "TooManyRequests")


def test_requests_are_shaped_to_the_bandwidth_then_refused(front: Front, copies: Upstream) -> None:
    # 8 Mbps are 1,000,000 bytes a second; about ten seconds of it may be asked for ahead.
    path = f"/{front.route(copies.socket_path, bandwidth_mbps=8)}/predict"
    began = time.monotonic()
    assert ask(front.client(), path, body=b"x" * 2_000_000).status == 200
    assert time.monotonic() - began > 0.8
    with refused_for_bandwidth(front, path) as (answer, client):
        assert (answer.status, answer.code) == (429, "TooManyRequests")
        assert ask(client, "/healthz", method="GET", body=None).status == 200


def test_answers_are_shaped_then_the_bound_refuses(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    large = upstreams(front.socket(), answer_with(b"x" * 3_000_000))
    deployment = front.route(large.socket_path, max_requests=2, bandwidth_mbps=8)
    path = f"/{deployment}/predictWithResponseStream"

    def timed(_: int) -> tuple[int, float]:
        began = time.monotonic()
        return ask(front.client(), path).status, time.monotonic() - began

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(timed, range(6)))
    assert {status for status, _ in answers} == {200, 429}
    assert max(seconds for status, seconds in answers if status == 200) > 2.0


def test_large_bodies_are_shaped_however_ample_the_bandwidth(
    front: Front,
    copies: Upstream,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    # A bucket begins with a second of bandwidth, 25 MB: what is beyond it takes its time.
    large = upstreams(front.socket(), answer_with(b"x" * 9_000_000))
    asked = front.route(copies.socket_path, bandwidth_mbps=AMPLE_MBPS)
    answered = front.route(large.socket_path, bandwidth_mbps=AMPLE_MBPS)

    def took(deployment: str, body: bytes) -> float:
        path = f"/{deployment}/predictWithResponseStream"
        began = time.monotonic()
        with ThreadPoolExecutor(6) as pool:
            answers = pool.map(lambda _: ask(front.client(), path, body=body).status, range(6))
            assert set(answers) == {200}
        return time.monotonic() - began

    assert took(asked, b"x" * 9_000_000) > 0.9
    assert took(answered, b"x") > 0.9


def test_small_answers_of_an_ample_deployment_are_not_held_back(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    def of_the_size_asked(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        answer_with(b"x" * int(body))(handler, body)

    copies = upstreams(front.socket(), of_the_size_asked)
    path = f"/{front.route(copies.socket_path, max_requests=32, bandwidth_mbps=AMPLE_MBPS)}/predict"

    def is_held(size: int) -> bool:
        answer = ask(front.client(), path, body=str(size).encode())
        assert (answer.status, len(answer.body)) == (200, size)
        return HEADER in answer.headers

    done = threading.Event()

    def flood() -> bool:
        """25 MB a second are too few for eight of them, for as long as it takes."""
        were_held = [is_held(9_000_000)]
        while not done.is_set():
            were_held.append(is_held(9_000_000))
        return all(were_held)

    with ThreadPoolExecutor(8) as pool:
        large = [pool.submit(flood) for _ in range(8)]
        try:
            wait_until(lambda: is_held(1000))
            assert not any(is_held(999) for _ in range(10))
        finally:
            done.set()
        assert all(each.result() for each in large)


def test_a_small_answer_comes_in_one_piece_whatever_the_bandwidth(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    def pieces(size: int, mbps: int) -> int:
        copies = upstreams(front.socket(), answer_with(b"x" * size))
        client = front.client()
        path = f"/{front.route(copies.socket_path, bandwidth_mbps=mbps)}/predict"
        assert ask(client, path).status == 200
        told = client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
        segments: int = struct.unpack_from("I", told, DATA_SEGMENTS_IN)[0]
        return segments

    for mbps in (10, AMPLE_MBPS - 1, AMPLE_MBPS):
        assert {pieces(size, mbps) for size in (999, 1000)} == {1}
