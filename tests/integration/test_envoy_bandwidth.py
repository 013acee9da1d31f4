"""What a client and the access log are told of a bandwidth that held a request back, by a real
Envoy.
"""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from tests.support.balancer_front import Answer, Front, ask, running_front
from tests.support.envoy_server import (
    DEADLINE_S,
    StartUpstream,
    answer_with,
    upstreams,  # noqa: F401
    wait_until,
)

from havre.balancer.envoy.held import HEADER, SMALL_BYTES
from havre.domain.deployment import NO_CAP_MBPS
from havre.telemetry.files import layout

MB = 1_000_000


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with running_front() as front:
        yield front


def entry(front: Front, request: Answer) -> dict[str, Any]:
    """What the access log has of a request, when it has it."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        log = layout.live_access(front.server.home)
        lines = log.read_text().splitlines() if log.exists() else []
        name = request.headers["opc-request-id"]
        found[:] = [each for each in map(json.loads, lines) if each["request"] == name]
        return bool(found)

    wait_until(is_there)
    return found[0]


def told_ms(header: str, *, about: bool = False) -> int:
    form = rf"held back {'about ' if about else ''}(\d+) ms at 8 Mbps"
    match = re.fullmatch(form, header)
    assert match, header
    return int(match[1])


def told_as_logged_ms(front: Front, answer: Answer) -> int:
    """What a client is told is what the log has; 0 where neither has anything."""
    found = entry(front, answer)
    if HEADER not in answer.headers:
        assert "held_ms" not in found
        return 0
    told = told_ms(answer.headers[HEADER])
    assert found["held_ms"] == told
    assert found["total_ms"] >= told
    return told


def test_an_answer_that_was_held_back_says_for_how_long(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    copies = upstreams(front.socket(), answer_with(b"x" * SMALL_BYTES))
    deployment = front.route(copies.socket_path, bandwidth_mbps=8)

    def is_held() -> bool:
        asked = [ask(front.client(), f"/{deployment}/predict") for _ in range(12)]
        assert {(answer.status, len(answer.body)) for answer in asked} == {(200, SMALL_BYTES)}
        # 1,000,000 bytes a second: 131 ms each, but for what the bucket has from quieter times.
        return 50 <= told_as_logged_ms(front, asked[-1]) <= 1000

    wait_until(is_held)


def test_a_larger_answer_says_what_its_size_costs_and_the_log_what_it_was(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    copies = upstreams(front.socket(), answer_with(b"x" * 1_500_000))
    deployment = front.route(copies.socket_path, bandwidth_mbps=8)

    def is_held() -> bool:
        for _ in range(2):
            answer = ask(front.client(), f"/{deployment}/predict")
            assert told_ms(answer.headers[HEADER], about=True) == 1500
        found = entry(front, answer)
        assert found["held_ms"] <= found["total_ms"]
        return found["held_ms"] >= 1000  # but for what the bucket has from quieter times

    wait_until(is_held)


def test_a_request_that_was_held_back_says_so(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    copies = upstreams(front.socket(), answer_with(b"{}"))
    deployment = front.route(copies.socket_path, bandwidth_mbps=8)

    def is_held() -> bool:
        for _ in range(2):
            answer = ask(front.client(), f"/{deployment}/predict", body=b"x" * 1_000_000)
        # But for what the bucket has from quieter times.
        return 500 <= told_as_logged_ms(front, answer) <= 5000

    wait_until(is_held)


def test_a_request_that_is_refused_for_bandwidth_says_so(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    copies = upstreams(front.socket(), answer_with(b"{}"))
    deployment = front.route(copies.socket_path, bandwidth_mbps=8)
    path, body = f"/{deployment}/predict", b"x" * (9 * MB)
    asked: list[Answer] = []

    def is_refused() -> bool:
        asked.append(ask(front.client(), path, body=body))
        return asked[-1].status != 200

    waiting = [front.client(), front.client()]
    try:
        for client in waiting:
            client.request("POST", path, body)
        wait_until(is_refused)
        refused = asked[-1]
        assert (refused.status, refused.code) == (429, "TooManyRequests")
        assert refused.headers[HEADER] == "refused at 8 Mbps"
        assert "bandwidth" in json.loads(refused.body)["message"]
    finally:
        for client in waiting:
            client.close()
    assert entry(front, refused)["flags"] == "RL"


@pytest.mark.parametrize("mbps", [8, 100, 1000, NO_CAP_MBPS])
def test_what_was_not_held_back_says_nothing(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
    mbps: int,
) -> None:
    copies = upstreams(front.socket(), answer_with(b'{"a":1}'))
    deployment = front.route(copies.socket_path, bandwidth_mbps=mbps)
    answer = ask(front.client(), f"/{deployment}/predict")
    assert (answer.status, answer.headers.get(HEADER)) == (200, None)
    assert "held_ms" not in entry(front, answer)


@pytest.mark.parametrize("size", [10, 30_000_000])
def test_without_a_cap_nothing_is_held_back(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
    size: int,
) -> None:
    copies = upstreams(front.socket(), answer_with(b"x" * size))
    deployment = front.route(copies.socket_path, bandwidth_mbps=NO_CAP_MBPS)
    answers = [
        ask(front.client(), f"/{deployment}/predict", body=b"x" * (10 * MB)) for _ in range(3)
    ]
    assert {len(answer.body) for answer in answers} == {size}
    assert not any(HEADER in answer.headers for answer in answers)
    assert "held_ms" not in entry(front, answers[-1])


def test_a_stream_that_is_held_back_flows_and_is_told_in_the_log(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    last = threading.Event()

    def stream(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for part in (b"x" * 400_000, b"last"):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            handler.wfile.flush()
            if part != b"last":
                assert last.wait(DEADLINE_S)
        handler.wfile.write(b"0\r\n\r\n")

    copies = upstreams(front.socket(), stream)
    deployment = front.route(copies.socket_path, bandwidth_mbps=8)
    client = front.client()
    client.request("POST", f"/{deployment}/predictWithResponseStream", b"{}")
    answer = client.getresponse()
    assert answer.read(1000) == b"x" * 1000, "before the stream has ended"
    last.set()
    assert answer.read().endswith(b"xlast")
    client.close()
    told = Answer(200, dict(answer.getheaders()), b"")
    assert entry(front, told)["held_ms"] >= 100
