"""What a keeper does on bad days: bad score.py files, deaths, hangs, its own end."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from tests.support.copy_instance import (
    AT_GATE,
    ECHO,
    NO_RESPONSE,
    STREAM,
    in_background,
    wait_until,
)

# Seconds for a prediction where some must be made in time: a busy machine may delay each.
LIMIT_S = 4


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"other.py": ""}, "score.py was not found at the top of the artifact"),
        ({"score.py": "import os\nif 1\n  pass"}, "score.py line 2: SyntaxError: "),
        ({"score.py": "def f():\n\tpass\n        pass"}, "score.py line 3: TabError: "),
        ({"score.py": "import part", "part.py": "x = = 1"}, "part.py line 1: SyntaxError: "),
        ({"score.py": b"a = 1\x00"}, "score.py: "),
        ({"score.py": b"x = '\xff'"}, "score.py"),
        ({"score.py": "x = 1"}, "score.py has no predict function"),
        ({"score.py": "predict = 3"}, "predict in score.py is not a function but of type int"),
        ({"score.py": "def predict(): pass"}, "predict() in score.py must take the request's data"),
        ({"score.py": "def predict(*, data): pass"}, "predict() in score.py must take"),
        ({"score.py": "def predict(data, a, b=1): pass"}, "predict() in score.py needs a default"),
        ({"score.py": "\nimport nowhere"},
         "score.py line 2: ModuleNotFoundError: No module named 'nowhere'; neither the artifact "
         "nor its inference environment has it"),
        ({"score.py": "import part\n", "part.py": "\n\n1/0"}, "part.py line 3: ZeroDivisionError"),
        ({"score.py": "def load_model():\n    return open('m.bin')\n"
                      "def predict(data, model=load_model()): pass"},
         "load_model() failed: FileNotFoundError: [Errno 2] No such file or directory: 'm.bin' "
         "(score.py line 2)"),
        ({"score.py": "def load_model():\n    raise KeyError\ndef predict(data): pass"},
         "load_model() failed: KeyError (score.py line 2)"),
        ({"score.py": "import sys\nsys.exit(3)"},
         "score.py ended the program while loading (sys.exit) (score.py line 2)"),
        ({"score.py": "while True: pass"}, "score.py took over 1 s to load its model"),
        ({"score.py": "while True:\n    try:\n        while True: pass\n"
                      "    except Exception: pass"}, "score.py took over 1 s"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_bad_artifact_fails_with_a_sentence(launch, files, reason):
    instance = launch(files, start_timeout_s=1 if "took over" in reason else 60)
    assert instance.failed().startswith(reason)
    assert "[keeper] failed: " in instance.log


def test_the_whole_traceback_of_a_failed_load_is_in_the_log(launch):
    instance = launch("def load_model():\n    raise KeyError('k')\nload_model()")
    assert instance.failed() == "load_model() failed: KeyError: 'k' (score.py line 2)"
    assert "Traceback (most recent call last):\n" in instance.log
    assert "KeyError: 'k'\n" in instance.log
    assert "score_file.py" not in instance.log


@pytest.mark.parametrize(
    "name", ["json", "wire", "encoding", "control", "orjson", "token", "status"]
)
def test_modules_of_the_artifact_with_our_names_do_no_harm(launch, name):
    hostile = "loads = dumps = None\nmine = 'theirs'\n"
    score = f"import {name}\ndef predict(data): return getattr({name}, 'mine', 'standard')"
    instance = launch({"score.py": score, f"{name}.py": hostile}, copies=1).ready()
    # Names of the standard library that are loaded before score.py stay the standard library's.
    assert instance.post(1).json == ("standard" if name in ("json", "token") else "theirs")
    assert instance.post(b"{").status == 400
    assert instance.ask("status")["ready"] == 1


def test_nothing_of_ours_is_in_reach_or_left_behind(launch):
    score = (
        "import sys, os, helper\n"
        "def predict(data): return [sys.path[0], sys.argv, os.getcwd(), helper.x,"
        " [p for p in sys.path if 'havre_copy' in p], __name__, __file__]"
    )
    instance = launch({"score.py": score, "helper.py": "x = 5"}, copies=1).ready()
    artifact = str(instance.folder / "artifact")
    assert instance.post(1).json == [
        artifact, [artifact + "/score.py"], str(instance.folder), 5, [], "score",
        artifact + "/score.py",
    ]  # fmt: skip
    assert sorted(os.listdir(artifact)) == ["helper.py", "score.py"]


def test_the_model_is_loaded_once_and_shared(launch):
    score = (
        "import os\nfrom functools import lru_cache\n"
        "@lru_cache()\ndef load_model(name='m'):\n    print('loading', os.getpid())\n"
        "    return bytearray(os.urandom(1 << 20) * 60)\n"
        "def predict(data): return [len(load_model()), os.getpid()]"
    )
    instance = launch(score, copies=3).ready()
    wait_until(lambda: len({instance.post(1).json[1] for _ in range(9)}) > 1)
    assert instance.log.count("\nloading ") == 1
    state = instance.ask("status")
    assert state["mode"] == "forked"
    assert state["shared_bytes"] > 60e6 > 10e6 > state["copy_bytes"]


def test_a_model_bound_behind_decorators_is_not_loaded_again(launch):
    score = (
        "def timed(function):\n"
        "    def inner(*args, **kwargs): return function(*args, **kwargs)\n"
        "    return inner\n"
        "def load_model():\n    print('loading')\n    return [1]\n"
        "@timed\n@timed\ndef predict(data, model=load_model()): return model"
    )
    instance = launch(score).ready()
    assert instance.post(1).json == [1]
    assert instance.log.count("\nloading\n") == 1
    assert not any("memory is not shared" in note for note in instance.ask("status")["notes"])


def test_a_lazy_model_is_reported(launch):
    lazy = "def load_model(): return [1]\ndef predict(data): return load_model()"
    notes = launch(lazy).ready().ask("status")["notes"]
    assert any("memory is not shared" in note for note in notes)
    kept = "m = None\ndef load_model():\n    global m\n    m = m or [1]\n    return m\n"
    notes = launch(kept + "def predict(data): return load_model()").ready().ask("status")["notes"]
    assert not any("memory is not shared" in note for note in notes)


@pytest.mark.parametrize(
    ("score", "why"),
    [
        ("from threading import Timer\nt = Timer(99, print)\nt.daemon = True\nt.start()",
         "score.py started 1 thread"),
        ("import socket\nkept = socket.socketpair()", "score.py left 2 network connections open"),
    ],
)  # fmt: skip
def test_what_forks_badly_is_loaded_per_copy(launch, score, why):
    score += (
        "\nimport os\nos.chdir('/')\nos.environ['CHANGED'] = '1'\nprint('loading', os.getpid())"
    )
    instance = launch(score + "\ndef predict(data): return os.getpid()").ready()
    state = instance.ask("status")
    assert state["mode"] == "per_copy"
    assert state["pid"] == instance.process.pid
    assert any(why in note for note in state["notes"])
    assert why in instance.log
    assert instance.log.count("\nloading ") == 3
    victim = instance.copies()[0]
    assert instance.check(b"1")[0][0] == 200
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: instance.log.count("\nloading ") == 5, "another load")
    instance.ready()
    instance.process.terminate()
    assert instance.process.wait(20) == 0


def test_a_sample_that_hangs_in_the_fork_forbids_it(launch):
    score = (
        "import os, time\nkeeper = os.getpid()\ndef predict(data):\n"
        "    if os.getppid() == keeper: time.sleep(99)\n    return 1"
    )
    instance = launch({"score.py": score, "test_input.json": "[1]"}).ready()
    assert instance.ask("status")["mode"] == "per_copy"
    assert instance.post(1).json == 1


def test_forked_copies_that_never_answer_are_replaced_by_loading_ones(launch):
    score = (
        "import os, time\nkeeper = os.getpid()\ndef predict(data):\n"
        "    if os.getppid() == keeper: time.sleep(99)\n    return 1"
    )
    instance = launch(score, predict_timeout_s=LIMIT_S).ready()
    with pytest.raises(NO_RESPONSE):
        instance.post(1)
    wait_until(lambda: instance.state["mode"] == "per_copy", "a keeper that starts anew")
    assert instance.post(1).json == 1  # it waits in the queue until a copy has loaded
    state = instance.ask("status")
    assert state["mode"] == "per_copy"
    assert any("no forked copy has ever answered" in note for note in state["notes"])


def test_a_killed_copy_fails_the_one_request_it_was_serving(launch):
    score = AT_GATE + "def predict(data):\n    if data: wait_at(data)\n    return os.getpid()"
    instance = launch(score).ready()
    stop = threading.Event()
    answered, lost = [], []

    def call():
        while not stop.is_set():
            try:
                answered.append(instance.post("").json)
            except NO_RESPONSE as error:
                lost.append(error)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    rounds = 20
    try:
        for number in range(rounds):
            hold = f"hold-{number}"
            request = {"body": hold, "headers": {"opc-request-id": "HELD"}}
            held = in_background(lambda request=request: instance.post(**request))
            [victim] = wait_until(lambda hold=hold: instance.at_gate(hold))
            # The other copy goes on meanwhile.
            since = len(answered)
            wait_until(lambda since=since: len(answered) > since + 40)
            assert victim in instance.copies()
            os.kill(victim, signal.SIGKILL)
            assert isinstance(held(), NO_RESPONSE)
            count = len(answered)
            wait_until(lambda count=count: len(answered) > count + 10)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert lost == []
    state = instance.ready().ask("status")
    assert (state["restarts"], state["failed"]) == (rounds, rounds)
    # A response is sent before it is counted.
    wait_until(lambda: instance.ask("status")["answered"] == len(answered))
    assert instance.log.count("request HELD: copy") == rounds


@pytest.mark.parametrize(
    "work",
    [
        "time.sleep(99)",
        "ctypes.PyDLL(None).sleep(99)",
        "re.match('(a*)*b', 'a' * 40)",
        "exec('while True: pass')",
    ],
)
def test_the_time_limit_ends_even_what_holds_the_interpreter(launch, work):
    score = f"import ctypes, re, time\ndef predict(data):\n    return {work} if data else 'fine'"
    instance = launch(score, predict_timeout_s=LIMIT_S).ready()
    assert instance.post(0).json == "fine"
    began = time.monotonic()
    with pytest.raises(NO_RESPONSE):
        instance.post(1, headers={"opc-request-id": "SLOW"})
    assert LIMIT_S - 0.1 < time.monotonic() - began < 30
    assert instance.post(0).json == "fine"
    wait_until(lambda: "request SLOW: copy" in instance.log)
    assert f"predict() took over {LIMIT_S} s" in instance.log
    assert "out of memory" not in instance.log
    assert instance.ask("status")["mode"] == "forked"


@pytest.mark.parametrize(
    ("score", "limits", "why"),
    [
        ("yield 'a'\n    time.sleep(99)", {"stream_idle_s": 0.5},
         "the stream paused for over 0.5 s"),
        ("for _ in iter(int, 1):\n        yield 'a'\n        time.sleep(0.05)",
         {"stream_total_s": 1.5}, "the stream took over 1.5 s"),
    ],
)  # fmt: skip
def test_limits_of_streams(launch, score, limits, why):
    instance = launch(f"import time\ndef predict(data):\n    {score}", **limits).ready()
    with pytest.raises(NO_RESPONSE):
        instance.post(1, STREAM)
    wait_until(lambda: why in instance.log, why)


def test_copies_serve_on_without_their_keeper(launch):
    instance = launch(ECHO).ready()
    copies = set(instance.copies())
    instance.process.kill()
    instance.process.wait()
    assert {instance.post(number).json["pid"] for number in range(60)} <= copies
    os.killpg(instance.process.pid, signal.SIGTERM)
    for pid in copies:
        wait_until(lambda pid=pid: not runs(pid), "the orphans' end")


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_orphan_finishes_its_request_before_it_leaves(launch):
    score = AT_GATE + "def predict(data):\n    wait_at('gate')\n    return 'done'"
    instance = launch(score).ready()
    held = in_background(lambda: instance.post(1))
    wait_until(instance.at_gate)
    copies = instance.copies()
    instance.process.kill()
    instance.process.wait()
    for pid in copies:
        os.kill(pid, signal.SIGTERM)
    instance.open_gate()
    assert held().json == "done"


@pytest.mark.parametrize("how", ["SIGTERM", "group"])
def test_a_drain_serves_what_is_in_the_queue(launch, how):
    score = AT_GATE + "def predict(data):\n    wait_at('gate')\n    return data"
    instance = launch(score).ready()
    connections = [asking(instance, number) for number in range(12)]
    wait_until(lambda: len(instance.at_gate()) == 2, "both copies at work")
    if how == "SIGTERM":
        instance.process.terminate()
    else:
        os.killpg(instance.process.pid, signal.SIGTERM)
    wait_until(lambda: instance.state["phase"] == "draining")
    with pytest.raises(OSError, match="refused"):
        instance.connect()
    instance.open_gate()
    all_are_answered(connections)
    assert instance.process.wait(20) == 0


def test_a_drain_waits_for_copies_that_left_before_it_was_known(launch):
    """As when a service manager ends them all, and the keeper hears of it last."""
    score = "import socket\nkept = socket.socketpair()\n"  # so each copy loads its own
    score += "import os, time\nwhile os.path.exists('load later'): time.sleep(0.01)\n"
    score += "def predict(data): return data"
    instance = launch(score).ready()
    later = instance.folder / "load later"
    later.touch()
    for pid in instance.copies():
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: instance.ask("status")["ready"] == 0)
    connections = [asking(instance, number) for number in range(4)]
    instance.process.terminate()
    wait_until(lambda: instance.state["phase"] == "draining")
    later.unlink()
    all_are_answered(connections)
    assert instance.process.wait(20) == 0


def asking(instance, number):
    connection = instance.connect()
    body = b"%d" % number
    connection.sendall(
        b"POST /predict HTTP/1.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body)
    )
    return connection


def all_are_answered(connections):
    for number, connection in enumerate(connections):
        response = connection.makefile("rb").read()
        connection.close()
        assert response.endswith(b"\r\n\r\n%d" % number), number


def test_a_model_that_dies_while_loading_in_copies_fails(launch):
    score = "import os, socket\nkept = socket.socketpair()\nif os.getppid() != %d: os.abort()\n"
    score = score % os.getpid() + "def predict(data): return 1"
    instance = launch(score, copies=1)
    assert "SIGABRT" in instance.failed()


def test_a_copy_that_keeps_dying_is_forked_ever_more_slowly(launch):
    instance = launch(
        "import os\ndef predict(data): os.abort() if data else None", copies=1
    ).ready()
    for _ in range(7):
        with pytest.raises(NO_RESPONSE):
            instance.post(1)
    state = wait_until(lambda: (s := instance.ask("status"))["restarts"] == 7 and s)
    assert "killed by SIGABRT" in state["reason"]
    assert instance.post(0).status == 200
    wait_until(lambda: instance.ask("status")["reason"] == "", "an answer ends the row")
    assert "another follows in " in instance.log


AFTER = """
import os, signal, threading

def die():
    {who}
    os.kill(os.getpid(), signal.SIGSEGV)

def begin():
    timer = threading.Timer({after_s}, die)
    timer.daemon = True
    timer.start()

os.register_at_fork(after_in_child=begin)

def predict(data):
    return data
"""


@pytest.mark.parametrize(("copies", "after_s"), [(1, 0), (2, 0.3), (1, 1)])
def test_copies_that_die_young_are_never_ready(launch, copies, after_s):
    score = AFTER.format(after_s=after_s, who="pass")
    # Far more than they live, however much later this machine lets the timer act.
    instance = launch(score, copies=copies, min_ready_s=60)
    assert instance.failed() == "copies keep dying: the last was killed by SIGSEGV"
    assert "[keeper] ready" not in instance.log


def test_one_copy_of_several_that_dies_young_is_enough(launch):
    # The keeper names the file that a copy prints into.
    who = """if "copy-0" not in os.readlink("/proc/self/fd/1"):
        return"""
    score = AFTER.format(after_s=0.3, who=who)
    instance = launch(score, copies=3, min_ready_s=60, output="output")
    assert "killed by SIGSEGV" in instance.failed()
    assert "copy 0 (pid" in instance.log
    assert "copy 1 (pid" not in instance.log


def test_an_instance_whose_copies_live_is_ready_after_that_time(launch):
    began = time.monotonic()
    instance = launch(ECHO, min_ready_s=1.0).ready()
    assert time.monotonic() - began >= 1.0
    assert instance.post(1).status == 200
    # From then on a death is repaired, and no change of phase.
    for pid in instance.copies():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: instance.ask("status")["restarts"] == 2)
    assert instance.state["phase"] == "ready"
    assert instance.log.count("[keeper] ready") == 1


def test_a_death_meanwhile_is_reported_and_restarts_the_time(launch):
    instance = launch(ECHO, copies=1, min_ready_s=6)
    [victim] = wait_until(instance.copies)
    wait_until(lambda: instance.ask("status")["ready"] == 1)
    os.kill(victim, signal.SIGKILL)
    state = wait_until(lambda: (state := instance.state)["reason"] and state)
    assert "a copy has died: killed by SIGKILL" in state["reason"]
    assert state["phase"] == "starting"
    assert instance.ready().state["reason"] == ""


def test_control_socket_bears_hostile_peers(launch):
    instance = launch(ECHO).ready()
    path = str(instance.folder / "c")
    peers = []
    for _ in range(40):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(path)
        peer.sendall(b'{"op":')
        peers.append(peer)
    greedy = socket.socket(socket.AF_UNIX)
    greedy.connect(path)
    greedy.settimeout(20)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
        for _ in range(400):
            greedy.sendall(b"x" * 65536)
    assert instance.ask("status")["ready"] == 2
    assert "error" in instance.ask("dance")
    for requests in (None, [], [{}], [{"body_base64": "?"}], [{"body_base64": ""}] * 999):
        assert "error" in instance.ask("check", requests=requests)
    assert "error" in instance.ask(
        "check", requests=[{"body_base64": "", "content_type": "a\r\nb"}]
    )
    assert "error" in instance.ask("record", most="all")
    assert "error" in instance.ask("recorded", before="x")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.sendall(b'nonsense\n[1]\n{"op": "status"}\n')
        lines = peer.makefile()
        assert "error" in lines.readline()
        assert "error" in lines.readline()
        assert '"phase": "ready"' in lines.readline()
    for peer in peers:
        peer.settimeout(20)
        assert peer.recv(1) == b""  # dropped: too many, or stalled
        peer.close()
    greedy.close()
    assert instance.post(1).status == 200


def test_an_idle_instance_sleeps(launch):
    instance = launch(ECHO).ready()
    instance.ask("status")

    def switches() -> int:
        total = 0
        for pid in [instance.process.pid, *instance.copies()]:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if "ctxt_switches" in line:
                    total += int(line.split()[1])
        return total

    def is_quiet() -> bool:
        before = switches()
        time.sleep(1)  # a second of nothing is what is measured
        return switches() == before

    # What came before may have an end that this machine delays; who polls is never quiet.
    wait_until(is_quiet, "a second in which nothing runs", within=20)
