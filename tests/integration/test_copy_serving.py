"""A real keeper, real copies, real score.py files: what comes back for a request."""

import http.client
import os
import signal
import time

import pytest
from tests.support.copy_instance import (
    AT_GATE,
    ECHO,
    PREDICT,
    STREAM,
    in_background,
    interpreter,
    wait_until,
)

VERSIONS = ["3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
MANY_ANSWERS = """
import asyncio, collections, datetime, os, random, signal, sys, threading
random.seed(7)

def parts(items, fail=None):
    for item in items:
        yield item
    if fail:
        raise fail

async def later(items):
    for item in items:
        await asyncio.sleep(0)
        yield item

async def soon(value):
    await asyncio.sleep(0)
    return value

def stray_child():
    if os.fork() == 0:
        return "from the child"
    return "from the parent"

def deep(n):
    return deep(n + 1)

CASES = {
    "bytes": lambda: b"\\x00\\xff",
    "str": lambda: "text",
    "none": lambda: None,
    "set": lambda: {1},
    "when": lambda: datetime.datetime(2026, 1, 2),
    "opaque": lambda: object(),
    "texts": lambda: parts(["a", "b"]),
    "raw": lambda: parts([b"a", "b"]),
    "mixed": lambda: parts([{"n": 1}, "b"]),
    "none_at_all": lambda: parts([]),
    "sse": lambda: parts(["event: x\\ndata: 1\\n\\n", "data: [DONE]\\n\\n"]),
    "lines": lambda: parts(["two\\nlines"]),
    "iterator": lambda: iter([1, 2]),
    "fails_first": lambda: parts([], ValueError("early")),
    "fails_late": lambda: parts(["a"], ValueError("late")),
    "awaited": lambda: soon({"a": 1}),
    "async_parts": lambda: later(["a", "b"]),
    "raises": lambda: 1 / 0,
    "exits": lambda: sys.exit("bye"),
    "interrupts": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "memory": lambda: bytearray(1 << 60),
    "deep": lambda: deep(0),
    "closes_stdout": lambda: [sys.stdout.close(), sys.stderr.close(), "closed"][-1],
    "moves": lambda: [os.chdir("/"), signal.signal(signal.SIGTERM, signal.SIG_IGN), "moved"][-1],
    "forks": stray_child,
    "random": lambda: random.random(),
    "pid": lambda: os.getpid(),
    "large": lambda: "x" * 3000000,
}

def predict(data):
    return CASES[data]()
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_python_serves(launch, version):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on PATH or under pyenv")
    instance = launch(MANY_ANSWERS + "\nCASES['echo'] = lambda: 1\n", python=python).ready()
    response = instance.post("str", headers={"opc-request-id": "ABC"})
    assert (response.status, response.json) == (200, "text")
    assert response.headers["opc-request-id"] == "ABC"
    name, number, revision, took_us = response.headers["x-havre-copy"].split("/")
    assert (name, revision) == ("testinstance", "r1")
    assert number in ("0", "1")
    assert 0 <= int(took_us) < 10_000_000
    assert response.headers["content-type"] == "application/json"
    assert instance.post("awaited").json == {"a": 1}
    assert instance.post("async_parts", STREAM).body == b"data: a\n\ndata: b\n\n"
    failed, refused = instance.post("raises"), instance.post(b"{")
    assert failed.json["message"] == "ZeroDivisionError: division by zero"
    assert failed.headers["x-havre-copy"].split("/")[3].isdigit()
    assert refused.status == 400
    assert refused.headers["x-havre-copy"].endswith("/r1/")
    assert instance.check(b'"str"') == [(200, b'"text"')]
    state = instance.ask("status")
    assert (state["mode"], state["ready"], state["failed"]) == ("forked", 2, 1)
    assert state["shared_bytes"] > state["copy_bytes"] > 0
    (pid, *_) = instance.copies()
    os.kill(pid, 9)
    wait_until(lambda: instance.ask("status")["restarts"] == 1 and instance.ready(), "a new copy")
    instance.process.terminate()
    assert instance.process.wait(20) == 0


@pytest.fixture(scope="module")
def many():
    """One instance for all questions that leave it as it was."""
    from tests.support.copy_instance import Launch

    launcher = Launch()
    yield launcher(MANY_ANSWERS).ready()
    for instance in launcher.started:
        instance.end()


@pytest.mark.parametrize(
    ("case", "kind", "body"),
    [
        ("bytes", "application/octet-stream", b"\x00\xff"),
        ("str", "application/json", b'"text"'),
        ("none", "application/json", b"null"),
        ("set", "application/json", b"[1]"),
        ("when", "application/json", b'"2026-01-02T00:00:00"'),
        ("texts", "application/json", b'"ab"'),
        ("raw", "application/octet-stream", b"ab"),
        ("mixed", "application/json", b'[{"n":1},"b"]'),
        ("none_at_all", "application/json", b"[]"),
        ("iterator", "application/json", b"[1,2]"),
        ("awaited", "application/json", b'{"a":1}'),
        ("async_parts", "application/json", b'"ab"'),
        ("large", "application/json", b'"' + b"x" * 3000000 + b'"'),
        ("closes_stdout", "application/json", b'"closed"'),
        ("moves", "application/json", b'"moved"'),
    ],
)
def test_results(many, case, kind, body):
    response = many.post(case)
    assert (response.status, response.headers["content-type"]) == (200, kind)
    assert response.body == body


@pytest.mark.parametrize(
    ("case", "body"),
    [
        ("texts", b"data: a\n\ndata: b\n\n"),
        ("raw", b"adata: b\n\n"),
        ("mixed", b'data: {"n":1}\n\ndata: b\n\n'),
        ("none_at_all", b""),
        ("sse", b"event: x\ndata: 1\n\ndata: [DONE]\n\n"),
        ("lines", b"data: two\ndata: lines\n\n"),
        ("iterator", b"data: 1\n\ndata: 2\n\n"),
        ("async_parts", b"data: a\n\ndata: b\n\n"),
    ],
)
@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        ("Oracle-PythonSDK/2", "text/event-stream"),
        ("Oracle-PythonCLI/3", "text/event-stream; charset=utf-8"),
    ],
)
def test_streams(many, case, body, agent, kind):
    response = many.post(case, STREAM + "/v1/chat?x=1", headers={"user-agent": agent})
    assert (response.status, response.headers["content-type"]) == (200, kind)
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.body == body


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("opaque", "predict() returned a value of type object, which has no JSON form"),
        ("raises", "ZeroDivisionError: division by zero"),
        ("exits", "SystemExit: bye"),
        ("interrupts", "KeyboardInterrupt"),
        ("memory", "MemoryError"),
        ("deep", "RecursionError: maximum recursion depth exceeded"),
        ("fails_first", "ValueError: early"),
    ],
)
def test_a_failing_predict_is_a_500_and_the_copy_goes_on(many, case, message):
    copies = set(many.copies())
    identity = f"ID{case}"
    for path in (PREDICT, STREAM) if case == "fails_first" else (PREDICT,):
        response = many.post(case, path, headers={"opc-request-id": identity})
        assert response.status == 500
        assert response.json["code"] == "InternalServerError"
        assert response.json["message"].startswith(message)
    assert set(many.copies()) == copies
    assert f"request {identity}: predict()" in many.log
    if case == "raises":
        assert "ZeroDivisionError: division by zero\n" in many.log
        assert "serving.py" not in many.log.partition(identity)[2].partition("Error: ")[0]


def test_a_stream_that_fails_reports_it_in_its_trailer(many):
    body = b'"fails_late"'
    head = (
        f"POST {STREAM} HTTP/1.1\r\ncontent-type: application/json\r\n"
        f"connection: close\r\ncontent-length: {len(body)}"
    )
    response = many.raw(head.encode() + b"\r\n\r\n" + body)
    assert b"\r\ntrailer: StreamFailure\r\n" in response
    assert response.endswith(b"0\r\nStreamFailure: ValueError: late\r\n\r\n")


def test_a_whole_answer_is_no_stream(many):
    response = many.post("str", STREAM)
    assert (response.status, response.json["code"]) == (409, "ExternalServerIncorrectState")


def test_a_forked_child_of_predict_does_not_answer_a_second_time(many):
    assert many.post("forks").json == "from the parent"
    assert many.post("forks").json == "from the parent"


TERMINATES = """
import os, signal, time
def terminated():
    child = os.fork()
    if child == 0:
        time.sleep(20)
        os._exit(1)
    os.kill(child, signal.SIGTERM)
    return [os.waitpid(child, 0)[1], len(signal.pthread_sigmask(signal.SIG_BLOCK, []))]
def predict(data): return [terminated() for _ in range(data)]
"""


def test_a_forked_child_of_predict_can_be_terminated(launch):
    # As multiprocessing.Pool does, which then waits for its workers.
    instance = launch(TERMINATES, copies=1).ready()
    assert instance.post(20).json == [[signal.SIGTERM, 0]] * 20


def test_copies_draw_different_random_numbers(many):
    drawn = [many.post("random").json for _ in range(30)]
    assert len(set(drawn)) == len(drawn)


DATA = "def predict(data): return [type(data).__name__, str(data)]"


@pytest.fixture(scope="module")
def typed():
    from tests.support.copy_instance import Launch

    launcher = Launch()
    yield launcher(DATA, max_body=1000).ready()
    for instance in launcher.started:
        instance.end()


@pytest.mark.parametrize(
    ("kind", "body", "seen"),
    [
        ("application/json", b'{"a": NaN}', ["dict", "{'a': nan}"]),
        ("application/json; charset=UTF-8", b'"{}"', ["str", "{}"]),
        ("application/json;charset=latin-1", b'"\xe9"', ["str", "é"]),
        ("Application/JSON", b"1", ["int", "1"]),
        ("application/ld+json", b"[]", ["list", "[]"]),
        ("application/octet-stream", b"\xff", ["bytes", "b'\\xff'"]),
        ("application/octet-stream", b"", ["bytes", "b''"]),
        ("text/csv", b"a,b", ["bytes", "b'a,b'"]),
        ("text/plain", b"\xc3\xa9", ["str", "é"]),
        ("text/plain; charset=latin-1", b"\xe9", ["str", "é"]),
        ("", b"x", ["bytes", "b'x'"]),
    ],
)
def test_what_predict_gets(typed, kind, body, seen):
    assert typed.post(body, headers={"content-type": kind}).json == seen


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("application/json", b"", 400, "CannotParseRequest"),
        ("application/json", b"{", 400, "CannotParseRequest"),
        ("application/json", b"[" * 900, 400, "CannotParseRequest"),
        ("application/json; charset=klingon", b"1", 400, "CannotParseRequest"),
        ("text/plain", b"\xff", 400, "CannotParseRequest"),
        ("application/json", b"1" * 1001, 413, "PayloadTooLarge"),
        ("application/json", b"1" * 3_000_000, 413, "PayloadTooLarge"),
    ],
)
def test_what_the_caller_got_wrong(typed, kind, body, status, code):
    response = typed.post(body, headers={"content-type": kind, "opc-request-id": "R"})
    assert (response.status, response.json["code"]) == (status, code)
    assert response.headers["opc-request-id"] == "R"


def test_a_stalled_peer_does_not_hold_a_copy(launch):
    instance = launch(ECHO, copies=1).ready()
    with instance.connect() as stalled:
        stalled.sendall(b"POST /predict HTTP/1.1\r\ncontent-le")
        began = time.monotonic()
        assert instance.post(1).status == 200
        assert time.monotonic() - began < 20
        assert stalled.recv(10) == b""


def test_a_request_whose_peer_hung_up_is_not_worked_on(launch):
    score = AT_GATE + "seen = []\ndef predict(data):\n    seen.append(data)\n    "
    score += "if data == 'slow': wait_at(data)\n    return seen"
    instance = launch(score, copies=1).ready()
    slow = in_background(lambda: instance.post("slow"))
    wait_until(lambda: instance.at_gate("slow"))
    gone = instance.connect()
    body = b'"gone"'
    gone.sendall(
        b"POST /predict HTTP/1.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body)
    )
    gone.close()
    instance.open_gate("slow")
    assert slow().status == 200
    assert instance.post("last").json == ["slow", "last"]


def test_a_reader_that_leaves_ends_its_stream(launch):
    score = (
        "import time\ndef predict(data):\n    try:\n        while True:\n"
        "            yield 'x'\n            time.sleep(0.01)\n    finally:\n"
        "        print('closed', data)"
    )
    instance = launch(score, copies=1).ready()
    with instance.connect() as connection:
        head = f"POST {STREAM} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 1"
        connection.sendall(head.encode() + b"\r\n\r\n7")
        wait_until(lambda: b"data: x" in connection.recv(4096))
        assert instance.ask("status")["busy"] == 1
    wait_until(lambda: "closed 7" in instance.log, "the generator's end")
    wait_until(lambda: instance.ask("status")["busy"] == 0)


def test_prints_of_a_killed_copy_are_in_the_log(launch):
    score = "import os\ndef predict(data):\n    print('last words é')\n    os.kill(os.getpid(), 9)"
    instance = launch(score, copies=1).ready()
    with pytest.raises((OSError, http.client.HTTPException)):
        instance.post(1, headers={"opc-request-id": "THELAST"})
    wait_until(lambda: "request THELAST: copy 0" in instance.log, "the keeper's line")
    assert "last words é\n" in instance.log
    assert "killed by SIGKILL" in instance.log
    assert instance.ask("status")["failed"] == 1
