"""What copies print: each in a file of its own, and of every line it is known whose it is."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.copy_instance import (
    AT_GATE,
    NO_RESPONSE,
    Instance,
    all_at_once,
    in_background,
    interpreter,
    wait_until,
)

PRINTS = """
import ctypes, logging, os, subprocess, sys, threading, time
logging.basicConfig(stream=sys.stderr, format="logged %(message)s")
print("from the start")
libc = ctypes.CDLL(None)

def background():
    while not os.path.exists("print"):
        time.sleep(0.01)
    print("between requests")

def predict(data):
    what = data["do"]
    if what == "print":
        print("printed", data["word"])
        logging.warning(data["word"])
    elif what == "parts":
        print("one", end=" ")
        print("line", data["word"])
    elif what == "system":
        os.write(1, b"written\\n")
        libc.puts(b"from C")
        libc.fflush(None)
        subprocess.run(["echo", "from a child"], check=True)
    elif what == "raise":
        print("about to fail")
        raise ValueError("failed on purpose")
    elif what == "long":
        print("it begins")
        while not os.path.exists(data["until"]):
            time.sleep(0.01)
    elif what == "die":
        print("last words")
        os.kill(os.getpid(), 9)
    elif what == "threads":
        def say(who):
            for _ in range(50):
                print(who * 60)
        threads = [threading.Thread(target=say, args=(who,)) for who in "abcd"]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    elif what == "later":
        threading.Thread(target=background, daemon=True).start()
    elif what == "close":
        os.close(1)
        sys.stdout = None
    elif what == "remove":
        for name in os.listdir(data["folder"]):
            os.unlink(os.path.join(data["folder"], name))
        print("to nowhere")
    return os.getpid()
"""


@dataclass
class CopyOutput:
    """One copy's file: its lines with the requests that printed each, or None."""

    lines: list[tuple[str, list[str] | None]]

    @classmethod
    def of(cls, path: Path) -> "CopyOutput":
        data = path.read_bytes()
        marks, lines, at = [], [], 0
        for line in data.splitlines(keepends=True):
            if line.startswith(b"\x1e"):
                marks.append(json.loads(line[1:]))
            else:
                lines.append((at, line.decode().rstrip("\n")))
            at += len(line)

        def whose(at: int) -> list[str] | None:
            for mark in marks:
                if mark["from"] <= at < mark["to"]:
                    assert mark["began"] <= mark["ended"] <= time.time() * 1000
                    return mark["requests"]
            return None

        return cls([(text, whose(at)) for at, text in lines])

    def whose(self, text: str) -> list[str] | None:
        [requests] = [requests for line, requests in self.lines if text in line]
        return requests


def outputs(instance: Instance) -> list[CopyOutput]:
    folder = instance.folder / "output"
    return [CopyOutput.of(path) for path in sorted(folder.glob("copy-*.log"))]


def ask(instance: Instance, identity: str, **data: str) -> object:
    return instance.post(data, headers={"opc-request-id": identity}).json


@pytest.mark.parametrize("version", ["3.7", "3.11", "3.13"])
def test_every_line_is_known_to_be_of_a_request_or_of_none(launch, version):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on PATH or under pyenv")
    instance = launch(PRINTS, python=python, copies=1, output="output").ready()
    ask(instance, "SILENT", do="nothing")
    ask(instance, "A1", do="print", word="first")
    ask(instance, "A2", do="parts", word="second")
    ask(instance, "A3", do="system")
    failed = ask(instance, "A4", do="raise")
    assert failed["message"] == "ValueError: failed on purpose"
    ask(instance, "A5", do="threads")
    wait_until(lambda: outputs(instance)[0].lines[-1][1] == ["A5"], "the last mark")
    [output] = outputs(instance)
    assert output.whose("printed first") == output.whose("logged first") == ["A1"]
    assert output.whose("one line second") == ["A2"]
    assert output.whose("written") == ["A3"]
    assert output.whose("from C") == output.whose("from a child") == ["A3"]
    assert output.whose("about to fail") == output.whose("request A4: predict() raised") == ["A4"]
    assert [line for line, _ in output.lines if "Traceback" in line] == [
        "Traceback (most recent call last):"
    ]
    threads = sorted(line for line, requests in output.lines if requests == ["A5"])
    assert threads == sorted(who * 60 for who in "abcd" for _ in range(50))
    assert "SILENT" not in str(output.lines)
    assert "from the start" in instance.log
    assert "printed" not in instance.log


def test_a_thread_that_prints_between_requests_prints_for_none_of_them(launch):
    instance = launch(PRINTS, copies=1, output="output").ready()
    ask(instance, "BEFORE", do="later")
    wait_until(lambda: instance.ask("status")["busy"] == 0)  # it has its response a little sooner
    (instance.folder / "print").touch()
    wait_until(lambda: "between requests" in str(outputs(instance)), "the thread's line")
    ask(instance, "AFTER", do="print", word="it goes on")
    wait_until(lambda: outputs(instance)[0].lines[-1][1] == ["AFTER"], "the mark")
    assert outputs(instance)[0].whose("between requests") is None


def test_the_output_of_a_long_request_and_of_one_that_kills_its_copy_is_theirs(launch, tmp_path):
    instance = launch(PRINTS, copies=2, output="output").ready()
    enough = tmp_path / "enough"
    long_id = "LONG" + "x" * 150
    waiting = in_background(lambda: ask(instance, long_id, do="long", until=str(enough)))
    with pytest.raises(NO_RESPONSE):
        ask(instance, "DEADLY", do="die")
    [dead] = wait_until(
        lambda: [each for each in outputs(instance) if "DEADLY" in str(each.lines)],
        "the mark of the dead copy",
    )
    assert dead.whose("last words") == ["DEADLY"]
    wait_until(lambda: "LONG" in _all(instance), "a mark before the request is over")
    enough.touch()
    waiting()
    [long] = [each for each in outputs(instance) if "it begins" in str(each.lines)]
    assert long.whose("it begins") == [long_id]
    names = [path.name for path in (instance.ready().folder / "output").iterdir()]
    assert len(names) == 3, "a copy that follows another has a file of its own"


def test_what_requests_print_together_is_of_all_of_them(launch):
    score = AT_GATE + "def predict(data):\n    if data == 'gate':\n        wait_at(data)\n"
    score += "        return 'opened'\n    print('rows', len(data['data']))\n"
    score += "    return {'prediction': [row[0] for row in data['data']]}"
    instance = launch(
        {"score.py": score, "test_input.json": '{"data": [[1], [2]]}'},
        environment={"MODEL_BATCH_SIZE": "8"},
        copies=1,
        output="output",
    ).ready()

    def one(number):
        return instance.post({"data": [[number]]}, headers={"opc-request-id": f"T{number}"}).json

    responses = all_at_once(instance, [lambda number=number: one(number) for number in range(3)])
    assert [response["prediction"] for response in responses] == [[0], [1], [2]]
    wait_until(lambda: "T2" in _all(instance), "the mark")
    [output] = outputs(instance)
    [(line, requests)] = [each for each in output.lines if each[0].startswith("rows")]
    assert line == "rows 3"
    assert requests is not None
    assert sorted(requests) == ["T0", "T1", "T2"]


def test_user_code_spoils_at_most_its_own_output(launch):
    instance = launch(PRINTS, copies=1, output="output").ready()
    folder = str(instance.folder / "output")
    pid = ask(instance, "R1", do="remove", folder=folder)
    assert ask(instance, "R2", do="print", word="unseen") == pid
    assert ask(instance, "R3", do="close") == pid
    assert ask(instance, "R4", do="print", word="into the void") == pid, "it serves on"
    # There is no place for the next copy's file: it does without.
    os.rmdir(folder)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: instance.ask("status")["restarts"] == 1 and instance.ready(), "a new copy")
    assert ask(instance, "R5", do="print", word="among the keeper's") != pid
    assert "printed among the keeper's" in instance.log


def _all(instance: Instance) -> str:
    return str([each.lines for each in outputs(instance)])
