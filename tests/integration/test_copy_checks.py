"""Checks, the sample and the record of live requests, asked of a real keeper."""

import base64
import http.client
import json
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.copy_instance import AT_GATE, STREAM, in_background, wait_until

NO_RESPONSE = (OSError, http.client.HTTPException)
SCORE = """
import os, time
print("loading", os.getpid())
def predict(data):
    if data == "die":
        os.kill(os.getpid(), 9)
    if data == "hang":
        time.sleep(99)
    if data == "raise":
        time.sleep(0.05)
        raise KeyError("no")
    if data == "long":
        return "x" * (11 << 20)
    if data == "nap":
        time.sleep(0.1)
    if data == "doze":
        time.sleep(1)
    if data == "stream":
        return iter([1, 2])
    return {"got": len(data) if isinstance(data, str) and len(data) > 9 else data,
            "pid": os.getpid()}
"""
PER_COPY = "import socket\nkept = socket.socketpair()\n"


def asked(*values: object) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


def body(response: dict) -> object:
    return json.loads(base64.b64decode(response["body_base64"]))


@pytest.mark.parametrize("mode", ["forked", "per_copy"])
def test_one_child_answers_them_all(launch, mode):
    instance = launch((PER_COPY if mode == "per_copy" else "") + SCORE).ready()
    assert instance.ask("status")["mode"] == mode
    loads = instance.log.count("\nloading ")
    copies = set(instance.copies())
    began = time.monotonic()
    responses = instance.check_all(*asked(1, "nap", "raise", [2]), b"{")
    lasted_s = time.monotonic() - began
    assert [response["status"] for response in responses] == [200, 200, 500, 200, 400]
    pids = {body(responses[number])["pid"] for number in (0, 1, 3)}
    assert len(pids) == 1
    assert not pids & copies, "no live copy is asked"
    took = [response["took_s"] for response in responses]
    assert took[0] > 0
    assert took[1] >= 0.1
    assert took[2] >= 0.05, "what raised took its time, too"
    assert sum(took) <= lasted_s, "to each its own time alone"
    assert took[4] == 0, "predict() was not called"
    assert instance.log.count("\nloading ") == loads + (mode == "per_copy")
    status = instance.ask("status")
    assert (status["answered"], status["failed"], sum(status["latency"]["counts"])) == (0, 0, 0)


def test_what_a_request_of_a_check_breaks_is_its_own_answer(launch):
    instance = launch(SCORE, predict_timeout_s=4).ready()
    responses = instance.check_all(*asked(1, "die", 2, "hang", 3, "long", 4))
    assert [response["status"] for response in responses] == [200, 0, 200, 0, 200, 200, 200]
    assert "died" in responses[1]["error"]
    assert "in time" in responses[3]["error"]
    assert "11534338 bytes" in responses[5]["error"]
    assert len({body(responses[number])["pid"] for number in (0, 2, 4)}) == 3
    assert body(responses[4])["pid"] == body(responses[6])["pid"]
    responses = instance.check_all(*asked("die", "die", "die", "die", 1, 2))
    assert [response["status"] for response in responses] == [0] * 6
    assert ["not tried" in response["error"] for response in responses] == [False] * 4 + [True] * 2
    # How it died is known where its end follows at once on that of its connections.
    wait_until(lambda: "died (killed by SIG" in instance.check_all(b'"die"')[0]["error"])
    assert instance.ask("status")["restarts"] == 0
    instance.process.terminate()
    assert instance.process.wait(20) == 0


def test_a_model_that_does_not_load_again_is_reported(launch):
    score = "import os\nif os.path.exists('no'): raise KeyError('later')\n" + PER_COPY + SCORE
    instance = launch(score).ready()
    (instance.folder / "no").touch()
    (response,) = instance.check_all(b"1")
    assert response["status"] == 0
    assert "[check] loading failed: " in instance.log


def test_large_checks_do_not_hold_up_the_keeper(launch):
    instance = launch(SCORE).ready()
    large = asked("y" * (10 * 1024 * 1024 - 2))

    def slowest_s() -> float:
        slowest = 0.0
        with ThreadPoolExecutor(1) as pool:
            checking = pool.submit(instance.check_all, *large)
            while not checking.done():
                began = time.monotonic()
                assert instance.ask("status")["ready"] == 2
                slowest = max(slowest, time.monotonic() - began)
        assert body(checking.result()[0])["got"] == 10 * 1024 * 1024 - 2
        return slowest

    # The keeper is as slow each time; a machine that stands still for a moment is not.
    assert any(slowest_s() < 1 for _ in range(5)), "an engine waits a second for a keeper"


def test_a_check_ends_when_its_client_disconnects(launch):
    instance = launch(SCORE).ready()
    copies = set(instance.copies())
    requests = [{"body_base64": base64.b64encode(one).decode()} for one in asked(*["doze"] * 100)]
    with instance.control() as connection:
        connection.sendall(json.dumps({"op": "check", "requests": requests}).encode() + b"\n")
        wait_until(lambda: set(instance.copies()) - copies, "a child for the check")
    wait_until(lambda: set(instance.copies()) == copies, "its end")


@pytest.mark.parametrize(
    ("files", "sample"),
    [
        ({}, None),
        ({"test_input.json": "[5]"}, b"[5]"),
        ({"input_schema.json": json.dumps({"examples": [{"a": 1}]})}, b'{"a": 1}'),
    ],
)
def test_the_sample_is_tried_and_reported(launch, files, sample):
    instance = launch({"score.py": SCORE, **files}).ready()
    reported = instance.ask("sample")["sample"]
    assert (reported and base64.b64decode(reported["body_base64"])) == sample
    tried = any("answered the artifact's sample" in note for note in instance.state["notes"])
    assert tried == (sample is not None)


def test_what_a_keeper_counts(launch):
    instance = launch(SCORE).ready()
    for value in (1, "nap", "raise"):
        instance.post(value)
    assert instance.post(b"{").status == 400
    with pytest.raises(NO_RESPONSE):
        instance.post("die")
    status = wait_until(lambda: (s := instance.ask("status"))["restarts"] == 1 and s)
    assert status["failed"] == 2
    assert sum(status["latency"]["counts"]) == 2
    assert 0.1 <= status["latency"]["total_s"] < 30
    # A response is sent before it is counted.
    wait_until(lambda: instance.ask("status")["answered"] == 4)
    # The counts of the copy that died are still there, and its successor adds to them.
    for _ in range(20):
        instance.post(1)
    assert sum(instance.ask("status")["latency"]["counts"]) == 22


def test_copies_in_a_stream_are_counted(launch):
    score = AT_GATE + "def predict(data):\n    yield 1\n    wait_at(data)\n    yield 2"
    instance = launch(score).ready()
    held = in_background(lambda: instance.post("gate", STREAM))
    status = wait_until(lambda: (s := instance.ask("status"))["streaming"] and s)
    assert (status["streaming"], status["busy"]) == (1, 1)
    instance.open_gate()
    assert held().status == 200
    wait_until(lambda: instance.ask("status")["streaming"] == 0)


def recorded(instance) -> list[tuple[object, int]]:
    """Body and status of all that is kept, oldest first."""
    records, before = [], None
    while True:
        page = instance.ask("recorded", before=before)
        records += page["recorded"]
        before = page["before"]
        if before is None:
            break
    for record in records:
        if record["status"] == 200:
            response = json.loads(base64.b64decode(record["answer_base64"]))
            assert response["got"] == json.loads(base64.b64decode(record["body_base64"]))
    return [
        (json.loads(base64.b64decode(record["body_base64"])), record["status"])
        for record in reversed(records)
    ]


@pytest.mark.parametrize("mode", ["forked", "per_copy"])
def test_the_last_requests_are_kept_while_they_are_wanted(launch, mode):
    instance = launch((PER_COPY if mode == "per_copy" else "") + SCORE).ready()
    instance.post("unseen")
    assert recorded(instance) == []
    assert instance.ask("record", most=10)["recording"] == 10
    for value in range(20):
        instance.post(value)
    instance.post("raise")
    instance.post("stream", STREAM)
    instance.post(b"{")
    instance.check(b"77")
    # A response is sent before the request is recorded.
    last_ten = [(value, 200) for value in range(11, 20)] + [("raise", 500)]
    wait_until(lambda: recorded(instance) == last_ten, "the last records")
    (last,) = instance.ask("recorded")["recorded"][:1]
    assert 0.05 <= last["took_s"] < 30
    assert json.loads(base64.b64decode(last["answer_base64"]))["code"] == "InternalServerError"
    instance.post("größe".encode("latin-1").join([b'"', b'"']), headers=LATIN)
    last = wait_until(lambda: (r := instance.ask("recorded")["recorded"][0])["status"] == 200 and r)
    assert last["content_type"] == LATIN["content-type"]
    assert base64.b64decode(last["body_base64"]) == b'"gr\xf6\xdfe"', "as it was sent"
    instance.ask("record", most=0)
    instance.post(99)
    assert recorded(instance) == []
    assert "größe" not in instance.log


LATIN = {"content-type": "application/json; charset=latin-1"}


def test_records_under_load_and_kills_are_whole_and_in_order(launch):
    instance = launch(SCORE, copies=3).ready()
    instance.ask("record", most=100_000)
    stop = threading.Event()
    sent = [[] for _ in range(4)]

    def call(caller: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            # Large enough that the rings wrap.
            value = [caller, number, "z" * random.Random(number).randrange(9000)]
            try:
                if instance.post(value).status == 200:
                    sent[caller].append(number)
            except NO_RESPONSE:
                pass

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(4)]
    for caller in callers:
        caller.start()
    try:
        for number in range(12):
            count = sum(map(len, sent))
            wait_until(lambda count=count: sum(map(len, sent)) > count + 60)
            copies = instance.ready().copies()
            os.kill(copies[number % len(copies)], signal.SIGKILL)
            _check_records(recorded(instance), sent)
            wait_until(lambda n=number: instance.ask("status")["restarts"] == n + 1)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    kept = recorded(instance)
    _check_records(kept, sent)
    assert len(kept) > 100
    assert instance.ask("status")["restarts"] == 12


def _check_records(kept, sent) -> None:
    assert all(status == 200 for _, status in kept)
    for caller in range(4):
        numbers = [value[1] for value, _ in kept if value[0] == caller]
        assert numbers == sorted(set(numbers))
