"""Clients that are slow, rude or broken take nothing away from the others."""

import contextlib
import json
import os
import resource
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest
from tests.e2e.load import Load
from tests.e2e.operated_server import SHAPE_COPIES, OperatedServer, wait_for
from tests.e2e.operated_server import operated as operated

SOON_S = 8.0
"""Sooner than a copy, or two, would be free again that was taken by any client here."""
NEVER_READS_S = 4.0
IDLE = int(os.environ.get("CHAOS_IDLE", "2000"))
MORE_THAN_THE_QUEUE = 200


@dataclass(frozen=True)
class Target:
    server: OperatedServer
    deployment: str

    @property
    def url(self) -> str:
        return f"{self.server.url}/{self.deployment}"

    def connect(self) -> socket.socket:
        where = urlsplit(self.server.url)
        return socket.create_connection((where.hostname, where.port or 0), timeout=30)

    def request(
        self, body: str = '{"echo": 1}', *, headers: str = "", version: str = "1.1"
    ) -> bytes:
        return (
            f"POST /{self.deployment}/predict HTTP/{version}\r\nhost: localhost\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n{body}"
        ).encode()


@pytest.fixture(scope="module")
def target(operated: OperatedServer) -> Target:
    return Target(operated, operated.deploy(bandwidth_mbps=1000))


@pytest.fixture
def others(target: Target) -> Iterator[Load]:
    """Decent clients, that must not notice."""
    with Load(target.url, keep_alive=3, short_lived=1) as load:
        load.wait_for_more(20)
        yield load
        load.wait_for_more(20)
    assert load.failures == []
    assert max(outcome.took_s for outcome in load.outcomes) < SOON_S


@contextlib.contextmanager
def crowd(target: Target, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(target.connect()) for _ in range(count)]


def test_clients_that_send_slowly_occupy_no_copy(target: Target, others: Load) -> None:
    whole = target.request(json.dumps({"echo": 1, "padding": "x" * 1000}))
    middle_of_headers, middle_of_body = whole.index(b"content-type"), len(whole) - 900
    with crowd(target, 50) as slow_heads, crowd(target, 50) as slow_bodies:
        for sent_first, clients in ((middle_of_headers, slow_heads), (middle_of_body, slow_bodies)):
            for client in clients:
                client.sendall(whole[:sent_first])
        for number in range(20):
            for sent_first, clients in (
                (middle_of_headers, slow_heads),
                (middle_of_body, slow_bodies),
            ):
                for client in clients:
                    client.sendall(whole[sent_first + number : sent_first + number + 1])
            others.wait_for_more(5)
        sent_first = middle_of_body + 20
        for client in slow_bodies:  # one after another: all at once would be too much load
            client.sendall(whole[sent_first:])
            assert status_of(client) == 200


def test_more_half_sent_bodies_than_the_queue_holds_take_no_place_in_it(
    target: Target, others: Load
) -> None:
    whole = target.request(json.dumps({"echo": 1, "padding": "x" * 1000}))
    with crowd(target, MORE_THAN_THE_QUEUE) as clients:
        for client in clients:
            client.sendall(whole[:-500])
        others.wait_for_more(50)
        # Half of them go away; of the others, the last is served as the first would have been.
        for client in clients[: MORE_THAN_THE_QUEUE // 2]:
            client.close()
        clients[-1].sendall(whole[-500:])
        assert status_of(clients[-1]) == 200


def test_a_client_that_sends_on_and_never_reads_is_no_longer_listened_to(
    target: Target, others: Load
) -> None:
    """Its answers fill the buffers between; then it must wait, or is cut off. Nobody else is."""
    large = 400_000 * target.request(json.dumps({"echo": 1, "filling": 100_000}))
    with target.connect() as client:
        client.settimeout(NEVER_READS_S)
        with pytest.raises((TimeoutError, ConnectionError)):
            client.sendall(large)
        others.wait_for_more(50)
    wait_for("idle copies", lambda: target.server.keeper_of(target.deployment).busy <= 1)


def test_clients_that_go_away_leave_no_work_behind(target: Target, others: Load) -> None:
    # A quarter of a minute's work for each crowd, were it done.
    gone = target.request(json.dumps({"echo": 1, "sleep": 1.0}))
    for abrupt in (False, True):
        with crowd(target, 15 * SHAPE_COPIES) as clients:
            for client in clients:
                client.sendall(gone)
                if abrupt:  # a reset instead of a goodbye
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Those that a copy had begun are finished; the others are not even begun.
        others.wait_for_more(20)
    wait_for("idle copies", lambda: target.server.keeper_of(target.deployment).busy <= 1)


def test_clients_that_do_not_read_large_answers(target: Target) -> None:
    large = target.request(json.dumps({"echo": 1, "filling": 12_000_000}))
    with crowd(target, SHAPE_COPIES) as clients:
        for client in clients:
            client.sendall(large)
        began = time.monotonic()
        with Load(target.url, keep_alive=2, short_lived=0) as load:
            load.wait_for_more(20)
        assert load.failures == []
        assert time.monotonic() - began < 2 * SOON_S


def test_requests_sent_together_are_answered_in_order(target: Target) -> None:
    with target.connect() as client:
        client.sendall(b"".join(target.request(json.dumps({"echo": n})) for n in range(5)))
        with client.makefile("rb") as answers:
            echoed = [json.loads(read_answer(answers)[1])["echo"] for _ in range(5)]
    assert echoed == [0, 1, 2, 3, 4]


def test_many_idle_connections_take_nothing_away(target: Target, others: Load) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * IDLE)), hard))
    try:
        with crowd(target, IDLE) as clients:
            others.wait_for_more(100)
            clients[-1].sendall(target.request())
            assert status_of(clients[-1]) == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("sent", "status", "is_kept"),
    [
        ("a header of 100 KB", 431, False),
        ("two hundred headers", 431, False),
        ("garbage", 400, False),
        ("TLS", 400, False),
        ("two lengths", 400, False),
        ("a negative length", 400, False),
        ("a length and chunks", 400, False),
        ("no host", 400, False),
        ("another host", 403, True),
        ("HTTP/1.0", 200, False),
        ("HTTP/1.0 kept alive", 200, True),
    ],
)
def test_odd_requests_are_answered_or_refused(
    target: Target, sent: str, status: int, is_kept: bool
) -> None:
    whole = target.request()
    odd = {
        "a header of 100 KB": target.request(headers=f"x-large: {'x' * 100_000}\r\n"),
        "two hundred headers": target.request(
            headers="".join(f"x-{number}: 1\r\n" for number in range(200))
        ),
        "garbage": bytes(range(256)) * 4,
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        "two lengths": target.request(headers="content-length: 5\r\n"),
        "a negative length": whole.replace(b"content-length: ", b"content-length: -"),
        "a length and chunks": target.request(headers="transfer-encoding: chunked\r\n"),
        "no host": whole.replace(b"host: localhost\r\n", b""),
        "another host": whole.replace(b"host: localhost", b"host: example.org:99999"),
        "HTTP/1.0": target.request(version="1.0"),
        "HTTP/1.0 kept alive": target.request(version="1.0", headers="connection: keep-alive\r\n"),
    }[sent]
    with target.connect() as client:
        with contextlib.suppress(ConnectionError):  # refused before it is whole
            client.sendall(odd)
        with client.makefile("rb") as answers:
            answered, body = read_answer(answers)
            assert answered == status
            assert set(json.loads(body)) == ({"code", "message"} if status != 200 else OF_A_MODEL)
            if is_kept:
                client.sendall(whole)
                assert read_answer(answers)[0] == 200
            else:
                with contextlib.suppress(ConnectionError):
                    assert answers.read() == b""
    with target.connect() as client:
        client.sendall(whole)
        assert status_of(client) == 200


OF_A_MODEL = {"echo", "mark", "filling"}


def test_a_client_that_waits_to_be_told_to_continue_is_told(target: Target) -> None:
    whole = target.request(headers="expect: 100-continue\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    with target.connect() as client, client.makefile("rb") as answers:
        client.sendall(head + b"\r\n\r\n")
        assert answers.readline().startswith(b"HTTP/1.1 100")
        while answers.readline() != b"\r\n":
            pass
        client.sendall(body)
        assert read_answer(answers)[0] == 200


def status_of(client: socket.socket) -> int:
    with client.makefile("rb") as answers:
        return read_answer(answers)[0]


def read_answer(answers: BinaryIO) -> tuple[int, bytes]:
    """The status and body of the next answer on a connection."""
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return status, answers.read(length)
