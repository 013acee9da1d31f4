"""Start, watch, restart, stop: a real supervisor and real processes."""

import json
import os
import resource
import signal
import socket
import stat
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from tests.supervisor_bench import SupervisorBench, runs, wait_until

from havre.domain.errors import EngineFault
from havre.supervisor.protocol import Phase, ProcessStatus, Restart

SLEEPS = ("/bin/sleep", "600")
FORKS_AND_DIES = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        time.sleep(600)
os._exit(7)
"""
IGNORES_TERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
TELLS_ITS_WORLD = """
import json, os, signal, socket
fds = {}
for fd in range(64):
    try:
        fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        pass
names = {fd: socket.socket(fileno=os.dup(fd)).getsockname() for fd in (3, 4)}
print(json.dumps({
    "fds": fds, "names": names, "environment": dict(os.environ), "folder": os.getcwd(),
    "session": os.getsid(0) == os.getpid(), "group": os.getpgid(0) == os.getpid(),
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
}), flush=True)
socket.socket(fileno=3).accept()[0].sendall(b"hello")
signal.pause()
"""

NOBODY_IS_KILLED = """
from havre.supervisor import supervised
supervised.STOP_FAULT_S = 0.5
supervised.Supervised._signal = lambda *_: None
"""


def test_a_process_gets_what_it_was_promised_and_nothing_else(bench: SupervisorBench) -> None:
    paths = tuple(str(bench.home.instance_sockets / name) for name in ("a.sock", "a.ctl"))
    with open(os.devnull) as leaked:
        os.set_inheritable(leaked.fileno(), True)
        bench.launch()
    # A socket left by an earlier life is in the way.
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(paths[0])
    started = bench.client.start(bench.python("a", TELLS_ITS_WORLD, listen=paths))
    assert started.phase is Phase.RUNNING
    for path in paths:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(paths[0])
        assert caller.recv(5) == b"hello"
    world = json.loads(bench.log("a"))
    log = str(bench.home.logs / "a.log")
    assert {fd: world["fds"].pop(fd) for fd in ("0", "1", "2")} == {
        "0": "/dev/null",
        "1": log,
        "2": log,
    }
    assert world["names"] == {"3": paths[0], "4": paths[1]}
    assert set(world["fds"]) == {"3", "4"}
    # The interpreter itself may add one name for its locale.
    assert set(world["environment"]) - {"LC_CTYPE"} == {"HAVRE_TEST_HOME", "PATH"}
    assert world["folder"] == str(bench.home.root)
    assert world["session"]
    assert world["group"]
    assert world["blocked"] == []
    bench.client.stop("a")
    assert not any(os.path.exists(path) for path in paths)


@pytest.mark.parametrize("gives_way", [True, False])
def test_a_process_that_gives_way_does_so_with_all_it_starts(
    bench: SupervisorBench, *, gives_way: bool
) -> None:
    bench.launch()
    tells = "import os, time; os.fork(); print(os.sched_getscheduler(0), flush=True); time.sleep(9)"
    bench.client.start(replace(bench.python("a", tells), gives_way=gives_way))
    policy = os.SCHED_BATCH if gives_way else os.SCHED_OTHER
    wait_until(lambda: bench.log("a").split() == [str(policy)] * 2)
    bench.client.stop("a")


def test_starting_is_idempotent_by_name(bench: SupervisorBench) -> None:
    bench.launch()
    spec = bench.spec("one", *SLEEPS)
    first = bench.client.start(spec)
    assert bench.client.start(spec) == first
    with pytest.raises(EngineFault, match="another specification"):
        bench.client.start(bench.spec("one", "/bin/sleep", "601"))
    assert [status.pid for status in bench.client.list()] == [first.pid]


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ({"argv": ("/no/such/program",)}, "/no/such/program"),
        ({"folder": "/no/such/folder"}, "/no/such/folder"),
        ({"log": "/no/such/folder/x.log"}, "/no/such/folder"),
        ({"listen": ("RUN/missing/x.sock",)}, "No such file"),
        ({"listen": ("RUN/" + "x" * 108,)}, "too long"),
        ({"listen": ("RUN/fine.sock", "RUN/precious")}, "not a socket"),
        ({"listen": ("RUN/../precious",)}, "outside of the run folder"),
        ({"name": "../evil"}, "cannot name a process"),
        ({"argv": ()}, "has no program"),
    ],
)
def test_what_cannot_start_says_why_and_leaves_nothing(
    bench: SupervisorBench, broken: dict[str, object], text: str
) -> None:
    bench.launch()
    run = bench.home.run
    precious = run / "precious"
    precious.write_text("not yours")
    if "listen" in broken:
        paths = tuple(path.replace("RUN", str(run)) for path in broken["listen"])  # type: ignore[attr-defined]
        broken = {"listen": paths}
    with pytest.raises(EngineFault, match=text):
        bench.client.start(replace(bench.spec("bad", *SLEEPS), **broken))  # type: ignore[arg-type]
    assert precious.read_text() == "not yours"
    assert not (run / "fine.sock").exists()
    assert bench.client.list() == []
    assert list(bench.home.processes.iterdir()) == []
    assert bench.client.start(bench.spec("good", *SLEEPS)).phase is Phase.RUNNING


@pytest.mark.parametrize(("code", "exit_code"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_the_end_of_a_process_is_kept_until_it_is_forgotten(
    bench: SupervisorBench, code: str, exit_code: int
) -> None:
    bench.launch()
    bench.client.start(bench.spec("once", "/bin/sh", "-c", code))
    assert bench.wait_for("once", Phase.EXITED).exit_code == exit_code
    bench.client.stop("once")
    assert bench.client.inspect("once") is None
    assert bench.client.start(bench.spec("once", *SLEEPS)).phase is Phase.RUNNING


def test_a_process_that_must_run_is_restarted_at_once_then_more_and_more_slowly(
    bench: SupervisorBench,
) -> None:
    bench.launch()
    first = bench.client.start(bench.spec("steady", *SLEEPS, restart=Restart.ALWAYS))
    died_at = time.monotonic()
    os.kill(first.pid, signal.SIGKILL)
    second = wait_until(
        lambda: status if (status := bench.status("steady")).pid != first.pid else None
    )
    assert second.phase is Phase.RUNNING
    assert second.restarts == 1
    assert time.monotonic() - died_at < 2.0

    bench.client.start(bench.spec("quick", "/bin/false", restart=Restart.ALWAYS))
    began = time.monotonic()
    wait_until(lambda: bench.status("quick").restarts >= 5)
    # 0 + 0.1 + 0.2 + 0.4 + 0.8: the fifth restart cannot come earlier.
    assert time.monotonic() - began >= 1.4
    bench.wait_for("quick", Phase.BACKOFF)
    bench.client.stop("quick")
    assert bench.client.inspect("quick") is None
    assert "exited too quickly" in (bench.home.logs / "supervisor.log").read_text()


def test_what_a_restarted_process_left_is_ended_first(bench: SupervisorBench) -> None:
    bench.launch()
    code = "import os, time\npid = os.fork()\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    first = bench.client.start(bench.python("steady", code, restart=Restart.ALWAYS))
    pids = wait_until(lambda: found if len(found := bench.log("steady").split()) == 2 else None)
    (child,) = {int(pid) for pid in pids} - {first.pid}
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not runs(child), "the child to end")
    wait_until(lambda: bench.status("steady").restarts == 1)


def test_orphans_are_counted_and_ended(bench: SupervisorBench) -> None:
    bench.launch()
    started = bench.client.start(bench.python("parent", FORKS_AND_DIES))
    status = bench.wait_for("parent", Phase.EXITED)
    assert (status.exit_code, status.orphans, status.pid) == (7, 3, started.pid)
    with pytest.raises(EngineFault, match="stop it first"):
        bench.client.start(bench.python("parent", FORKS_AND_DIES))
    bench.client.stop("parent")
    assert bench.client.inspect("parent") is None
    assert bench.leftovers() == [bench.server()["supervisor"]["pid"]]  # type: ignore[index]


def test_an_orphan_that_ends_by_itself_is_no_longer_counted(bench: SupervisorBench) -> None:
    bench.launch()
    bench.client.start(bench.spec("parent", "/bin/sh", "-c", "sleep 600 & echo $!"))
    assert bench.wait_for("parent", Phase.EXITED).orphans == 1
    os.kill(int(bench.log("parent")), signal.SIGKILL)
    wait_until(lambda: bench.status("parent").orphans == 0)


def test_a_deaf_process_is_killed_after_its_grace_while_others_are_served(
    bench: SupervisorBench,
) -> None:
    bench.launch()
    bench.client.start(bench.python("deaf", IGNORES_TERM))
    wait_until(lambda: bench.log("deaf"))
    began = time.monotonic()
    stopping = threading.Thread(target=bench.client.stop, args=("deaf",), kwargs={"grace_s": 1.0})
    stopping.start()
    bench.client.start(bench.spec("other", *SLEEPS))
    assert time.monotonic() - began < 0.9, "the loop waits for the deaf process"
    with pytest.raises(EngineFault, match="being stopped"):
        wait_until(lambda: bench.client.start(bench.spec("deaf", *SLEEPS)))
    stopping.join()
    assert time.monotonic() - began >= 1.0
    assert bench.client.inspect("deaf") is None
    assert bench.status("other").phase is Phase.RUNNING


def test_a_stopped_process_does_not_come_back(bench: SupervisorBench) -> None:
    bench.launch()
    bench.client.start(bench.spec("steady", *SLEEPS, restart=Restart.ALWAYS))
    bench.client.stop("steady")
    bench.client.stop("steady")
    assert bench.client.list() == []


def test_watching_tells_what_is_and_every_change(bench: SupervisorBench) -> None:
    bench.launch()
    bench.client.start(bench.spec("first", *SLEEPS))
    seen: list[ProcessStatus] = []

    ended = threading.Event()

    def follow() -> None:
        try:
            for status in bench.client.watch():
                seen.append(status)
        except EngineFault:
            ended.set()

    thread = threading.Thread(target=follow)
    thread.start()
    wait_until(lambda: seen)
    bench.client.start(bench.spec("second", "/bin/sh", "-c", "exit 5"))
    wait_until(lambda: len(seen) >= 3)
    bench.client.stop("first")
    wait_until(lambda: len(seen) >= 4)
    assert [(status.name, status.phase, status.exit_code) for status in seen[:4]] == [
        ("first", Phase.RUNNING, None),
        ("second", Phase.RUNNING, None),
        ("second", Phase.EXITED, 5),
        ("first", Phase.EXITED, -15),
    ]
    bench.client.shutdown()
    assert ended.wait(10)
    thread.join()


@pytest.mark.parametrize("how", ["request", "SIGTERM", "SIGINT"])
def test_shutting_down_stops_everything_in_order(bench: SupervisorBench, how: str) -> None:
    program = bench.launch("--port", "0", "--foreground")
    for name in ("i-one", "envoy", "i-two", "control-plane"):
        bench.client.start(bench.spec(name, *SLEEPS, restart=Restart.ALWAYS))
    told: list[str] = []
    if how == "request":
        bench.client.shutdown(told.append)
    else:
        program.send_signal(signal.Signals[how])
    error_output = program.communicate(timeout=20)[1]
    assert program.returncode == 0
    stopped = [line for line in error_output.splitlines() if line.endswith("stopped")]
    names = [line.split()[1].rstrip(":") for line in stopped]
    assert names[:2] == ["control-plane", "envoy"]
    assert set(names[2:]) == {"i-one", "i-two"}
    if how == "request":
        assert told[:2] == ["control-plane stopped", "envoy stopped"]
    assert bench.leftovers() == []
    assert list(bench.home.processes.iterdir()) == []
    assert not bench.home.server_file.exists()
    assert not bench.home.supervisor_socket.exists()


def test_a_process_that_fled_its_group_does_not_outlive_the_shutdown(
    bench: SupervisorBench,
) -> None:
    program = bench.launch()
    bench.client.start(bench.spec("daemon", "/bin/sh", "-c", "setsid sleep 600 & echo $!"))
    wait_until(lambda: bench.log("daemon"))
    bench.client.shutdown()
    program.wait(timeout=20)
    assert bench.leftovers() == []


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b"\x00" * 70000, b"[" * 100000 + b"\n"])
def test_nonsense_on_the_socket_costs_only_its_own_connection(
    bench: SupervisorBench, line: bytes
) -> None:
    bench.launch()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(bench.home.supervisor_socket))
        caller.sendall(line)
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(1) == b""
    assert bench.client.list() == []


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"op": "dance"},
        {"op": "stop"},
        {"op": "start"},
        {"op": "become", "argv": ["/bin/sh"], "environment": ["x"]},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    bench: SupervisorBench, request_: dict[str, object]
) -> None:
    bench.launch()
    with socket.socket(socket.AF_UNIX) as caller, caller.makefile("rwb") as stream:
        caller.connect(str(bench.home.supervisor_socket))
        stream.write(json.dumps(request_).encode() + b"\n")
        stream.flush()
        assert json.loads(stream.readline())["ok"] is False
    assert bench.client.list() == []


def test_clients_that_stay_leave_descriptors_for_processes(bench: SupervisorBench) -> None:
    supervisor = bench.launch()
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (256, 256))
    with ExitStack() as kept:
        for _ in range(300):
            caller = kept.enter_context(socket.socket(socket.AF_UNIX))
            caller.connect(str(bench.home.supervisor_socket))
        assert bench.client.start(bench.spec("a", *SLEEPS)).phase is Phase.RUNNING
        bench.client.stop("a")
        assert bench.client.list() == []


def test_what_cannot_be_forgotten_has_stopped_nevertheless(bench: SupervisorBench) -> None:
    bench.launch()
    pid = bench.client.start(bench.spec("a", *SLEEPS)).pid
    record = bench.home.processes / "a.json"
    record.unlink()
    record.mkdir()  # no user, not even root, can remove it as a file: as on a read-only disk
    bench.client.stop("a")
    assert not runs(pid)
    assert bench.client.list() == []
    assert "not removed" in (bench.home.logs / "supervisor.log").read_text()


def test_a_shutdown_tells_what_does_not_end(bench: SupervisorBench) -> None:
    bench.launch(before=NOBODY_IS_KILLED)
    bench.client.start(bench.spec("a", "/bin/sleep", "3", stop_grace_s=0.1))
    told: list[str] = []
    bench.client.shutdown(told.append)
    assert told[0] == "a does not end, 0.5 s after SIGKILL"
    assert told[-1] == "a stopped"


def test_an_unreachable_supervisor_is_an_engine_fault(bench: SupervisorBench) -> None:
    with pytest.raises(EngineFault, match="havre up"):
        bench.client.list()
