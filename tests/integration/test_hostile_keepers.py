"""User code in its keeper's place: whatever it says, nobody waits for it, or is filled or misled.

A plain server on a socket says it; harmless, and never more than a few megabytes.
"""

import json
import socket
import threading
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from havre.domain.instance import CheckRequest
from havre.domain.latency import BUCKETS
from havre.domain.limits import MAX_PREDICTION_BYTES
from havre.engines import checks, keeper_protocol
from havre.engines.keeper_protocol import KeeperState
from havre.engines.model_channel import always

AT_ONCE_S, LONG_S = 20.0, 60.0
"""What is refused at once takes no longer than the first, however busy this machine is; whoever
waits for more of it waits for the second."""

Speak = Callable[[socket.socket, dict[str, Any]], None]
"""Answers one request, which it gets as it was sent."""

STATUS: dict[str, Any] = {
    "protocol": 1,
    "phase": "ready",
    "reason": "",
    "pid": 5,
    "ready": 2,
    "busy": 1,
    "restarts": 0,
    "answered": 7,
    "notes": [],
    "shared_bytes": 1,
    "copy_bytes": 2,
}
RECORDED = {
    "body_base64": "MQ==",
    "content_type": "application/json",
    "status": 200,
    "answer_base64": "Mg==",
    "took_s": 0.001,
}


class HostileKeeper:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.speak: Speak = lambda *_: None
        self.asked: list[dict[str, Any]] = []
        self.said_bytes = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def say(self, connection: socket.socket, what: bytes) -> None:
        connection.sendall(what)
        self.said_bytes += len(what)

    def tell(self, connection: socket.socket, *answers: Any) -> None:
        for answer in answers:
            self.say(connection, json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    heard = connection.makefile("rb").readline()
                    self.asked.append(json.loads(heard))
                    self.speak(connection, self.asked[-1])
                except OSError:
                    continue  # whom it spoke to has gone


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileKeeper]:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    server = HostileKeeper(Path("i.ctl"))
    try:
        yield server
    finally:
        server.close()


def told(hostile: HostileKeeper, *answers: Any) -> None:
    hostile.speak = lambda connection, _: hostile.tell(connection, *answers)


def test_an_honest_word_is_believed(hostile: HostileKeeper) -> None:
    told(hostile, STATUS)
    assert ask(hostile) == KeeperState.from_json(STATUS)


def ask(hostile: HostileKeeper) -> KeeperState | None:
    """With all the time that it may need."""
    return keeper_protocol.ask(hostile.path, "status", within_s=LONG_S)


WRONG: dict[str, Any] = {
    "negative copies": {"ready": -1},
    "copies without number": {"ready": 10**30},
    "a share of a copy": {"ready": 1.5},
    "text for a number": {"busy": "1"},
    "truth for a number": {"busy": True},
    "restarts beyond all": {"restarts": 2**53},
    "no memory": {"copy_bytes": -5},
    "all memory there is": {"shared_bytes": 2**63},
    "another phase": {"phase": "splendid"},
    "a list for a phase": {"phase": ["ready"]},
    "a number for a reason": {"reason": 5},
    "a text of notes": {"notes": "n" * 1000},
    "notes of objects": {"notes": [{}]},
    "times that are none": {"latency": {"counts": [0] * BUCKETS, "total_s": "x"}},
    "negative counts": {"latency": {"counts": [-1] * BUCKETS, "total_s": 1.0}},
    "huge counts": {"latency": {"counts": [2**62] * BUCKETS, "total_s": 1.0}},
    "a list of latencies": {"latency": [1]},
    "negative share": {"capturing": {"percent": -5, "redact": []}},
    "names that are numbers": {"capturing": {"percent": 5, "redact": [1]}},
    "thousands of names": {"capturing": {"percent": 5, "redact": ["x"] * 5000}},
    "a list of captures": {"capturing": []},
    "more recorded than there can be": {"recording": 10**6},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_word_that_cannot_be_true_is_none(hostile: HostileKeeper, wrong: dict[str, Any]) -> None:
    told(hostile, {**STATUS, **wrong})
    assert ask(hostile) is None


RAW = {
    "not a number": b'{"latency": {"total_s": NaN}}\n',
    "infinity": b'{"ready": Infinity}\n',
    "deep lists": b"[" * 500_000 + b"\n",
    "deep objects": b'{"a":' * 90_000 + b"\n",
    "many values": b'{"notes": [' + b"[]," * 300_000 + b"[]]}\n",
    "a list": b"[1]\n",
    "nothing": b"",
    "an empty line": b"\n",
    "no JSON": b"\xff\xfe\n",
    "a number of many digits": b'{"ready": ' + b"9" * 500_000 + b"}\n",
    "no end of a line": b"x" * 3_000_000,
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
def test_what_is_no_answer_is_none_at_once_and_costs_little(
    hostile: HostileKeeper, raw: bytes
) -> None:
    hostile.speak = lambda connection, _: hostile.say(connection, raw)
    tracemalloc.start()
    try:
        began = time.monotonic()
        assert ask(hostile) is None
        assert time.monotonic() - began < AT_ONCE_S
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_sentences_are_cut_and_few(hostile: HostileKeeper) -> None:
    said = {**STATUS, "reason": "r" * 500_000, "notes": ["\ud800\x00" + "n" * 5000] * 100}
    told(hostile, said)
    state = ask(hostile)
    assert state is not None
    assert (len(state.reason), len(state.notes)) == (
        keeper_protocol.LONGEST_REASON,
        keeper_protocol.MAX_NOTES,
    )
    assert {len(note) for note in state.notes} == {keeper_protocol.LONGEST_NOTE}
    state.notes[0].encode()


def drip(hostile: HostileKeeper, is_over: threading.Event) -> Speak:
    def speak(connection: socket.socket, _: dict[str, Any]) -> None:
        ends_at = time.monotonic() + LONG_S
        while time.monotonic() < ends_at and not is_over.wait(0.05):
            hostile.say(connection, b" ")

    return speak


def test_a_keeper_that_answers_byte_by_byte_has_no_more_time(hostile: HostileKeeper) -> None:
    is_over = threading.Event()
    hostile.speak = drip(hostile, is_over)
    began = time.monotonic()
    assert keeper_protocol.ask(hostile.path, "status") is None
    assert time.monotonic() - began < AT_ONCE_S
    is_over.set()


def test_two_answers_in_one_breath_are_two(hostile: HostileKeeper) -> None:
    answers = [{"status": 200, "body_base64": "MQ=="}, {"status": 500, "body_base64": "eA=="}]
    hostile.speak = lambda connection, _: hostile.say(
        connection,
        b"\n".join(json.dumps(each).encode() for each in answers) + b"\n" + b" " * 200_000,
    )
    found = list(
        checks.check(hostile.path, [CheckRequest(b"")] * 2, limit_s=LONG_S, should_continue=always)
    )
    assert [(each.status, each.body) for each in found] == [(200, b"1"), (500, b"x")]


def pages(hostile: HostileKeeper, page: Callable[[int], Any]) -> None:
    def speak(connection: socket.socket, _: dict[str, Any]) -> None:
        hostile.tell(connection, page(len(hostile.asked)))

    hostile.speak = speak


def test_no_more_is_taken_than_was_asked_for(hostile: HostileKeeper) -> None:
    pages(hostile, lambda n: {"recorded": [RECORDED] * 30, "before": [n, 0, 0], "most": 10**12})
    found = checks.recorded(hostile.path, 50, should_continue=always)
    assert len(found) == 50
    assert len(hostile.asked) == 2


def test_requests_without_end_are_refused_by_their_size(
    hostile: HostileKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MAX_RECORDED_BYTES", 5_000_000)
    large = {**RECORDED, "body_base64": b64encode(b"x" * 1_000_000).decode()}
    pages(hostile, lambda n: {"recorded": [large], "before": [n, 0, 0], "most": 10**12})
    with pytest.raises(ValueError, match="5000000 bytes"):
        checks.recorded(hostile.path, 1000, should_continue=always)
    assert hostile.said_bytes < 10_000_000


def test_pages_that_come_slowly_have_a_limit_together(
    hostile: HostileKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "RECORDED_WITHIN_S", 0.3)

    def speak(connection: socket.socket, _: dict[str, Any]) -> None:
        time.sleep(0.1)
        hostile.tell(connection, {"recorded": [RECORDED], "before": [len(hostile.asked), 0, 0]})

    hostile.speak = speak
    with pytest.raises(TimeoutError):
        checks.recorded(hostile.path, 1000, should_continue=always)


@pytest.mark.parametrize(
    "page",
    [
        {"recorded": [], "before": [1, 0, 0], "most": 5},
        {"recorded": [RECORDED], "before": [1, 0, 0], "most": 5},
        {"recorded": [RECORDED], "before": "x" * 100_000, "most": 5},
        {"recorded": [RECORDED], "before": [0] * 1000, "most": 5},
        {"recorded": [RECORDED], "before": [-1, 0, 0], "most": 5},
        {"recorded": {"0": RECORDED}, "most": 5},
        {"recorded": [5], "most": 5},
        {"recorded": [{**RECORDED, "took_s": -1}], "most": 5},
        {"recorded": [{**RECORDED, "status": 10**9}], "most": 5},
        {"recorded": [{**RECORDED, "body_base64": "?"}], "most": 5},
        {"recorded": [{**RECORDED, "content_type": 5}], "most": 5},
    ],
)
def test_a_page_that_leads_nowhere_or_is_none_is_refused(
    hostile: HostileKeeper, page: dict[str, Any]
) -> None:
    told(hostile, page)
    with pytest.raises((ValueError, TypeError, KeyError)):
        checks.recorded(hostile.path, 5, should_continue=always)
    assert len(hostile.asked) <= 2


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"status": 10**9},
        {"status": 200, "took_s": 1e300},
        {"status": 200, "took_s": "1"},
        {"status": 200, "body_base64": b64encode(b"x" * (MAX_PREDICTION_BYTES + 1)).decode()},
        {"status": 200, "body_base64": 7},
        {"status": 200, "error": {}},
    ],
)
def test_an_answer_to_a_check_that_is_none_is_refused(
    hostile: HostileKeeper, answer: dict[str, Any]
) -> None:
    told(hostile, answer)
    with pytest.raises((ValueError, TypeError)):
        list(
            checks.check(hostile.path, [CheckRequest(b"")], limit_s=LONG_S, should_continue=always)
        )


def test_no_more_answers_are_taken_than_requests_were_sent(hostile: HostileKeeper) -> None:
    def speak(connection: socket.socket, _: dict[str, Any]) -> None:
        while True:
            hostile.tell(connection, {"status": 200, "body_base64": "MQ=="})

    hostile.speak = speak
    found = list(
        checks.check(hostile.path, [CheckRequest(b"")] * 3, limit_s=LONG_S, should_continue=always)
    )
    assert len(found) == 3


def is_checked(path: Path, should_continue: Callable[[], bool]) -> object:
    requests = [CheckRequest(b"")] * 100
    return list(checks.check(path, requests, limit_s=600.0, should_continue=should_continue))


def is_recorded(path: Path, should_continue: Callable[[], bool]) -> object:
    return checks.recorded(path, 5, should_continue=should_continue)


@pytest.mark.parametrize("ask", [is_checked, is_recorded])
def test_what_is_called_off_ends_soon(
    hostile: HostileKeeper,
    ask: Callable[[Path, Callable[[], bool]], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "MARGIN_S", LONG_S)
    is_over, is_called_off = threading.Event(), threading.Event()
    hostile.speak = drip(hostile, is_over)
    threading.Timer(0.3, is_called_off.set).start()
    began = time.monotonic()
    with pytest.raises(ConnectionAbortedError):
        ask(hostile.path, lambda: not is_called_off.is_set())
    assert time.monotonic() - began < AT_ONCE_S
    is_over.set()
