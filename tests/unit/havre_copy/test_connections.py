"""The keeper's and the copies' sides of the queue in one process, a step at a time."""

import os
import selectors
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from havre_copy import connections as connections_module
from havre_copy.connections import Connections
from havre_copy.request_queue import CLAIMED, DRAINED, OPENED, Connection, RequestQueue, _is_free

REQUEST = b"POST /predict HTTP/1.1\r\ncontent-length: 0\r\n\r\n"


class Silent:
    def log(self, text: str) -> None:
        raise AssertionError(text)


class InProcessQueue(RequestQueue):
    """A copy in the keeper's own process, where each file is at its number already."""

    def _install(self, number: int, file: int) -> None:
        os.close(file)
        if number not in self._connections and not _is_free(number):
            self._connections[number] = Connection(socket.AF_UNIX, socket.SOCK_STREAM, 0, number)

    def detach_all(self) -> None:
        """The keeper closes the files."""
        for connection in [*self._connections.values(), self._accept_one.__self__]:
            connection.detach()


class Harness:
    """A keeper's side and two copies, in one process."""

    def __init__(self, path: str) -> None:
        self.path = path
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(2000)
        self.selector = selectors.PollSelector()
        self.keeper = Connections(
            listener=listener, selector=self.selector, copies=2, logger=Silent(), max_requests=8
        )
        self.every_copy: list[InProcessQueue] = []
        self.copies = [self.fork(number) for number in range(2)]
        self.clients: list[socket.socket] = []

    def fork(self, number: int) -> RequestQueue:
        channel = self.keeper.before_fork(number)
        copy = self.keeper.queue_in_child(number, channel, Silent())
        copy.__class__ = InProcessQueue
        self.every_copy.append(copy)
        return copy

    def close(self) -> None:
        for copy in self.every_copy:
            copy.detach_all()
        for client in self.clients:
            client.close()
        self.step()

    def step(self) -> None:
        for key, events in self.selector.select(0):
            key.data(events)
        self.keeper.tick()

    def connect(self, *, sends: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.sendall(sends)
        self.clients.append(client)
        self.step()
        return client

    def claimed(self, copy: int) -> int:
        return self.keeper.claims(copy)[CLAIMED]


@pytest.fixture
def harness(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    harness = Harness("s")
    yield harness
    harness.close()


@pytest.fixture
def now(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(connections_module, "monotonic", lambda: clock[0])
    return clock


def test_each_request_goes_to_one_copy_and_its_connection_comes_back(harness):
    client = harness.connect(sends=REQUEST)
    first, second = harness.copies
    connection, data = first.take()
    assert data == REQUEST
    assert harness.claimed(0) == connection.fileno()
    other = harness.connect(sends=REQUEST)
    assert second.take()[0].fileno() != connection.fileno()
    first.release(connection, is_usable=True)
    assert harness.claimed(0) == 0
    client.sendall(b"next")
    assert first.take() == (connection, b"next")
    first.release(connection, is_usable=False)
    assert client.recv(1) == b""
    assert other.send(b"x") == 1


def test_a_copy_may_take_more_waiting_requests_and_its_death_fails_just_those(harness):
    clients = [harness.connect(sends=REQUEST) for _ in range(10)]
    copy, other = harness.copies
    assert copy.take() is not None
    more = copy.take_more(7, 0)
    assert len(more) == 7
    assert other.take() is not None
    assert len(other.take_more(7, 0)) == 1
    connection, data, claim = more[2]
    assert data == REQUEST
    copy.release(connection, is_usable=True, claim=claim)
    clients[3].sendall(b"next")
    ((again, said, _),) = other.take_more(7, 0)
    assert (again.fileno(), said) == (connection.fileno(), b"next")
    assert harness.keeper.on_death(0, has_served=True) == 7
    ended = []
    for number, client in enumerate(clients):
        client.setblocking(False)
        try:
            ended += [number] if client.recv(1) == b"" else []
        except BlockingIOError:
            pass
    assert ended == [0, 1, 2, 4, 5, 6, 7]


def test_connections_that_hang_up_are_not_among_those_taken_more(harness):
    harness.connect(sends=REQUEST)
    gone = harness.connect(sends=REQUEST)
    silent = harness.connect(sends=REQUEST)
    copy = harness.copies[0]
    copy.take()
    gone.close()
    silent.shutdown(socket.SHUT_WR)
    ((connection, data, claim),) = copy.take_more(7, 0)
    assert data == REQUEST
    copy.release(connection, is_usable=True, claim=claim)
    assert copy.take_more(7, 0) == []  # its end came without a request
    assert silent.recv(1) == b""


def wait_at(copy: RequestQueue) -> int:
    """Take a connection's number from the kernel, as a copy does, and go no further."""
    return copy._wait(5, 1)[0][0]


def test_a_connection_that_a_dead_copy_took_and_did_not_claim_is_served_by_another(harness, now):
    harness.connect(sends=REQUEST)
    number = wait_at(harness.copies[0])
    harness.keeper.on_death(0, has_served=True)
    assert harness.copies[1]._wait(0, 1) == []
    now[0] += connections_module.PATIENCE_S / 2
    harness.keeper.tick()
    assert harness.copies[1]._wait(0, 1) == []
    assert harness.keeper.next_wake() is not None
    now[0] += connections_module.PATIENCE_S
    harness.keeper.tick()
    assert harness.copies[1]._wait(0, 1) == [], "not looked at often enough"
    for _ in range(10):
        harness.keeper.tick()
    assert harness.copies[1].take()[0].fileno() == number
    assert harness.keeper.next_wake() is None


def test_a_connection_that_a_living_copy_is_about_to_claim_is_left_to_it(harness, now):
    harness.connect(sends=REQUEST)
    number = wait_at(harness.copies[1])
    harness.keeper.on_death(0, has_served=True)
    harness.keeper.claims(1)[CLAIMED] = number
    for _ in range(20):
        now[0] += connections_module.PATIENCE_S
        harness.keeper.tick()
    third = harness.fork(0)
    assert third._wait(0, 1) == []


def test_a_connection_taken_after_a_death_is_not_suspected(harness, now):
    harness.connect(sends=REQUEST)
    wait_at(harness.copies[0])
    harness.connect(sends=REQUEST)
    harness.keeper.on_death(0, has_served=True)
    wait_at(harness.copies[1])
    now[0] += 2 * connections_module.PATIENCE_S
    for _ in range(20):
        harness.keeper.tick()
    third = harness.fork(0)
    assert len(third._wait(0, 5)) == 1


def test_a_copy_that_is_second_at_a_connection_leaves_it_to_the_first(harness):
    """What happens when a copy was kept from running for longer than the keeper's patience."""
    harness.connect(sends=REQUEST)
    number = wait_at(harness.copies[0])
    harness.keeper._queue.modify(number, connections_module.ARMED)
    assert harness.copies[1].take()[1] == REQUEST
    other = harness.connect(sends=b"other")
    late = harness.copies[0]
    came = iter([[(number, 1)], late._wait(5, 1)])
    late._wait = lambda *_: next(came)
    assert late.take()[1] == b"other"  # it found nothing to read at the first
    assert harness.claimed(1) == number
    assert other.send(b"x") == 1


def test_a_copy_that_dies_with_a_request_costs_its_connection_and_no_other(harness):
    client, idle = harness.connect(sends=REQUEST), harness.connect()
    harness.copies[0].take()
    harness.keeper.on_death(0, has_served=True)
    assert client.recv(1) == b""
    idle.sendall(REQUEST)
    assert harness.copies[1].take()[1] == REQUEST


def test_a_closed_connections_number_is_not_reused_while_a_copy_claims_it(harness):
    client = harness.connect(sends=REQUEST)
    connection, _ = harness.copies[0].take()
    number = connection.fileno()
    client.close()
    harness.step()
    assert number in harness.keeper._free
    harness.keeper._free.rotate(1)  # as if all others had been used since
    assert harness.keeper._free[0] == number
    harness.connect()
    assert number not in harness.keeper._open
    harness.copies[0].release(connection, is_usable=False)
    harness.keeper._free.rotate(1)
    while harness.keeper._free[0] != number:
        harness.keeper._free.rotate(1)
    harness.connect()
    assert number in harness.keeper._open


def test_a_copy_receives_all_connections_however_long_it_was_busy(harness):
    for number in range(900):  # more than fits a channel that nobody reads
        client = harness.connect()
        if number % 3 == 0:
            client.close()
    harness.step()
    assert harness.keeper.claims(0)[OPENED] == 900
    assert harness.keeper.next_wake() is not None, "what could not be sent is tried again"
    harness.clients[-1].sendall(REQUEST)
    with ThreadPoolExecutor() as pool:
        taken = pool.submit(harness.copies[0].take)
        while not taken.done():
            harness.step()
    assert taken.result()[1] == REQUEST
    assert harness.keeper.next_wake() is not None, "the other copy has not asked yet"


def test_when_the_queue_is_drained_every_copy_exits(harness):
    client = harness.connect(sends=REQUEST)
    harness.keeper.drain()
    assert not harness.keeper.is_drained
    connection, _ = harness.copies[0].take()
    harness.copies[0].release(connection, is_usable=False)
    assert client.recv(1) == b""
    harness.step()
    assert harness.keeper.is_drained
    harness.keeper.end_copies()
    for copy in harness.copies:
        assert copy.take() is None
        assert copy.exit_code == DRAINED


def test_an_idle_connection_holds_up_a_drain_for_a_moment_only(harness, now):
    idle, asked = harness.connect(), harness.connect()
    harness.keeper.drain()
    harness.step()
    asked.sendall(REQUEST)
    now[0] += 2 * connections_module.IDLE_GRACE_S
    harness.step()
    assert idle.recv(1) == b""
    connection, data = harness.copies[0].take()
    assert data == REQUEST
    harness.copies[0].release(connection, is_usable=False)
    harness.step()
    assert harness.keeper.is_drained
    assert os.path.exists("s")
