"""Connections that are kept open and shared: who serves them, and what outlives whom."""

import http.client
import json
import os
import random
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.copy_instance import (
    AT_GATE,
    DEADLINE_S,
    ECHO,
    NO_RESPONSE,
    Instance,
    in_background,
    wait_until,
)

from havre_copy.connections import IDLE_GRACE_S

SLEEPER = (
    AT_GATE
    + """
def predict(data):
    if isinstance(data, str):
        wait_at(data)
    else:
        time.sleep(data or 0)
    return [data, os.getpid()]
"""
)


class Kept:
    """A connection that carries one request after the other."""

    def __init__(self, instance: Instance) -> None:
        self.connection = http.client.HTTPConnection("localhost")
        self.connection.sock = instance.connect()

    def ask(self, body: object, path: str = "/predict") -> object:
        """What predict() returned; the connection must stay usable."""
        self.connection.request("POST", path, json.dumps(body), {"content-type": JSON})
        response = self.connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        assert self.connection.sock is not None, "the connection was closed"
        return json.loads(body)

    def is_closed(self) -> bool:
        return self.connection.sock.recv(1) == b""

    def close(self) -> None:
        self.connection.close()


JSON = "application/json"


@pytest.fixture
def keep():
    kept = []

    def connect(instance: Instance) -> Kept:
        kept.append(Kept(instance))
        return kept[-1]

    yield connect
    for each in kept:
        each.close()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_every_connection_is_every_copys(launch, keep):
    instance = launch(SLEEPER, copies=3).ready()
    connections = [keep(instance) for _ in range(4)]
    seen = [set() for _ in connections]
    copies = set(instance.copies())

    def ask_all() -> bool:
        waits = [in_background(lambda each=each: each.ask(0.002)) for each in connections]
        for pids, wait in zip(seen, waits, strict=True):
            pids.add(wait()[1])
        return all(len(pids) > 1 for pids in seen) and set.union(*seen) == copies

    wait_until(ask_all, "a response of several copies on every connection")


def test_no_request_waits_for_a_slow_one_while_a_copy_is_idle(launch, keep):
    instance = launch(SLEEPER).ready()
    fast = [keep(instance) for _ in range(6)]
    slow = keep(instance)
    for each in [*fast, slow]:
        each.ask(0)
    held = in_background(lambda: slow.ask("gate"))
    [busy] = wait_until(instance.at_gate)
    for _ in range(10):
        for each in fast:
            assert each.ask(0)[1] != busy
    instance.open_gate()
    assert held() == ["gate", busy]


def test_a_request_is_served_in_the_order_of_its_arrival(launch, keep):
    """One copy: what waits is answered first come, first served."""
    score = "done = []\ndef predict(data):\n    done.append(data)\n"
    score += "    if data == 'first': wait_at(data)\n    return done"
    instance = launch(AT_GATE + score, copies=1).ready()
    connections = [keep(instance) for _ in range(8)]
    for each in connections:
        each.ask("before")  # by now it is in the queue, whose order is that of arrival
    held = in_background(lambda: connections[0].ask("first"))
    wait_until(lambda: instance.at_gate("first"))
    order = list(range(1, 8))
    random.Random(1).shuffle(order)
    for number in order:
        connections[number].connection.request("POST", "/predict", b"%d" % number,
                                               {"content-type": JSON})  # fmt: skip
    instance.open_gate("first")
    held()
    responses = [json.loads(connections[n].connection.getresponse().read()) for n in order]
    assert responses[-1] == [*["before"] * 8, "first", *order]


def test_kills_at_any_moment_cost_a_request_each_and_leave_no_connection_behind(launch, keep):
    """Copies are killed idle, busy and in between; whoever asks is answered or cut, at once."""
    instance = launch(SLEEPER, copies=3).ready()
    chance = random.Random(3)
    stop = threading.Event()
    lost, slowest, answered = [], [], []

    def call(seed: int) -> None:
        own = random.Random(seed)
        connection = Kept(instance)
        worst = 0.0
        while not stop.is_set():
            began = time.monotonic()
            try:
                connection.ask(own.choice([0, 0, 0, 0.001]))
                answered.append(1)
            except NO_RESPONSE as error:
                lost.append(error)
                connection.close()
                connection = Kept(instance)
            worst = max(worst, time.monotonic() - began)
        connection.close()
        slowest.append(worst)

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for caller in callers:
        caller.start()
    kills = 60
    try:
        for number in range(kills):
            wait_until(lambda n=number: (s := instance.ask("status"))["restarts"] == n and s)
            instance.ready()
            count = len(answered)
            wait_until(lambda count=count: len(answered) > count + 20)
            time.sleep(chance.random() * 0.005)
            os.kill(chance.choice(instance.copies()), signal.SIGKILL)
    finally:
        stop.set()
        for caller in callers:
            caller.join(DEADLINE_S)
    assert not any(caller.is_alive() for caller in callers)
    wait_until(lambda: instance.ask("status")["restarts"] == kills)
    assert len(lost) <= kills
    assert max(slowest) < 8
    # A copy may die between sending an answer and counting it.
    assert len(answered) <= instance.ask("status")["answered"] + kills


def test_a_large_body_is_read_by_one_copy(launch, keep):
    instance = launch(
        "def predict(data): return [len(data), data[:2], data[-2:]]", copies=4
    ).ready()
    connections = [keep(instance) for _ in range(6)]
    for size in (70_000, 1_000_000, 9_000_000):
        waits = [
            in_background(lambda each=each, n=n, size=size: each.ask(f"{n:02}" * (size // 2)))
            for n, each in enumerate(connections)
        ]
        for n, wait in enumerate(waits):
            assert wait() == [size, f"{n:02}", f"{n:02}"]


def test_what_follows_a_request_too_early_ends_the_connection(launch):
    """Nothing pipelines to a copy: the bytes would belong to nobody."""
    instance = launch(ECHO).ready()
    one = b"POST /predict HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n7"
    response = instance.raw(one + one)
    assert response.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nconnection: close\r\n" in response


def test_connections_come_and_go_and_nothing_piles_up(launch, keep):
    instance = launch(ECHO).ready()
    steady = keep(instance)
    held = descriptors(instance.process.pid)
    for number in range(2500):
        with instance.connect() as connection:
            if number % 5 == 0:
                steady.ask(number)
            connection.send(b"")
    steady.ask(1)
    wait_until(lambda: descriptors(instance.process.pid) <= held + 1, "closed connections")
    for pid in instance.copies():
        assert descriptors(pid) < 1200  # what was closed gives its number to what comes


def test_a_client_that_leaves_during_a_long_prediction_frees_its_connection(launch, keep):
    """The copy has the old file at that number for as long as it predicts."""
    instance = launch(SLEEPER).ready()
    gone = Kept(instance)
    gone.connection.request("POST", "/predict", b'"gate"', {"content-type": JSON})
    wait_until(instance.at_gate)
    gone.close()
    others = [keep(instance) for _ in range(20)]
    for each in others:
        assert each.ask(0)[0] == 0
    wait_until(lambda: instance.connections() == len(others), "the end of the first")
    instance.open_gate()
    wait_until(lambda: instance.ask("status")["busy"] == 0)
    for each in others:
        assert each.ask(0)[0] == 0
    assert instance.ask("status")["restarts"] == 0


def test_copies_serve_on_without_their_keeper_old_connections_and_new(launch, keep):
    instance = launch(SLEEPER).ready()
    copies = set(instance.copies())
    old = [keep(instance) for _ in range(4)]
    for each in old:
        each.ask(0)
    fresh = [keep(instance) for _ in range(3)]  # sent to the copies, but not used yet
    wait_until(lambda: instance.connections() == len(old) + len(fresh))
    instance.ask("status")  # by now it has sent them, too
    os.kill(instance.process.pid, signal.SIGKILL)
    instance.process.wait()
    for _ in range(5):
        for each in [*old, *fresh]:
            assert each.ask(0)[1] in copies
        assert instance.post(0).json[1] in copies
    held = in_background(lambda: instance.post("gate"))
    [busy] = wait_until(instance.at_gate)
    for each in old:
        assert each.ask(0)[1] in copies - {busy}
    instance.open_gate()
    assert held().status == 200
    # Nobody spins.
    before = cpu_ticks(copies)
    time.sleep(0.5)  # half a second of nothing is what is measured
    assert cpu_ticks(copies) - before <= 3


def cpu_ticks(pids: set[int]) -> int:
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields)


def test_more_connections_than_numbers_wait_until_one_is_closed(launch, keep):
    instance = launch(ECHO, open_files=64).ready()
    first = [keep(instance) for _ in range(32)]
    for number, each in enumerate(first):
        assert each.ask(number)["prediction"] == number
    late = keep(instance)
    late.connection.request("POST", "/predict", b'"late"', {"content-type": JSON})
    for number, each in enumerate(first):
        assert each.ask(number)["prediction"] == number
    first[3].close()
    assert json.loads(late.connection.getresponse().read())["prediction"] == "late"


def test_a_model_that_uses_up_the_descriptors_gets_a_new_copy(launch, keep):
    """Its files are not replaced by connections, and the request at which that shows is served."""
    score = (
        "import os\nkept = []\ndef predict(data):\n    try:\n        while data == 'leak':\n"
        "            kept.append(open('/dev/null'))\n    except OSError:\n        pass\n"
        "    for file in kept: os.fstat(file.fileno())\n    return os.getpid()"
    )
    instance = launch(score, copies=1, open_files=64).ready()
    old = keep(instance)
    leaky = old.ask("leak")
    assert old.ask("fine") == leaky
    new = keep(instance)
    assert new.ask("fine") != leaky
    assert old.ask("fine") != leaky
    assert "no file descriptors left" in instance.log


def test_a_keeper_that_re_execs_itself_keeps_its_connections(launch, keep):
    score = (
        "import os, time\nkeeper = os.getpid()\ndef predict(data):\n"
        "    if os.getppid() == keeper: time.sleep(99)\n    return 1"
    )
    instance = launch(score, copies=1, predict_timeout_s=4).ready()
    waiting, idle = keep(instance), keep(instance)
    with pytest.raises(NO_RESPONSE):
        keep(instance).ask(1)
    waiting.connection.request("POST", "/predict", b"1", {"content-type": JSON})
    wait_until(lambda: instance.state["mode"] == "per_copy", "a keeper that starts anew")
    assert waiting.connection.getresponse().read() == b"1"
    assert idle.ask(1) == 1
    assert keep(instance).ask(1) == 1


def test_a_drain_ends_kept_connections_and_loses_nothing(launch, keep):
    def drain() -> bool:
        """Whether the idle connection was used within the time that a drain leaves for it."""
        instance = launch(SLEEPER).ready()
        used, idle = keep(instance), keep(instance)
        used.ask(0)
        idle.ask(0)
        used.connection.request("POST", "/predict", b'"gate"', {"content-type": JSON})
        wait_until(instance.at_gate)
        began = time.monotonic()
        instance.process.terminate()
        wait_until(lambda: instance.state["phase"] == "draining")
        with suppress(BrokenPipeError):
            idle.connection.request("POST", "/predict", b"0", {"content-type": JSON})
        in_time = time.monotonic() - began < IDLE_GRACE_S
        if in_time:
            response = idle.connection.getresponse()
            assert response.getheader("connection") == "close"
            assert json.loads(response.read())[0] == 0
        instance.open_gate()
        response = used.connection.getresponse()
        assert response.getheader("connection") == "close"
        assert json.loads(response.read())[0] == "gate"
        assert instance.process.wait(20) == 0
        return in_time

    wait_until(drain, "a drain that this machine does not hold up")


def test_an_unused_connection_does_not_hold_up_a_drain(launch, keep):
    instance = launch(ECHO).ready()
    idle = keep(instance)
    idle.ask(1)
    instance.process.terminate()
    assert instance.process.wait(20) == 0
    assert idle.is_closed()
    with pytest.raises(OSError, match="refused"):
        socket.socket(socket.AF_UNIX).connect(instance.socket_path)
