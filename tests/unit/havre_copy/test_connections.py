"""The keeper's and the copies' sides of the queue in one process, a step at a time."""

import os
import selectors
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from havre_copy import connections as connections_module
from havre_copy.connections import Connections
from havre_copy.fair_queue import DRAINED, HELD, OPENED, Connection, FairQueue, _is_free

REQUEST = b"POST /predict HTTP/1.1\r\ncontent-length: 0\r\n\r\n"


class Silent:
    def say(self, text: str) -> None:
        raise AssertionError(text)


class Place(FairQueue):
    """A copy in the keeper's own process, where each file is at its number already."""

    def _place(self, number: int, file: int) -> None:
        os.close(file)
        if number not in self._connections and not _is_free(number):
            self._connections[number] = Connection(socket.AF_UNIX, socket.SOCK_STREAM, 0, number)

    def let_go(self) -> None:
        """The keeper closes the files."""
        for connection in [*self._connections.values(), self._accept_one.__self__]:
            connection.detach()


class Bench:
    """A keeper's side and two copies, in one process."""

    def __init__(self, path: str) -> None:
        self.path = path
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(2000)
        self.selector = selectors.PollSelector()
        self.keeper = Connections(
            listener=listener, selector=self.selector, copies=2, journal=Silent(), most=8
        )
        self.every_copy: list[Place] = []
        self.copies = [self.fork(number) for number in range(2)]
        self.clients: list[socket.socket] = []

    def fork(self, number: int) -> FairQueue:
        channel = self.keeper.before_fork(number)
        copy = self.keeper.queue_in_child(number, channel, Silent())
        copy.__class__ = Place
        self.every_copy.append(copy)
        return copy

    def close(self) -> None:
        for copy in self.every_copy:
            copy.let_go()
        for client in self.clients:
            client.close()
        self.step()

    def step(self) -> None:
        for key, events in self.selector.select(0):
            key.data(events)
        self.keeper.see_to()

    def connect(self, *, says: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.sendall(says)
        self.clients.append(client)
        self.step()
        return client

    def held(self, copy: int) -> int:
        return self.keeper.hand(copy)[HELD]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench = Bench("s")
    yield bench
    bench.close()


@pytest.fixture
def now(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(connections_module, "monotonic", lambda: clock[0])
    return clock


def test_each_request_goes_to_one_copy_and_its_connection_comes_back(bench):
    client = bench.connect(says=REQUEST)
    first, second = bench.copies
    connection, data = first.take()
    assert data == REQUEST
    assert bench.held(0) == connection.fileno()
    other = bench.connect(says=REQUEST)
    assert second.take()[0].fileno() != connection.fileno()
    first.put_back(connection, is_usable=True)
    assert bench.held(0) == 0
    client.sendall(b"next")
    assert first.take() == (connection, b"next")
    first.put_back(connection, is_usable=False)
    assert client.recv(1) == b""
    assert other.send(b"x") == 1


def test_a_copy_may_take_more_of_what_waits_and_its_death_costs_just_that(bench):
    clients = [bench.connect(says=REQUEST) for _ in range(10)]
    copy, other = bench.copies
    assert copy.take() is not None
    more = copy.take_more(7, 0)
    assert len(more) == 7
    assert other.take() is not None
    assert len(other.take_more(7, 0)) == 1
    connection, data, place = more[2]
    assert data == REQUEST
    copy.put_back(connection, is_usable=True, place=place)
    clients[3].sendall(b"next")
    ((again, said, _),) = other.take_more(7, 0)
    assert (again.fileno(), said) == (connection.fileno(), b"next")
    assert bench.keeper.bury(0, has_served=True) == 7
    ended = []
    for number, client in enumerate(clients):
        client.setblocking(False)
        try:
            ended += [number] if client.recv(1) == b"" else []
        except BlockingIOError:
            pass
    assert ended == [0, 1, 2, 4, 5, 6, 7]


def test_what_hangs_up_is_none_of_what_a_copy_takes_more(bench):
    bench.connect(says=REQUEST)
    gone = bench.connect(says=REQUEST)
    silent = bench.connect(says=REQUEST)
    copy = bench.copies[0]
    copy.take()
    gone.close()
    silent.shutdown(socket.SHUT_WR)
    ((connection, data, place),) = copy.take_more(7, 0)
    assert data == REQUEST
    copy.put_back(connection, is_usable=True, place=place)
    assert copy.take_more(7, 0) == []  # its end came without a request
    assert silent.recv(1) == b""


def wait_at(copy: FairQueue) -> int:
    """Take a connection's number from the kernel, as a copy does, and go no further."""
    return copy._wait(5, 1)[0][0]


def test_what_a_copy_took_and_did_not_name_is_served_by_another(bench, now):
    bench.connect(says=REQUEST)
    number = wait_at(bench.copies[0])
    bench.keeper.bury(0, has_served=True)
    assert bench.copies[1]._wait(0, 1) == []
    now[0] += connections_module.PATIENCE_S / 2
    bench.keeper.see_to()
    assert bench.copies[1]._wait(0, 1) == []
    assert bench.keeper.next_wake() is not None
    now[0] += connections_module.PATIENCE_S
    bench.keeper.see_to()
    assert bench.copies[1]._wait(0, 1) == [], "not looked at often enough"
    for _ in range(10):
        bench.keeper.see_to()
    assert bench.copies[1].take()[0].fileno() == number
    assert bench.keeper.next_wake() is None


def test_what_a_living_copy_is_about_to_name_is_left_to_it(bench, now):
    bench.connect(says=REQUEST)
    number = wait_at(bench.copies[1])
    bench.keeper.bury(0, has_served=True)
    bench.keeper.hand(1)[HELD] = number
    for _ in range(20):
        now[0] += connections_module.PATIENCE_S
        bench.keeper.see_to()
    third = bench.fork(0)
    assert third._wait(0, 1) == []


def test_what_comes_to_be_taken_after_a_death_is_not_suspected(bench, now):
    bench.connect(says=REQUEST)
    wait_at(bench.copies[0])
    bench.connect(says=REQUEST)
    bench.keeper.bury(0, has_served=True)
    wait_at(bench.copies[1])
    now[0] += 2 * connections_module.PATIENCE_S
    for _ in range(20):
        bench.keeper.see_to()
    third = bench.fork(0)
    assert len(third._wait(0, 5)) == 1


def test_a_copy_that_is_second_at_a_connection_leaves_it_to_the_first(bench):
    """What happens when a copy was kept from running for longer than the keeper's patience."""
    bench.connect(says=REQUEST)
    number = wait_at(bench.copies[0])
    bench.keeper._queue.modify(number, connections_module.ARMED)
    assert bench.copies[1].take()[1] == REQUEST
    other = bench.connect(says=b"other")
    late = bench.copies[0]
    came = iter([[(number, 1)], late._wait(5, 1)])
    late._wait = lambda *_: next(came)
    assert late.take()[1] == b"other"  # it found nothing to read at the first
    assert bench.held(1) == number
    assert other.send(b"x") == 1


def test_a_copy_that_dies_with_a_request_costs_its_connection_and_no_other(bench):
    client, idle = bench.connect(says=REQUEST), bench.connect()
    bench.copies[0].take()
    bench.keeper.bury(0, has_served=True)
    assert client.recv(1) == b""
    idle.sendall(REQUEST)
    assert bench.copies[1].take()[1] == REQUEST


def test_a_closed_connections_number_is_not_used_again_while_a_copy_has_it_in_hand(bench):
    client = bench.connect(says=REQUEST)
    connection, _ = bench.copies[0].take()
    number = connection.fileno()
    client.close()
    bench.step()
    assert number in bench.keeper._free
    bench.keeper._free.rotate(1)  # as if all others had been used since
    assert bench.keeper._free[0] == number
    bench.connect()
    assert number not in bench.keeper._open
    bench.copies[0].put_back(connection, is_usable=False)
    bench.keeper._free.rotate(1)
    while bench.keeper._free[0] != number:
        bench.keeper._free.rotate(1)
    bench.connect()
    assert number in bench.keeper._open


def test_a_copy_is_told_of_all_connections_however_long_it_did_not_ask(bench):
    for number in range(900):  # more than fits a channel that nobody reads
        client = bench.connect()
        if number % 3 == 0:
            client.close()
    bench.step()
    assert bench.keeper.hand(0)[OPENED] == 900
    assert bench.keeper.next_wake() is not None, "what could not be sent is tried again"
    bench.clients[-1].sendall(REQUEST)
    with ThreadPoolExecutor() as pool:
        taken = pool.submit(bench.copies[0].take)
        while not taken.done():
            bench.step()
    assert taken.result()[1] == REQUEST
    assert bench.keeper.next_wake() is not None, "the other copy has not asked yet"


def test_when_it_is_drained_every_copy_leaves(bench):
    client = bench.connect(says=REQUEST)
    bench.keeper.drain()
    assert not bench.keeper.is_drained
    connection, _ = bench.copies[0].take()
    bench.copies[0].put_back(connection, is_usable=False)
    assert client.recv(1) == b""
    bench.step()
    assert bench.keeper.is_drained
    bench.keeper.dismiss()
    for copy in bench.copies:
        assert copy.take() is None
        assert copy.code == DRAINED


def test_an_idle_connection_holds_up_a_drain_for_a_moment_only(bench, now):
    idle, asked = bench.connect(), bench.connect()
    bench.keeper.drain()
    bench.step()
    asked.sendall(REQUEST)
    now[0] += 2 * connections_module.IDLE_GRACE_S
    bench.step()
    assert idle.recv(1) == b""
    connection, data = bench.copies[0].take()
    assert data == REQUEST
    bench.copies[0].put_back(connection, is_usable=False)
    bench.step()
    assert bench.keeper.is_drained
    assert os.path.exists("s")
