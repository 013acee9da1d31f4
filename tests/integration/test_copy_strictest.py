"""The whole life of copies that may ask nothing more of the kernel than any machine allows."""

import errno
import os
import signal

import pytest
from tests.support.copy_instance import NO_RESPONSE, STREAM, Launch, interpreter, wait_until

SCORE = """
import asyncio, os, socket

def predict(data):
    if data == "make a socket":
        try:
            socket.socket(socket.AF_UNIX)
        except OSError as error:
            return error.errno
    if data == "die":
        os.abort()
    if data == "parts":
        return (part for part in ("one", "two"))
    if data == "wait":
        return wait()
    return [[os.getpid()] for _ in data]

async def wait():
    await asyncio.sleep(0)
    return "awaited"
"""
MODES = {"forked": SCORE, "per_copy": "import socket\nkept = socket.socketpair()\n" + SCORE}
CANNOT = """
import os

def close_epolls():
    for name in os.listdir("/proc/self/fd"):
        try:
            if "eventpoll" in os.readlink("/proc/self/fd/" + name):
                os.close(int(name))
        except OSError:
            pass

os.register_at_fork(after_in_child=close_epolls)

def predict(data):
    return data
"""


@pytest.mark.parametrize("mode", MODES)
def test_copies_live_their_whole_life(launch: Launch, mode: str) -> None:
    instance = launch(MODES[mode], strictest=True, output="output").ready()
    assert instance.ask("status")["mode"] == mode
    assert instance.post("make a socket").json == errno.EAFNOSUPPORT
    assert instance.post("wait").json == "awaited"
    assert instance.post("parts", STREAM).body == b"data: one\n\ndata: two\n\n"
    assert instance.check(b"[1]")[0][0] == 200
    instance.ask("record", most=5)
    instance.ask("capture", percent=100)
    assert instance.post([1]).status == 200
    wait_until(lambda: len(instance.ask("recorded")["recorded"]) == 1)  # after it is answered
    wait_until(lambda: list((instance.folder / "output").glob("*.captured*")))
    # They die, they are told to leave, and others come.
    with pytest.raises(NO_RESPONSE):
        instance.post("die")
    for pid in instance.ready().copies():
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: instance.log.count("exited with code 10") == 2)
    assert instance.ready().post([1]).status == 200
    assert "killed by SIGABRT" in instance.log
    # Without their keeper they accept for themselves.
    copies = instance.copies()
    instance.process.kill()
    instance.process.wait()
    assert {instance.post([1]).json[0][0] for _ in range(40)} <= set(copies)
    assert "cannot" not in instance.log, instance.log


def test_requests_are_answered_together(launch: Launch) -> None:
    files = {"score.py": SCORE, "test_input.json": "[[1], [2]]"}
    batches = {"MODEL_BATCH_SIZE": "8"}
    instance = launch(files, strictest=True, environment=batches, copies=1).ready()
    assert any("answered up to 8 at once" in note for note in instance.ask("status")["notes"]), (
        instance.log
    )
    assert instance.post([[1], [2]]).status == 200
    instance.process.terminate()
    assert instance.process.wait(20) == 0


@pytest.mark.parametrize("version", ["3.7", "3.13"])
def test_every_python_needs_no_more(launch: Launch, version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    instance = launch(MODES["per_copy"], strictest=True, python=python).ready()
    assert instance.post([1]).status == 200
    os.kill(instance.copies()[0], signal.SIGTERM)
    wait_until(lambda: "exited with code 10" in instance.log)
    assert instance.ready().post([1]).status == 200


def test_a_copy_that_cannot_go_on_reports_why(launch: Launch) -> None:
    instance = launch(CANNOT)
    why = "OSError: [Errno 9] Bad file descriptor"
    assert instance.failed() == f"copies keep dying: the last was exited with code 1: {why}"
    assert f"[copy 0] cannot go on: {why}\nTraceback (most recent call last):\n" in instance.log


def test_reports_of_other_processes_are_ignored(launch: Launch) -> None:
    score = """
import os

def predict(data):
    told = b'{"copy": [], "died": "x"}\\n{"copy": 7, "died": "x"}\\n[]\\nno\\n' + b"y" * 60000
    for name in os.listdir("/proc/self/fd"):
        try:
            if "pipe:" in os.readlink("/proc/self/fd/" + name):
                os.write(int(name), told)
        except OSError:
            pass
    return "said"
"""
    instance = launch(score, copies=1).ready()
    assert instance.post(1).json == "said"
    os.kill(instance.copies()[0], signal.SIGKILL)
    wait_until(lambda: instance.ask("status")["restarts"] == 1)
    assert instance.ready().post(1).json == "said"
