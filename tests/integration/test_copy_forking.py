"""When copies are forked from a loaded keeper, when not, and how a keeper changes its mind."""

import os
import signal
import time
from pathlib import Path

import pytest
from tests.support.copy_instance import (
    AT_GATE,
    NO_RESPONSE,
    PREDICT,
    Instance,
    Launch,
    in_background,
    interpreter,
    wait_until,
)

# One that Python's threading knows nothing of, as a library's pool has.
A_THREAD = """
import _thread, os, time
_thread.start_new_thread(time.sleep, (600,))
keeper = os.getpid()
def is_forked(): return os.getppid() == keeper
"""

ENDS_ITSELF = """
import ctypes, os, signal, threading
c = ctypes.CDLL(None)
def in_thread(number):
    thread = threading.Thread(target=c["raise"], args=(number,))
    thread.start()
    thread.join()
WAYS = {
    "raise": lambda number: c["raise"](number),
    "kill": lambda number: os.kill(os.getpid(), number),
    "thread": in_thread,
}
def predict(data):
    way, number = data
    if way:
        WAYS[way](number)
    return "wrong numbers"
"""
WELL = ["", 0]
LOAD_EACH = "import socket\nkept = socket.socketpair()\n"


def answers_nothing(instance: Instance, request: object) -> bool:
    try:
        return instance.post(request).status == 500
    except NO_RESPONSE:
        return True


@pytest.mark.parametrize("way", ["raise", "kill", "thread"])
@pytest.mark.parametrize("begin", ["", LOAD_EACH], ids=["forked", "per_copy"])
def test_a_prediction_that_asked_for_its_own_end_is_no_answer(
    launch: Launch, begin: str, way: str
) -> None:
    instance = launch(begin + ENDS_ITSELF).ready()
    assert instance.post(WELL).status == 200
    assert answers_nothing(instance, [way, signal.SIGTERM])
    wait_until(lambda: "asked for its process's end (SIGTERM)" in instance.log)
    # Once may be somebody else's doing.
    instance.ready()
    assert answers_nothing(instance, [way, signal.SIGTERM])
    # A library that finds itself unfit in a fork may be fit where it was loaded.
    wait_until(lambda: instance.state["mode"] == "per_copy")
    assert instance.ready().post(WELL).status == 200
    assert answers_nothing(instance, [way, signal.SIGTERM])


def test_it_is_no_answer_on_an_old_python_either(launch: Launch) -> None:
    python = interpreter("3.7")
    if python is None:
        pytest.skip("no Python 3.7 here")
    instance = launch(ENDS_ITSELF, python=python, strictest=True).ready()
    assert answers_nothing(instance, ["raise", signal.SIGTERM])
    wait_until(lambda: instance.state["mode"] == "per_copy")
    assert instance.ready().post(WELL).status == 200


@pytest.mark.parametrize("number", ["SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGALRM", "SIGABRT"])
@pytest.mark.parametrize("way", ["raise", "kill"])
def test_no_signal_of_its_own_is_swallowed(launch: Launch, way: str, number: str) -> None:
    instance = launch(ENDS_ITSELF, copies=1).ready()
    assert answers_nothing(instance, [way, signal.Signals[number]])
    assert instance.post(WELL).status == 200


def test_ending_all_processes_loses_no_response(launch: Launch) -> None:
    """The copies may hear of it before their keeper."""
    score = AT_GATE + "def predict(data):\n    wait_at('gate')\n    return 'done'"
    instance = launch(score).ready()
    held = in_background(lambda: instance.post(1))
    wait_until(instance.at_gate)
    # One that stands still hears of it last, and of both signals at once when it goes on: in
    # between there may be no more than it takes to judge who has sent them.
    os.kill(instance.process.pid, signal.SIGSTOP)
    copies = instance.copies()
    for pid in copies:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not any(is_pending(pid, signal.SIGTERM) for pid in copies))
    instance.process.terminate()
    os.kill(instance.process.pid, signal.SIGCONT)
    instance.open_gate()
    assert held().json == "done"
    assert instance.process.wait(20) == 0


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a process has been sent a signal that it has not received yet."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    [pending] = [line.split()[1] for line in lines if line.startswith("ShdPnd:")]
    return bool(int(pending, 16) >> (number - 1) & 1)


def test_an_idle_copy_exits_on_sigterm(launch: Launch) -> None:
    instance = launch(ENDS_ITSELF, copies=1).ready()
    [pid] = instance.copies()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: "exited with code 10; another follows" in instance.log)
    assert instance.ready().ask("status")["mode"] == "forked"


def test_a_copy_that_gets_sigterm_while_it_answers_responds_first(launch: Launch) -> None:
    """The prediction is made: no code of the model's can have asked for that end."""
    long = 16 << 20  # more than the socket takes: the copy writes until somebody reads
    score = f"def predict(data): return data if data == 'well' else 'x' * {long}"
    instance = launch(score, copies=1).ready()
    [pid] = instance.copies()
    request = b'POST /predict HTTP/1.1\r\nconnection: close\r\ncontent-length: 2\r\n\r\n""'
    with instance.connect() as connection:
        connection.sendall(request)
        response = connection.recv(1)
        os.kill(pid, signal.SIGTERM)
        while piece := connection.recv(65536):
            response += piece
            time.sleep(0.005)  # in all longer than a keeper takes to judge who has sent the signal
    assert len(response) > long
    assert response.startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: "exited with code 10; another follows" in instance.log)
    assert "asked for its process's end" not in instance.log
    assert instance.ready().post("well").json == "well"


def test_a_progress_bar_does_not_cost_the_sharing(launch: Launch) -> None:
    score = "import tqdm\nbars = list(tqdm.tqdm(range(3)))\n"
    score += "def predict(data): return [len(list(tqdm.tqdm(range(data)))), tqdm.tqdm.monitor.name]"
    instance = launch(score).ready()
    assert instance.ask("status")["mode"] == "forked", instance.log
    assert instance.post(7).json == [7, "tqdm_monitor"]


def test_other_threads_are_named(launch: Launch) -> None:
    score = "import threading\n"
    score += "t = threading.Thread(target=threading.Event().wait, name='keeps-warm', daemon=True)\n"
    score += "t.start()\ndef predict(data): return data"
    notes = launch(score).ready().ask("status")["notes"]
    assert any("1 thread, which no fork has: keeps-warm" in note for note in notes)


def test_no_sample_overrules_a_pool_that_is_known_to_be_lost(launch: Launch) -> None:
    """As Polars keeps one: a small sample answers, a larger request waits for ever."""
    score = "import ctypes, _thread, time\nnamed = []\n"
    score += "def pool():\n    named.append(ctypes.CDLL(None).prctl(15, b'polars-0'))\n"
    score += "    time.sleep(600)\n_thread.start_new_thread(pool, ())\n"
    score += "while not named: time.sleep(0.01)\ndef predict(data): return data"
    instance = launch({"score.py": score, "test_input.json": "[1]"}).ready()
    state = instance.ask("status")
    assert state["mode"] == "per_copy"
    assert any("Polars keeps a pool of threads" in note for note in state["notes"])


PATIENT = (
    AT_GATE
    + """
def predict(data):
    if data == "slow": wait_at(data)
    if data == "pool" and is_forked(): wait_at("no gate")
    if data == "crash" and is_forked(): os.abort()
    return data
"""
)


@pytest.mark.parametrize("request_", ["pool", "crash"])
def test_a_sample_proves_no_more_than_itself(launch: Launch, request_: str) -> None:
    files = {"score.py": A_THREAD + PATIENT, "test_input.json": '"small"'}
    limit_s = 8
    instance = launch(files, predict_timeout_s=limit_s).ready()
    assert instance.ask("status")["mode"] == "forked"
    assert instance.post("small").json == "small"
    if request_ == "pool":
        lost = in_background(lambda: instance.post(request_))
        wait_until(lambda: instance.at_gate("no gate"))
        time.sleep(limit_s / 2)  # so that the other one may take as much longer
    slow = in_background(lambda: instance.post("slow"))
    wait_until(lambda: instance.at_gate("slow"))
    if request_ == "crash":
        lost = in_background(lambda: instance.post(request_))
    assert isinstance(lost(), NO_RESPONSE)
    waiting = in_background(lambda: instance.post("waiting"))
    wait_until(lambda: instance.sent.count(PREDICT) == 4)
    instance.open_gate("slow")
    assert slow().json == "slow"  # what others have in hand is not lost
    assert waiting().json == "waiting"  # nor what comes meanwhile
    wait_until(lambda: instance.state["mode"] == "per_copy")
    assert instance.ready().post(request_).json == request_
    assert instance.log.count("restarting, each copy loads its own model") == 1
    why = "loading left threads running, which a forked copy may have missed: "
    assert any(why in note for note in instance.ask("status")["notes"])


def test_what_larger_requests_come_to_while_batching_is_tried_counts(launch: Launch) -> None:
    score = A_THREAD + "def predict(data):\n    if len(data) > 2 and is_forked(): os.abort()\n"
    files = {"score.py": score + "    return data", "test_input.json": "[[1], [2]]"}
    instance = launch(files, environment={"MODEL_BATCH_SIZE": "8"}).ready()
    state = instance.ask("status")
    assert state["mode"] == "per_copy"
    assert any("several times over" in note for note in state["notes"])
    assert instance.post([[1], [2], [3]]).json == [[1], [2], [3]]


ALONE = """
import os, threading, time
keeper = os.getpid()
lock = threading.Lock()
lock.acquire()
def predict(data):
    if data and os.getppid() == keeper: lock.acquire() if data == "lock" else time.sleep(600)
    return data
"""


@pytest.mark.parametrize("strictest", [False, True])
def test_a_lock_that_no_thread_can_release_is_detected(launch: Launch, strictest: bool) -> None:
    instance = launch(ALONE, predict_timeout_s=4, copies=1, strictest=strictest).ready()
    assert instance.post("").status == 200
    with pytest.raises(NO_RESPONSE):
        instance.post("lock")
    wait_until(lambda: instance.state["mode"] == "per_copy")
    assert "waited for a lock that no thread was there to release" in instance.log


def test_who_is_merely_slow_is_given_another_chance(launch: Launch) -> None:
    instance = launch(ALONE, predict_timeout_s=4, copies=1).ready()
    assert instance.post("").status == 200
    with pytest.raises(NO_RESPONSE):
        instance.post("slow")
    assert instance.post("").status == 200
    assert instance.ask("status")["mode"] == "forked"
    with pytest.raises(NO_RESPONSE):
        instance.post("slow")
    wait_until(lambda: instance.state["mode"] == "per_copy")
    assert instance.ready().post("slow").json == "slow"


def test_a_drain_meanwhile_serves_what_is_in_the_queue(launch: Launch) -> None:
    files = {"score.py": A_THREAD + PATIENT, "test_input.json": '"small"'}
    instance = launch(files).ready()
    assert instance.post("small").status == 200
    slow = in_background(lambda: instance.post("slow"))
    wait_until(lambda: instance.at_gate("slow"))
    with pytest.raises(NO_RESPONSE):
        instance.post("crash")
    waiting = [instance.connect() for _ in range(3)]
    for connection in waiting:
        connection.sendall(b"POST /predict HTTP/1.1\r\ncontent-length: 1\r\n\r\n7")
    instance.process.terminate()
    wait_until(lambda: instance.state["phase"] == "draining")
    instance.open_gate("slow")
    assert slow().json == "slow"
    for connection in waiting:
        with connection:
            assert connection.makefile("rb").read().endswith(b"\r\n\r\n7")
    assert instance.process.wait(20) == 0
