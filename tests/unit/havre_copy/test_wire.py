"""The HTTP that a copy reads and writes."""

import socket

import pytest

from havre_copy import wire
from havre_copy.faults import HttpError
from havre_copy.request_queue import DRAINING, OPEN

CLAIMS = [0, 0, OPEN]


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    yield ours, theirs
    ours.close()
    theirs.close()


def head(*lines: str, target: str = "/o/predict", method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "host: x", *lines, "", ""]).encode()


def receive(pair, data: bytes, *, close: bool = False, limit: int = 100) -> wire.Request | None:
    ours, theirs = pair
    theirs.sendall(data)
    if close:
        theirs.shutdown(socket.SHUT_WR)
    request = wire.Request()
    first = ours.recv(65536)
    return request if wire.Wire("i/0", limit, CLAIMS).receive(ours, first, request) else None


def test_reads_what_matters(pair):
    data = head(
        "Content-Type: text/CSV; charset=x",
        "CONTENT-LENGTH: 5",
        "Accept: a/b, */*",
        "X-Havre-Path: /v2/models/m/infer",
        "opc-request-id: A/b-1",
    )
    request = receive(pair, data + b"a,b\r\n")
    assert request.accept == b"a/b, */*"
    assert request.target == b"/v2/models/m/infer"
    assert request.body == b"a,b\r\n"
    assert request.content_type == b"text/CSV; charset=x"
    assert request.id == b"A/b-1"
    assert not request.stream
    assert request.header(b"host") == b"x"


@pytest.mark.parametrize(
    ("target", "stream"),
    [
        ("/o/predict?a=/predictWithResponseStream", False),
        ("/prefix/o/predict/v1/chat", False),
        ("/predict", False),
        ("/o/predictWithResponseStream", True),
        ("/o/predictWithResponseStream/v1/x?y=1", True),
    ],
)
def test_a_stream_is_known_by_its_path(pair, target, stream):
    assert receive(pair, head("content-length: 0", target=target)).stream is stream


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head("content-type: application/json"), 411),
        (head("transfer-encoding: chunked"), 411),
        (head("transfer-encoding: chunked", "content-length: 1"), 400),
        (head("content-length: 1", "content-length: 2"), 400),
        (head("content-length: -1"), 400),
        (head("content-length: 1_0"), 400),
        (head("content-length: "), 400),
        (head("content-length: " + "9" * 30), 400),
        (head("content-length: 101"), 413),
        (head("content-length: 1", method="GET"), 405),
        (head(method="GET"), 405),
        (head("content-length: 1", target="/nothing"), 404),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /predict SPDY/3\r\ncontent-length: 1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nx: " + b"y" * wire.HEAD_LIMIT, 431),
    ],
)
def test_refuses_what_it_cannot_serve(pair, data, status):
    with pytest.raises(HttpError) as refused:
        receive(pair, data)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "data", [b"", b"POST /pred", head("content-length: 9") + b"four", head("content-length: 9")]
)
def test_a_peer_that_leaves_gets_no_work(pair, data):
    assert receive(pair, data, close=True) is None


def test_heads_that_came_before_are_read_no_differently(pair):
    ours, _ = pair
    side = wire.Wire("i/0", 100, CLAIMS)
    heads = [
        head("content-type: a/b", "opc-request-id: one", "content-length: 1"),
        head("content-type: a/b", "opc-request-id: two", "content-length: 1"),
        head("content-type: a/b", "opc-request-id: one", "content-length: 2"),
        head("content-type: a/c", "content-length: 1", "Opc-Request-Id: three"),
        head("content-type: a/c", "content-length: 1", "opc-request-id: four"),
        head("content-type: a/c", "content-length: 1", "connection: close"),
        head("content-length: 1", "opc-request-id: five", target="/predictWithResponseStream"),
        head("content-length: 1", "opc-request-id: six", "x-havre-body-sha256: aGFzaA=="),
        head("content-length: 1", "opc-request-id: seven", "accept: a/b"),
    ]
    seen = []
    for first in [*heads, *heads]:
        request = wire.Request()
        assert side.receive(ours, first + b"12", request)
        about = (request.id, request.content_type, request.body, request.stream, request.digest)
        seen.append((*about, request.is_last, request.accept))
    assert seen[:9] == seen[9:]
    assert [each[0] for each in seen[:9]] == [
        *(b"one", b"two", b"one", b"three", b"four", b"", b"five", b"six", b"seven")
    ]
    assert [each[2] for each in seen[:9]] == [b"1", b"1", b"12", *[b"1"] * 6]
    assert [each[3] for each in seen[:9]] == [*[False] * 6, True, False, False]
    assert seen[7][4] == b"aGFzaA=="
    assert [each[6] for each in seen[:9]] == [*[b""] * 8, b"a/b"]
    with pytest.raises(HttpError, match="at most 100"):
        side.receive(ours, head("content-length: 101", "opc-request-id: one"), wire.Request())
    for number in range(1000):
        many = head(f"x: {number}", f"y: {'y' * (number % 5000)}", "content-length: 0")
        assert side.receive(ours, many, wire.Request())


def test_body_in_pieces(pair):
    ours, theirs = pair
    theirs.sendall(b"def")
    request = wire.Request()
    first = head("content-length: 6") + b"abc"
    assert wire.Wire("i/0", 100, CLAIMS).receive(ours, first, request)
    assert request.body == b"abcdef"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("plain-ID_1.2", b"plain-ID_1.2"),
        ("a\x1b[31mb\x7fc\xe9", b"a[31mbc"),
        ("x" * 500, b"x" * 200),
        ("", b""),
    ],
)
def test_request_id_is_safe_to_log_and_to_send_back(pair, sent, kept):
    request = receive(pair, head("content-length: 0", f"opc-request-id: {sent}"))
    assert request.id == kept


def asked(*, is_last: bool = False, request_id: bytes = b"", ns: int | None = None) -> wire.Request:
    request = wire.Request()
    request.id = request_id
    request.predict_ns = ns
    request.is_last = is_last
    return request


@pytest.mark.parametrize(
    ("claims", "is_last", "ends", "predict_ns", "who"),
    [
        (CLAIMS, False, False, 1_234_567, b"i/7/r1/1234"),
        (CLAIMS, True, True, None, b"i/7/r1/"),
        ([0, 0, DRAINING], False, True, 0, b"i/7/r1/0"),
    ],
)
def test_an_answer_is_one_message(pair, claims, is_last, ends, predict_ns, who):
    ours, theirs = pair
    request = asked(is_last=is_last, request_id=b"ID", ns=predict_ns)
    wire.Wire("i/7/r1", 100, claims).respond(ours, wire.JSON, b"[1]", request)
    ours.close()
    top, body = theirs.makefile("rb").read().split(b"\r\n\r\n")
    assert top.split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
    assert set(top.split(b"\r\n")[1:]) == {
        b"x-havre-copy: " + who,
        *([b"connection: close"] if ends else []),
        b"content-type: application/json",
        b"content-length: 3",
        b"opc-request-id: ID",
    }
    assert body == b"[1]"
    assert request.is_last is ends


@pytest.mark.parametrize(
    ("data", "is_last"),
    [
        (head("content-length: 1") + b"1", False),
        (head("content-length: 1", "Connection: Keep-Alive") + b"1", False),
        (head("content-length: 1", "Connection: Close") + b"1", True),
        (head("content-length: 1").replace(b"1.1", b"1.0") + b"1", True),
        (head("content-length: 1") + b"1POST", True),
    ],
)
def test_knows_the_last_request_of_a_connection(pair, data, is_last):
    request = receive(pair, data)
    assert request.body == b"1"
    assert request.is_last is is_last


def test_a_stream_names_its_failure_in_the_trailer(pair):
    ours, theirs = pair
    side = wire.Wire("i/0", 100, CLAIMS)
    side.begin_stream(ours, wire.EVENTS, asked())
    side.chunk(ours, b"data: 1\n\n")
    side.chunk(ours, b"")
    side.end_stream(ours, "ValueError: bäd\r\nx: injected")
    ours.close()
    top, body = theirs.makefile("rb").read().split(b"\r\n\r\n", 1)
    assert b"trailer: StreamFailure" in top
    failure = rb"StreamFailure: ValueError: b\xe4d x: injected"
    assert body == b"9\r\ndata: 1\n\n\r\n0\r\n" + failure + b"\r\n\r\n"
