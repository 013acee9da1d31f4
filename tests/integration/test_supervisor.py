"""Start, watch, restart, stop: a real supervisor and real processes."""

import json
import os
import re
import resource
import signal
import socket
import stat
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from tests.support.supervisor_harness import DEADLINE_S, SupervisorHarness, runs, wait_until

from havre.domain.errors import EngineFault
from havre.supervisor.protocol import BALANCER, Phase, ProcessStatus, Restart

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
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
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
from havre.supervisor import supervised_process
supervised_process.STOP_FAULT_S = 0.5
supervised_process.SupervisedProcess._signal = lambda *_: None
"""


def test_a_process_gets_what_it_was_promised_and_nothing_else(harness: SupervisorHarness) -> None:
    paths = tuple(str(harness.home.instance_sockets / name) for name in ("a.sock", "a.ctl"))
    with open(os.devnull) as leaked:
        os.set_inheritable(leaked.fileno(), True)
        harness.launch()
    # A socket left by an earlier life is in the way.
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(paths[0])
    started = harness.client.start(harness.python("a", TELLS_ITS_WORLD, listen=paths))
    assert started.phase is Phase.RUNNING
    for path in paths:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(paths[0])
        assert caller.recv(5) == b"hello"
    world = json.loads(harness.log("a"))
    log = str(harness.home.logs / "a.log")
    assert {fd: world["fds"].pop(fd) for fd in ("0", "1", "2")} == {
        "0": "/dev/null",
        "1": log,
        "2": log,
    }
    assert world["names"] == {"3": paths[0], "4": paths[1]}
    assert set(world["fds"]) == {"3", "4"}
    # The interpreter itself may add one name for its locale.
    assert set(world["environment"]) - {"LC_CTYPE"} == {"HAVRE_TEST_HOME", "PATH"}
    assert world["folder"] == str(harness.home.root)
    assert world["session"]
    assert world["group"]
    assert world["blocked"] == []
    harness.client.stop("a")
    assert not any(os.path.exists(path) for path in paths)


@pytest.mark.parametrize("batch_scheduling", [True, False])
def test_a_process_that_gives_way_does_so_with_all_it_starts(
    harness: SupervisorHarness, *, batch_scheduling: bool
) -> None:
    harness.launch()
    tells = "import os, time; os.fork(); print(os.sched_getscheduler(0), flush=True); time.sleep(9)"
    harness.client.start(replace(harness.python("a", tells), batch_scheduling=batch_scheduling))
    policy = os.SCHED_BATCH if batch_scheduling else os.SCHED_OTHER
    wait_until(lambda: harness.log("a").split() == [str(policy)] * 2)
    harness.client.stop("a")


def test_starting_is_idempotent_by_name(harness: SupervisorHarness) -> None:
    harness.launch()
    spec = harness.spec("one", *SLEEPS)
    first = harness.client.start(spec)
    assert harness.client.start(spec) == first
    with pytest.raises(EngineFault, match="another specification"):
        harness.client.start(harness.spec("one", "/bin/sleep", "601"))
    assert [status.pid for status in harness.client.list()] == [first.pid]


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
    harness: SupervisorHarness, broken: dict[str, object], text: str
) -> None:
    harness.launch()
    run = harness.home.run
    precious = run / "precious"
    precious.write_text("not yours")
    if "listen" in broken:
        paths = tuple(path.replace("RUN", str(run)) for path in broken["listen"])  # type: ignore[attr-defined]
        broken = {"listen": paths}
    with pytest.raises(EngineFault, match=text):
        harness.client.start(replace(harness.spec("bad", *SLEEPS), **broken))  # type: ignore[arg-type]
    assert precious.read_text() == "not yours"
    assert not (run / "fine.sock").exists()
    assert harness.client.list() == []
    assert list(harness.home.processes.iterdir()) == []
    assert harness.client.start(harness.spec("good", *SLEEPS)).phase is Phase.RUNNING


@pytest.mark.parametrize(("code", "exit_code"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_the_end_of_a_process_is_kept_until_it_is_forgotten(
    harness: SupervisorHarness, code: str, exit_code: int
) -> None:
    harness.launch()
    harness.client.start(harness.spec("once", "/bin/sh", "-c", code))
    assert harness.wait_for("once", Phase.EXITED).exit_code == exit_code
    harness.client.stop("once")
    assert harness.client.inspect("once") is None
    assert harness.client.start(harness.spec("once", *SLEEPS)).phase is Phase.RUNNING


def test_a_process_that_must_run_is_restarted_at_once_then_more_and_more_slowly(
    harness: SupervisorHarness,
) -> None:
    harness.launch()
    first = harness.client.start(harness.spec("steady", *SLEEPS, restart=Restart.ALWAYS))
    os.kill(first.pid, signal.SIGKILL)
    second = wait_until(
        lambda: status if (status := harness.status("steady")).pid != first.pid else None
    )
    assert second.phase is Phase.RUNNING
    assert second.restarts == 1
    log = harness.home.logs / "supervisor.log"
    assert "steady exited too quickly; it is started again in 0 s" in log.read_text()

    harness.client.start(harness.spec("quick", "/bin/false", restart=Restart.ALWAYS))
    began = time.monotonic()
    wait_until(lambda: harness.status("quick").restarts >= 5)
    # 0 + 0.1 + 0.2 + 0.4 + 0.8: the fifth restart cannot come earlier.
    assert time.monotonic() - began >= 1.4
    harness.wait_for("quick", Phase.BACKOFF)
    harness.client.stop("quick")
    assert harness.client.inspect("quick") is None
    told = re.findall(r"quick exited too quickly; it is started again in (\S+) s", log.read_text())
    assert told[:5] == ["0", "0.1", "0.2", "0.4", "0.8"]


def test_what_a_restarted_process_left_is_ended_first(harness: SupervisorHarness) -> None:
    harness.launch()
    code = "import os, time\npid = os.fork()\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    first = harness.client.start(harness.python("steady", code, restart=Restart.ALWAYS))
    pids = wait_until(lambda: found if len(found := harness.log("steady").split()) == 2 else None)
    (child,) = {int(pid) for pid in pids} - {first.pid}
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not runs(child), "the child to end")
    wait_until(lambda: harness.status("steady").restarts == 1)


def test_orphans_are_counted_and_ended(harness: SupervisorHarness) -> None:
    harness.launch()
    started = harness.client.start(harness.python("parent", FORKS_AND_DIES))
    status = harness.wait_for("parent", Phase.EXITED)
    assert (status.exit_code, status.orphans, status.pid) == (7, 3, started.pid)
    with pytest.raises(EngineFault, match="stop it first"):
        harness.client.start(harness.python("parent", FORKS_AND_DIES))
    harness.client.stop("parent")
    assert harness.client.inspect("parent") is None
    assert harness.leftovers() == [harness.server()["supervisor"]["pid"]]  # type: ignore[index]


def test_an_orphan_that_ends_by_itself_is_no_longer_counted(harness: SupervisorHarness) -> None:
    harness.launch()
    harness.client.start(harness.spec("parent", "/bin/sh", "-c", "sleep 600 & echo $!"))
    assert harness.wait_for("parent", Phase.EXITED).orphans == 1
    os.kill(int(harness.log("parent")), signal.SIGKILL)
    wait_until(lambda: harness.status("parent").orphans == 0)


def test_a_deaf_process_is_killed_after_its_grace_while_others_are_served(
    harness: SupervisorHarness,
) -> None:
    harness.launch()
    harness.client.start(harness.python("deaf", IGNORES_TERM))
    wait_until(lambda: harness.log("deaf"))

    def stop(grace_s: float) -> None:
        harness.client.stop("deaf", grace_s=grace_s)

    long = threading.Thread(target=stop, args=(600.0,))
    long.start()
    wait_until(lambda: "asked" in harness.log("deaf"))
    harness.client.start(harness.spec("other", *SLEEPS))
    with pytest.raises(EngineFault, match="being stopped"):
        harness.client.start(harness.spec("deaf", *SLEEPS))
    assert harness.status("deaf").phase is Phase.RUNNING, "nobody waited for the deaf process"
    began = time.monotonic()
    stop(1.0)
    assert time.monotonic() - began >= 1.0
    long.join()
    assert harness.client.inspect("deaf") is None
    assert harness.status("other").phase is Phase.RUNNING


def test_a_stopped_process_does_not_come_back(harness: SupervisorHarness) -> None:
    harness.launch()
    harness.client.start(harness.spec("steady", *SLEEPS, restart=Restart.ALWAYS))
    harness.client.stop("steady")
    harness.client.stop("steady")
    assert harness.client.list() == []


def test_watching_tells_what_is_and_every_change(harness: SupervisorHarness) -> None:
    harness.launch()
    harness.client.start(harness.spec("first", *SLEEPS))
    seen: list[ProcessStatus] = []

    ended = threading.Event()

    def follow() -> None:
        try:
            for status in harness.client.watch():
                seen.append(status)
        except EngineFault:
            ended.set()

    thread = threading.Thread(target=follow)
    thread.start()
    wait_until(lambda: seen)
    harness.client.start(harness.spec("second", "/bin/sh", "-c", "exit 5"))
    wait_until(lambda: len(seen) >= 3)
    harness.client.stop("first")
    wait_until(lambda: len(seen) >= 4)
    assert [(status.name, status.phase, status.exit_code) for status in seen[:4]] == [
        ("first", Phase.RUNNING, None),
        ("second", Phase.RUNNING, None),
        ("second", Phase.EXITED, 5),
        ("first", Phase.EXITED, -15),
    ]
    harness.client.shutdown()
    assert ended.wait(10)
    thread.join()


@pytest.mark.parametrize("how", ["request", "SIGTERM", "SIGINT"])
def test_shutting_down_stops_everything_in_order(harness: SupervisorHarness, how: str) -> None:
    program = harness.launch("--port", "0", "--foreground")
    for name in ("i-one", BALANCER, "i-two", "control-plane"):
        harness.client.start(harness.spec(name, *SLEEPS, restart=Restart.ALWAYS))
    told: list[str] = []
    if how == "request":
        harness.client.shutdown(told.append)
    else:
        program.send_signal(signal.Signals[how])
    error_output = program.communicate(timeout=DEADLINE_S)[1]
    assert program.returncode == 0
    stopped = [line for line in error_output.splitlines() if line.endswith("stopped")]
    names = [line.split()[1].rstrip(":") for line in stopped]
    assert names[:2] == ["control-plane", BALANCER]
    assert set(names[2:]) == {"i-one", "i-two"}
    if how == "request":
        assert told[:2] == ["control-plane stopped", "load-balancer stopped"]
    assert harness.leftovers() == []
    assert list(harness.home.processes.iterdir()) == []
    assert not harness.home.server_file.exists()
    assert not harness.home.supervisor_socket.exists()


def test_a_process_that_fled_its_group_does_not_outlive_the_shutdown(
    harness: SupervisorHarness,
) -> None:
    program = harness.launch()
    harness.client.start(harness.spec("daemon", "/bin/sh", "-c", "setsid sleep 600 & echo $!"))
    wait_until(lambda: harness.log("daemon"))
    harness.client.shutdown()
    program.wait(timeout=DEADLINE_S)
    assert harness.leftovers() == []


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b"\x00" * 70000, b"[" * 100000 + b"\n"])
def test_nonsense_on_the_socket_costs_only_its_own_connection(
    harness: SupervisorHarness, line: bytes
) -> None:
    harness.launch()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(harness.home.supervisor_socket))
        caller.sendall(line)
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(1) == b""
    assert harness.client.list() == []


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
    harness: SupervisorHarness, request_: dict[str, object]
) -> None:
    harness.launch()
    with socket.socket(socket.AF_UNIX) as caller, caller.makefile("rwb") as stream:
        caller.connect(str(harness.home.supervisor_socket))
        stream.write(json.dumps(request_).encode() + b"\n")
        stream.flush()
        assert json.loads(stream.readline())["ok"] is False
    assert harness.client.list() == []


def test_clients_that_stay_leave_descriptors_for_processes(harness: SupervisorHarness) -> None:
    supervisor = harness.launch()
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (256, 256))
    with ExitStack() as kept:
        for _ in range(300):
            caller = kept.enter_context(socket.socket(socket.AF_UNIX))
            caller.connect(str(harness.home.supervisor_socket))
        assert harness.client.start(harness.spec("a", *SLEEPS)).phase is Phase.RUNNING
        harness.client.stop("a")
        assert harness.client.list() == []


def test_what_cannot_be_forgotten_has_stopped_nevertheless(harness: SupervisorHarness) -> None:
    harness.launch()
    pid = harness.client.start(harness.spec("a", *SLEEPS)).pid
    record = harness.home.processes / "a.json"
    record.unlink()
    record.mkdir()  # no user, not even root, can remove it as a file: as on a read-only disk
    harness.client.stop("a")
    assert not runs(pid)
    assert harness.client.list() == []
    assert "not removed" in (harness.home.logs / "supervisor.log").read_text()


def test_a_shutdown_tells_what_does_not_end(harness: SupervisorHarness) -> None:
    harness.launch(before=NOBODY_IS_KILLED)
    pid = harness.client.start(harness.spec("a", *SLEEPS, stop_grace_s=0.1)).pid
    told: list[str] = []

    def on_progress(sentence: str) -> None:
        told.append(sentence)
        if "does not end" in sentence and runs(pid):
            os.kill(pid, signal.SIGKILL)

    harness.client.shutdown(on_progress)
    assert told[0] == "a does not end, 0.5 s after SIGKILL"
    assert told[-1] == "a stopped"


def test_an_unreachable_supervisor_is_an_engine_fault(harness: SupervisorHarness) -> None:
    with pytest.raises(EngineFault, match="havre up"):
        harness.client.list()


def test_limits_that_somebody_lowers_stop_nothing_and_are_told(harness: SupervisorHarness) -> None:
    supervisor = harness.launch()
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (60, 60))
    spec = harness.python(
        "a", "import time; time.sleep(60)", listen=(str(harness.home.run / "a.sock"),)
    )
    harness.client.start(spec)
    assert harness.status("a").phase is Phase.RUNNING
    assert "limit of open files" in (harness.home.logs / "supervisor.log").read_text()


def test_few_descriptors_are_enough(harness: SupervisorHarness) -> None:
    harness.launch(before="import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))")
    spec = harness.python(
        "a", "import time; time.sleep(60)", listen=(str(harness.home.run / "a.sock"),)
    )
    harness.client.start(spec)
    assert harness.status("a").phase is Phase.RUNNING
