"""What a real Envoy makes of a canary's share, of predictions that may be repeated, of streams."""

import http.client
import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.envoy_server import (
    DEADLINE_S,
    EnvoyServer,
    StartUpstream,
    answer_with,
    envoy,  # noqa: F401
    upstreams,  # noqa: F401
    wait_until,
)

from havre.balancer.envoy.balancer import EnvoyBalancer
from havre.domain.address import UnixAddress
from havre.domain.ocid import Kind, new_ocid, new_short_id
from havre.domain.route import CanaryShare, Endpoint, Route

ASKED = 600


@pytest.fixture
def balancer(envoy: EnvoyServer) -> Iterator[EnvoyBalancer]:  # noqa: F811
    running = EnvoyBalancer(envoy.home)
    running.start()
    yield running
    running.stop()


def new_socket(server: EnvoyServer) -> Path:
    return server.home.instance_sockets / f"{new_short_id()}.sock"


def endpoints(*sockets: Path) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(socket.stem, UnixAddress(socket)) for socket in sockets)


def new_route(*sockets: Path) -> Route:
    return Route(new_ocid(Kind.DEPLOYMENT), "r1", endpoints(*sockets), 64, 1000)


def ask(server: EnvoyServer, route: Route, path: str = "predict") -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    client.request("POST", f"/{route.deployment_id}/{path}", b"{}")
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return answer.status, body


def test_a_canary_gets_its_share_and_no_request_fails_while_it_changes(
    envoy: EnvoyServer,  # noqa: F811
    upstreams: StartUpstream,  # noqa: F811
    balancer: EnvoyBalancer,
) -> None:
    old = upstreams(new_socket(envoy), answer_with(b"old"))
    new = upstreams(new_socket(envoy), answer_with(b"new"))
    route = new_route(old.socket_path)

    def shared(percent: int) -> Route:
        return replace(route, canary=CanaryShare("r2", endpoints(new.socket_path), 64, percent))

    switched = replace(route, revision="r2", endpoints=endpoints(new.socket_path))
    shares: dict[int, Counter[bytes]] = {}
    for published, percent in ((route, 0), (shared(10), 10), (shared(60), 60), (switched, 100)):
        balancer.publish(published)
        assert balancer.current(route.deployment_id) == published
        answers = [ask(envoy, route) for _ in range(ASKED)]
        assert {status for status, _ in answers} == {200}
        shares[percent] = Counter(body for _, body in answers)
    assert shares[0] == {b"old": ASKED}
    assert shares[100] == {b"new": ASKED}
    # Six standard deviations.
    assert 0.10 * ASKED - 45 < shares[10][b"new"] < 0.10 * ASKED + 45
    assert 0.60 * ASKED - 72 < shares[60][b"new"] < 0.60 * ASKED + 72
    # A later control plane knows the share, and so what is to be taken back.
    balancer.publish(shared(60))
    assert EnvoyBalancer(envoy.home).current(route.deployment_id) == shared(60)
    balancer.publish(route)
    assert {ask(envoy, route) for _ in range(50)} == {(200, b"old")}
    wait_until(
        lambda: balancer.active_requests([new.socket_path.stem]) == {new.socket_path.stem: 0}
    )
    balancer.retire(route.deployment_id, alive={old.socket_path.stem})
    assert str(new.socket_path) not in (envoy.home.balancer / "clusters.json").read_text()


@pytest.mark.parametrize("is_idempotent", [True, False])
def test_a_request_that_dies_with_its_copy_is_repeated_once_where_that_is_allowed(
    envoy: EnvoyServer,  # noqa: F811
    upstreams: StartUpstream,  # noqa: F811
    balancer: EnvoyBalancer,
    is_idempotent: bool,
) -> None:
    deaths = 0

    def answer(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        nonlocal deaths
        if deaths > 0:
            deaths -= 1
            return  # the connection is closed without an answer, as a copy's death does
        answer_with(b"alive")(handler, body)

    copies = upstreams(new_socket(envoy), answer)
    route = replace(new_route(copies.socket_path), is_idempotent=is_idempotent)
    balancer.publish(route)
    for path, dying, expected, sent in (
        ("predict", 0, 200, 1),
        ("predict", 1, 200 if is_idempotent else 500, 2 if is_idempotent else 1),
        ("predict", 2, 500, 2 if is_idempotent else 1),
        ("predictWithResponseStream", 1, 500, 1),
    ):
        copies.requests.clear()
        deaths = dying
        assert ask(envoy, route, path)[0] == expected
        assert len(copies.requests) == sent


def test_a_stream_goes_on_when_its_cluster_is_retired(
    envoy: EnvoyServer,  # noqa: F811
    upstreams: StartUpstream,  # noqa: F811
    balancer: EnvoyBalancer,
) -> None:
    go_on = threading.Event()

    def stream(handler: http.server.BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nfirst\r\n")
        handler.wfile.flush()
        go_on.wait(DEADLINE_S)
        handler.wfile.write(b"4\r\nlast\r\n0\r\n\r\n")

    old = upstreams(new_socket(envoy), stream)
    new = upstreams(new_socket(envoy), answer_with(b"new"))
    route = new_route(old.socket_path)
    balancer.publish(route)
    client = http.client.HTTPConnection("127.0.0.1", envoy.port, timeout=DEADLINE_S)
    client.request("POST", f"/{route.deployment_id}/predictWithResponseStream", b"{}")
    answer = client.getresponse()
    assert answer.read(5) == b"first"
    balancer.publish(replace(route, revision="r2", endpoints=endpoints(new.socket_path)))
    assert ask(envoy, route) == (200, b"new")
    assert balancer.active_requests([old.socket_path.stem]) == {old.socket_path.stem: 1}
    # Never done while the instance lives; even so, what Envoy has begun it finishes.
    balancer.retire(route.deployment_id, alive=())
    wait_until(
        lambda: str(old.socket_path) not in (envoy.home.balancer / "clusters.json").read_text()
    )
    go_on.set()
    assert answer.read() == b"last"
    client.close()
