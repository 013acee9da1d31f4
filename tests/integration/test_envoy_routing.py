"""What a client sees of a real Envoy: routes, refusals, and the next request after each."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import h2.connection
import httpx
import pytest
import requests
from h2.settings import SettingCodes
from tests.support.balancer_front import Front, ask, running_front
from tests.support.envoy_server import (
    DEADLINE_S,
    StartUpstream,
    Upstream,
    answer_with,
    upstreams,  # noqa: F401
    wait_until,
)

from havre.balancer.base import Timeouts
from havre.balancer.envoy.listener import MAX_STREAMS

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with running_front() as front:
        yield front


@pytest.fixture
def impatient() -> Iterator[Front]:
    """A prediction may take a second; a stream, and each pause of it, longer than anybody stands
    still here.
    """
    with running_front(
        timeouts=Timeouts(predict_s=1.0, stream_idle_s=6.0, stream_total_s=300.0)
    ) as front:
        yield front


@pytest.fixture
def copies(front: Front, upstreams: StartUpstream) -> Upstream:  # noqa: F811
    return upstreams(
        front.socket(), answer_with(b'{"prediction":[1]}', x_havre_copy="i1/0", server="secret")
    )


@pytest.fixture
def deployment(front: Front, copies: Upstream) -> str:
    return front.route(copies.socket_path)


# Routes


@pytest.mark.parametrize(
    ("before", "after", "arrives_as"),
    [
        ("/", "/predict", "/predict"),
        ("/", "/predictWithResponseStream", "/predictWithResponseStream"),
        ("//", "/predict", "/predict"),
        ("/", "//predict", "/predict"),
        ("/pre/fix/", "/predict", "/predict"),
        ("/pre//fix//", "/predict/v1/chat?x=/predictWithResponseStream", "/predict"),
        ("/", "/predict?x=1", "/predict"),
        ("/20190101/", "/predict/20190101/x", None),
        ("/", "/predictWithResponseStream/v1/x", "/predictWithResponseStream"),
    ],
)
def test_predictions_reach_the_copy(
    front: Front,
    deployment: str,
    copies: Upstream,
    before: str,
    after: str,
    arrives_as: str | None,
) -> None:
    path = f"{before}{deployment}{after}"
    answer = ask(front.client(), path, headers={"x-havre-path": "forged"})
    assert answer.status == 200
    if arrives_as is None:
        assert json.loads(answer.body)["path"] == path
        return
    _, arrived, headers, _ = copies.requests[-1]
    assert arrived == f"/{deployment}{arrives_as}"
    assert headers.get("x-havre-path", arrived) == path


@pytest.mark.parametrize(
    "path",
    [
        "/20190101/modelDeployments?compartmentId=x",
        "//20190101/modelDeployments",
        "/pre/fix/20190101/models/%2F..%2f/x",
        "/20180409/resources",
        "/20190909/search",
        "/20200531/logGroups",
        "/20180401/metrics",
        "/20160918/users",
        "/healthz",
        "/metrics",
        "/console/",
        "/console/a/b",
        "/openapi.json",
        "/foo/20160918/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_the_control_plane_gets_the_raw_path(front: Front, path: str, method: str) -> None:
    answer = ask(front.client(), path, method=method, body=b"{}" if method == "POST" else None)
    assert json.loads(answer.body)["path"] == path.partition("?")[0]


@pytest.mark.parametrize("chunked", [True, False])
def test_large_uploads_reach_the_control_plane(front: Front, chunked: bool) -> None:
    size = 24 * MIB
    body = iter([b"x" * MIB] * 24) if chunked else b"x" * size
    answer = ask(front.client(), "/20190101/models/x/artifact", body=body, chunked=chunked)
    assert json.loads(answer.body)["size"] == size


def test_headers_on_the_way(front: Front, deployment: str, copies: Upstream) -> None:
    answer = ask(front.client(), f"/{deployment}/predict", headers={"opc-request-id": "mine"})
    assert answer.headers["opc-request-id"] == "mine"
    assert copies.requests[-1][2]["opc-request-id"] == "mine"
    assert answer.headers["server"] == "havre"
    assert not [name for name in answer.headers if name.startswith(("x-havre", "x-envoy"))]


def test_request_ids_are_made_where_there_is_none_and_bounded(
    front: Front, deployment: str, copies: Upstream
) -> None:
    client = front.client()
    first, second = (ask(client, f"/{deployment}/predict").headers for _ in range(2))
    assert copies.requests[-1][2]["opc-request-id"] == second["opc-request-id"]
    assert first["opc-request-id"] != second["opc-request-id"]
    assert len(first["opc-request-id"]) >= 32
    long = ask(client, f"/{deployment}/predict", headers={"opc-request-id": "x" * 9000})
    assert long.headers["opc-request-id"] == "x" * 128


def test_a_client_cannot_order_retries_or_timeouts(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    def fail(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    failing = upstreams(front.socket(), fail)
    deployment = front.route(failing.socket_path)
    orders = {"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "5"}
    assert ask(front.client(), f"/{deployment}/predict", headers=orders).status == 503
    assert len(failing.requests) == 1


# Refusals, and the request after each on the same connection

REFUSALS = [
    ("/{}x/predict", {"body": iter([b"{}"] * 3), "chunked": True}, 404, "NotAuthorizedOrNotFound"),
    ("/{}/predict", {"method": "GET", "body": None}, 405, "MethodNotAllowed"),
    ("/pre//{}/predict/x", {"method": "PUT"}, 405, "MethodNotAllowed"),
    ("/{}/predict", {"method": "DELETE", "body": b"x" * MIB}, 405, "MethodNotAllowed"),
    ("/{}/predict", {"body": b"x" * (10 * MIB + 1)}, 413, "PayloadTooLarge"),
    ("/{}/predictWithResponseStream", {"body": b"x" * (40 * MIB)}, 413, "PayloadTooLarge"),
    ("/a/{}/predict", {"body": b"x" * (11 * MIB)}, 413, "PayloadTooLarge"),
    ("/{}x/predict", {}, 404, "NotAuthorizedOrNotFound"),
    ("/{}x/predict", {"body": b"x" * (9 * MIB)}, 404, "NotAuthorizedOrNotFound"),
    ("/p/{}x/predict", {"body": b"x" * MIB}, 404, "NotAuthorizedOrNotFound"),
    ("/{}/predictX", {}, 404, "NotAuthorizedOrNotFound"),
    ("/_refused/413", {}, 404, "NotAuthorizedOrNotFound"),
    ("/nowhere", {"method": "GET", "body": None}, 404, "NotAuthorizedOrNotFound"),
    ("/docs", {"method": "GET", "body": None}, 404, "NotAuthorizedOrNotFound"),
]


@pytest.mark.parametrize(("path", "request_", "status", "code"), REFUSALS)
def test_refusals_leave_the_connection_usable(
    front: Front,
    deployment: str,
    copies: Upstream,
    path: str,
    request_: dict[str, object],
    status: int,
    code: str,
) -> None:
    client = front.client()
    client.connect()
    connection = client.sock
    answer = ask(client, path.format(deployment), headers={"opc-request-id": "mine"}, **request_)  # type: ignore[arg-type]
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["opc-request-id"] == "mine"
    assert copies.requests == []
    assert ask(client, f"/{deployment}/predict").status == 200
    assert client.sock is connection


def test_an_empty_body_is_the_copys_to_refuse(
    front: Front, deployment: str, copies: Upstream
) -> None:
    client = front.client()
    for _ in range(3):
        assert ask(client, f"/{deployment}/predict", body=b"").status == 200
    assert [size for *_, size in copies.requests] == [0, 0, 0]


def test_the_largest_body_is_served(front: Front, deployment: str, copies: Upstream) -> None:
    answer = ask(front.client(), f"/{deployment}/predict", body=b"x" * (10 * MIB))
    assert answer.status == 200
    assert copies.requests[-1][3] == 10 * MIB


def test_every_client_of_an_oversized_body_sees_why(front: Front, deployment: str) -> None:
    def post(_: int) -> int:
        return requests.post(
            f"{front.server.url}/{deployment}/predict", data=b"x" * (11 * MIB), timeout=30
        ).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(post, range(24))) == {413}


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"POST / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431, None),
        (b"no HTTP at all\r\n\r\n", 400, None),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 12a\r\n\r\n", 400, None),
        (
            b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n"
            b"transfer-encoding: chunked\r\n\r\n",
            400,
            None,
        ),
    ],
    ids=["headers", "garbage", "length", "smuggling"],
)
def test_what_is_not_http_is_refused_and_cut(
    front: Front, raw: bytes, status: int, code: str | None
) -> None:
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        client.sendall(raw)
        received = b""
        while piece := client.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert set(json.loads(body)) == {"code", "message"}


# What clients send otherwise


@pytest.mark.parametrize("verb", ["predict", "predictWithResponseStream"])
@pytest.mark.parametrize("pieces", [[b"{}"], [b"{", b"}"] * 500, [b"x" * MIB] * 10])
def test_a_chunked_body_arrives_with_its_length(
    front: Front, deployment: str, copies: Upstream, verb: str, pieces: list[bytes]
) -> None:
    client = front.client()
    for path in (f"/{deployment}/{verb}", f"/a/prefix//{deployment}/{verb}?x=1"):
        answer = ask(client, path, body=iter(pieces), chunked=True)
        assert answer.status == 200
        _, arrived, headers, size = copies.requests[-1]
        assert (arrived, size) == (f"/{deployment}/{verb}", len(b"".join(pieces)))
        assert "transfer-encoding" not in headers


def test_a_chunked_body_that_grows_too_large_is_refused(
    front: Front, deployment: str, copies: Upstream
) -> None:
    answer = ask(
        front.client(), f"/{deployment}/predict", body=iter([b"x" * (MIB + 1)] * 10), chunked=True
    )
    assert (answer.status, answer.code) == (413, "PayloadTooLarge")
    assert answer.headers["connection"] == "close"
    assert copies.requests == []


def test_a_chunked_body_that_does_not_end_holds_no_copy(
    front: Front, deployment: str, copies: Upstream
) -> None:
    head = f"POST /{deployment}/predict HTTP/1.1\r\nhost: localhost\r\n"
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        client.sendall(f"{head}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n".encode())
        assert ask(front.client(), f"/{deployment}/predict").status == 200
        assert len(copies.requests) == 1
        client.sendall(b"0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_no_body_and_no_length_is_an_empty_body(
    front: Front, deployment: str, copies: Upstream
) -> None:
    head = f"POST /{deployment}/predict HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    assert copies.requests[-1][2]["content-length"] == "0"


def test_an_offer_of_http_2_is_answered_in_http_1(front: Front, deployment: str) -> None:
    """As Java's own client sends with each first request."""
    offer = {
        "connection": "Upgrade, HTTP2-Settings",
        "upgrade": "h2c",
        "http2-settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    }
    client = front.client()
    for _ in range(2):
        assert ask(client, f"/{deployment}/predict", headers=offer).status == 200


def in_pieces(body: bytes) -> Iterator[bytes]:
    """So that this client, which copies what is left of a body for each frame, is not slow."""
    return (body[at : at + 2**18] for at in range(0, len(body), 2**18))


@pytest.fixture
def second(front: Front) -> Iterator[httpx.Client]:
    """A client of HTTP/2 without TLS, which knows that the server speaks it."""
    with httpx.Client(http1=False, http2=True, base_url=front.server.url, timeout=30) as client:
        yield client


def test_http_2_is_spoken_without_tls(
    front: Front, deployment: str, copies: Upstream, second: httpx.Client
) -> None:
    for body in (b"{}", iter([b"{", b"}"]), in_pieces(b"x" * (10 * MIB))):
        answer = second.post(f"/{deployment}/predict", content=body)
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        assert not [name for name in answer.headers if name.startswith(("x-havre", "x-envoy"))]
    assert [size for *_, size in copies.requests] == [2, 2, 10 * MIB]
    assert all("content-length" in headers for _, _, headers, _ in copies.requests)
    body = in_pieces(b"x" * (24 * MIB))
    uploaded = second.put("/20190101/models/x/artifact", content=body)
    assert uploaded.json()["size"] == 24 * MIB


@pytest.mark.parametrize(("path", "request_", "status", "code"), REFUSALS)
def test_refusals_are_the_same_in_http_2(
    front: Front,
    deployment: str,
    copies: Upstream,
    second: httpx.Client,
    path: str,
    request_: dict[str, Any],
    status: int,
    code: str,
) -> None:
    method, body = request_.get("method", "POST"), request_.get("body", b"{}")
    headers = {"opc-request-id": "mine"}
    if isinstance(body, bytes):
        headers["content-length"] = str(len(body))
        body = in_pieces(body)
    answer = second.request(method, path.format(deployment), content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["opc-request-id"] == "mine"
    assert copies.requests == []
    assert second.post(f"/{deployment}/predict", content=b"{}").status_code == 200


def test_strangers_are_turned_away_in_http_2(
    front: Front, deployment: str, copies: Upstream, second: httpx.Client
) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        answer = second.post(f"/{deployment}/predict", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "NotAuthorized")
    assert copies.requests == []


def test_a_connection_of_http_2_has_a_bounded_number_of_requests(front: Front) -> None:
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        second = h2.connection.H2Connection()
        second.initiate_connection()
        client.sendall(second.data_to_send())
        while not second.remote_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS):
            second.receive_data(client.recv(65536))
        assert second.remote_settings.max_concurrent_streams == MAX_STREAMS


# Trouble behind the balancer


def hang(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Answers nothing until the balancer gives up, which it must do before the client does."""
    handler.connection.settimeout(2 * DEADLINE_S)
    handler.rfile.read(1)


def die(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Closes without an answer, like a copy that crashed."""


def die_in_the_middle(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_closes_its_side_has_gone(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
    deployment: str,
) -> None:
    """Envoy knows no client that has sent all it will and still reads."""
    # A response that is not there yet: one that is could overtake the client's end.
    waiting = front.route(upstreams(front.socket(), hang).socket_path)
    head = f"POST /{waiting}/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        client.sendall(head.encode() + b"{}")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert ask(front.client(), f"/{deployment}/predict").status == 200


@pytest.mark.parametrize("answer", [die, die_in_the_middle])
def test_a_copy_that_fails_is_an_internal_error_and_is_not_asked_twice(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
    deployment: str,
    answer: Callable[[BaseHTTPRequestHandler, bytes], None],
) -> None:
    failing = upstreams(front.socket(), answer)
    broken = front.route(failing.socket_path)
    client = front.client()
    result = ask(client, f"/{broken}/predict")
    assert (result.status, result.code) == (500, "InternalServerError")
    assert len(failing.requests) == 1
    assert ask(client, f"/{deployment}/predict").status == 200


def test_a_copy_that_takes_too_long_is_an_internal_error_and_is_not_asked_twice(
    impatient: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    hanging = upstreams(impatient.socket(), hang)
    client = impatient.client()
    result = ask(client, f"/{impatient.route(hanging.socket_path)}/predict")
    assert (result.status, result.code) == (500, "InternalServerError")
    assert len(hanging.requests) == 1
    copies = upstreams(impatient.socket(), answer_with(b"{}"))
    # A stream, for it may take longer than that second.
    path = f"/{impatient.route(copies.socket_path)}/predictWithResponseStream"
    assert ask(client, path).status == 200


def test_no_endpoint_and_no_answer_at_the_endpoint_are_unavailable(
    front: Front, deployment: str
) -> None:
    client = front.client()
    for broken in (front.route(), front.route(front.socket())):
        result = ask(client, f"/{broken}/predict")
        assert (result.status, result.code) == (503, "ServiceUnavailable")
        assert ask(client, f"/{deployment}/predict").status == 200


def test_a_dead_endpoint_costs_nothing_beside_a_live_one(front: Front, copies: Upstream) -> None:
    deployment = front.route(copies.socket_path, front.socket())
    client = front.client()
    assert [ask(client, f"/{deployment}/predict").status for _ in range(20)] == [200] * 20


def test_an_instance_that_died_swallows_no_requests(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    """It has the fewest requests of all, and is still routed: until the reconciler has seen it. So
    long that it is tried, and set aside, a few times.
    """

    def work(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        time.sleep(0.02)  # so that the living one always has more requests in it
        answer_with(b"{}")(handler, body)

    alive, died = upstreams(front.socket(), work), front.socket()
    path = f"/{front.route(alive.socket_path, died, max_requests=64)}/predict"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(front.client(), path).status, range(1200)))
    assert Counter(answers) == {200: 1200}


def test_more_than_the_bound_is_refused_at_once(
    front: Front,
    upstreams: StartUpstream,  # noqa: F811
    deployment: str,
) -> None:
    release = threading.Event()

    def wait(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        release.wait(DEADLINE_S)
        answer_with(b"{}")(handler, body)

    slow = upstreams(front.socket(), wait)
    busy = f"/{front.route(slow.socket_path, max_requests=3)}/predict"
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(ask, front.client(), busy) for _ in range(3)]
        wait_until(lambda: len(slow.requests) == 3)
        client = front.client()
        refused = ask(client, busy)
        assert (refused.status, refused.code) == (429, "TooManyRequests")
        assert ask(client, f"/{deployment}/predict").status == 200
        assert front.balancer.active_requests([slow.socket_path.stem]) == {slow.socket_path.stem: 3}
        release.set()
        assert [each.result().status for each in held] == [200] * 3


def test_a_stream_outlives_the_time_of_a_prediction_but_may_not_pause(
    impatient: Front,
    upstreams: StartUpstream,  # noqa: F811
) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"

    def trickle(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.wfile.write(head)
        for _ in range(8):
            time.sleep(0.2)  # the stream's pace, not a wait for something
            handler.wfile.write(b"1\r\nx\r\n")
        if body == b"end":
            handler.wfile.write(b"0\r\n\r\n")
        else:
            hang(handler, body)

    stream = upstreams(impatient.socket(), trickle)
    path = f"/{impatient.route(stream.socket_path)}/predictWithResponseStream"
    assert ask(impatient.client(), path, body=b"end").body == b"x" * 8
    with pytest.raises(http.client.IncompleteRead):
        ask(impatient.client(), path, body=b"pause")


def test_a_body_that_arrives_slowly_does_not_occupy_a_copy(
    front: Front, deployment: str, copies: Upstream
) -> None:
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        head = (
            f"POST /{deployment}/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n"
        )
        client.sendall(head.encode() + b"{}")
        assert ask(front.client(), f"/{deployment}/predict").status == 200
        assert len(copies.requests) == 1
        name = copies.socket_path.stem
        wait_until(lambda: front.balancer.active_requests([name]) == {name: 0})
        client.sendall(b"  ")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_idle_connections_do_not_hurt(front: Front, deployment: str) -> None:
    async def many() -> int:
        opened = [await asyncio.open_connection("127.0.0.1", front.server.port) for _ in range(500)]
        try:
            answer = await asyncio.to_thread(ask, front.client(), f"/{deployment}/predict")
            return answer.status
        finally:
            for _, writer in opened:
                writer.close()

    assert asyncio.run(many()) == 200
