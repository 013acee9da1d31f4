"""The process engine when keepers die, hang or lie, and when supervisors are killed."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.copy_instance import in_background
from tests.support.supervisor_harness import SupervisorHarness, model_interpreter, runs, wait_until

from havre.domain.errors import EngineFault
from havre.domain.instance import InstanceSpec, InstanceStatus
from havre.domain.logs import Category
from havre.domain.states import InstancePhase
from havre.domain.workload import PythonWorkload
from havre.engines.process import ProcessEngine
from havre.telemetry.counters import Counters
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.logs.instance_collector import InstanceCollector

ECHO = """
import os
def load_model():
    return os.getpid()
def predict(data, model=load_model()):
    policy = os.sched_getscheduler(0)
    return {"prediction": data, "folder": os.environ["TMPDIR"], "policy": policy}
"""


class EngineHarness:
    def __init__(self, harness: SupervisorHarness) -> None:
        harness.launch()
        self.supervised = harness
        self.home = harness.home
        self.engine = ProcessEngine(harness.home, harness.client)

    def spec(self, score: str = ECHO, instance_id: str = "aaaaaaaaaaaa") -> InstanceSpec:
        artifact = self.home.root / f"model-{instance_id}"
        artifact.mkdir(exist_ok=True)
        (artifact / "score.py").write_text(score)
        return InstanceSpec(
            id=instance_id,
            deployment_id="ocid1.datasciencemodeldeployment.oc1.iad.x",
            revision="r1",
            workload=PythonWorkload(model_interpreter(), "3.11.7", artifact),
            copies=2,
            cpus=2.0,
            memory_bytes=1 << 30,
            variables={"HAVRE_TEST_HOME": str(self.home.root), "PATH": "/usr/bin:/bin"},
        )

    def ready(self, spec: InstanceSpec) -> InstanceStatus:
        self.engine.start(spec)
        return self.until(spec.id, lambda status: status.copies_ready == spec.copies)

    def until(
        self, instance_id: str, condition: Callable[[InstanceStatus], bool]
    ) -> InstanceStatus:
        return wait_until(
            lambda: status if condition(status := self.engine.inspect(instance_id)) else None
        )

    def phase(self, instance_id: str, phase: InstancePhase) -> InstanceStatus:
        return self.until(instance_id, lambda status: status.phase is phase)


def supervisor_pid(engines: EngineHarness) -> int:
    pid: int = engines.supervised.server()["supervisor"]["pid"]  # type: ignore[index]
    return pid


@pytest.fixture
def engines(harness: SupervisorHarness) -> EngineHarness:
    return EngineHarness(harness)


def predict(path: Path, body: bytes = b'{"x": 1}') -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(30)
        caller.connect(str(path))
        caller.sendall(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)
        )
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], answer
    found: dict[str, object] = json.loads(content)
    return found


def test_an_instance_answers_with_its_own_temporary_folder(engines: EngineHarness) -> None:
    spec = engines.spec()
    status = engines.ready(spec)
    answer = predict(status.address.path)
    assert answer["prediction"] == {"x": 1}
    folder = Path(str(answer["folder"]))
    assert folder == engines.home.instances / spec.id / "tmp"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert status.notes, "how copies are started belongs into the work request's log"
    assert answer["policy"] == os.SCHED_BATCH
    engines.engine.stop(spec.id)
    assert not (engines.home.instances / spec.id).exists()
    assert list(engines.home.instance_sockets.iterdir()) == []
    assert (engines.home.logs / "instances" / f"{spec.id}.log").stat().st_size > 0
    assert engines.supervised.leftovers() == [supervisor_pid(engines)]


def test_what_an_instance_printed_is_collected_when_it_is_gone(engines: EngineHarness) -> None:
    score = (
        ECHO
        + """
import os
_predict = predict
def predict(data):
    print("asked", data)
    os.write(2, b"an end without a line's end")
    return _predict(data)
"""
    )
    home = engines.home
    spec = engines.spec(score)
    assert predict(engines.ready(spec).address.path)["prediction"] == {"x": 1}
    outside = home.root / "outside"
    outside.write_text("not to be moved")
    output = home.instances / spec.id / "output"
    (output / "copy-9.1764100000000.log").symlink_to(outside)
    engines.engine.stop(spec.id)
    assert not (home.instances / spec.id).exists()
    assert outside.exists()
    home.telemetry.mkdir(exist_ok=True)
    counters = Counters()
    collector = InstanceCollector(
        home,
        Converter(home, counters),
        counters,
        lines_per_second=1000,
        retention_days=1,
        max_bytes=10**9,
        interval_s=0.0,
    )

    def entries() -> list[tuple[Any, ...]]:
        collector.collect(int(time.time() * 1000))
        with contextlib.closing(LogReader(home)) as store:
            return store.query(
                "SELECT message, request, copy, revision FROM entries WHERE copy IS NOT NULL",
                category=Category.PREDICT,
                deployments=[spec.deployment_id],
                time_from_ms=0,
                time_to_ms=2**53,
            ).rows

    found = wait_until(lambda: rows if len(rows := entries()) >= 2 else None)
    assert [message for message, *_ in sorted(found)] == [
        "an end without a line's end",
        "asked {'x': 1}",
    ]
    assert {revision for *_, revision in found} == {"r1"}
    wait_until(lambda: entries() and not list(home.instance_logs.glob("*.copy-*.log")))
    assert (home.instance_logs / f"{spec.id}.log").stat().st_size > 0, "people may still look"


def test_copies_serve_on_without_their_keeper_and_are_ended_by_a_stop(
    engines: EngineHarness,
) -> None:
    spec = engines.spec()
    status = engines.ready(spec)
    os.kill(status.pid, signal.SIGKILL)
    degraded = engines.phase(spec.id, InstancePhase.DEGRADED)
    assert degraded.copies_ready == 2
    assert "signal 9" in degraded.reason
    assert predict(degraded.address.path)["prediction"] == {"x": 1}
    engines.engine.start(spec)
    assert engines.engine.inspect(spec.id).phase is InstancePhase.DEGRADED, "it still serves"
    engines.engine.stop(spec.id)
    assert engines.engine.inspect(spec.id).phase is InstancePhase.GONE
    assert len(engines.supervised.leftovers()) == 1


def test_a_keeper_of_another_protocol_serves_until_it_is_replaced(engines: EngineHarness) -> None:
    spec = engines.spec()
    ready = engines.ready(spec)
    places = engines.home.instances / spec.id
    speak_another_protocol(places / "spec.json")
    serving = engines.engine.inspect(spec.id)
    assert (serving.phase, serving.copies_ready) == (InstancePhase.DEGRADED, 2)
    assert "earlier version" in serving.reason
    assert predict(serving.address.path)["prediction"] == {"x": 1}
    os.kill(ready.pid, signal.SIGKILL)
    wait_until(lambda: not runs(ready.pid))
    orphaned = engines.engine.inspect(spec.id)
    assert (orphaned.phase, orphaned.copies_ready) == (InstancePhase.DEGRADED, 2)
    # Started anew it is one of ours again; one that did not serve yet is not waited for.
    engines.engine.stop(spec.id)
    engines.engine.start(engines.spec("import time\ntime.sleep(600)\n"))
    speak_another_protocol(places / "spec.json")
    engines.phase(spec.id, InstancePhase.GONE)
    assert engines.ready(engines.spec()).phase is InstancePhase.READY


def speak_another_protocol(file: Path) -> None:
    """Have the spec be one that a keeper of another protocol was started with."""
    content = json.dumps({**json.loads(file.read_bytes()), "protocol": 0})
    beside = file.with_suffix(".new")
    beside.write_text(content)
    beside.rename(file)


def test_instances_serve_and_are_known_after_the_supervisors_death(engines: EngineHarness) -> None:
    spec = engines.spec()
    before = engines.ready(spec)
    engines.supervised.crash()
    with pytest.raises(EngineFault, match="havre up"):
        engines.engine.inspect(spec.id)
    assert predict(before.address.path)["prediction"] == {"x": 1}
    engines.supervised.launch()
    after = engines.until(spec.id, lambda status: status.copies_ready == 2)
    assert (after.phase, after.pid) == (InstancePhase.READY, before.pid)
    engines.engine.stop(spec.id)
    assert not runs(before.pid)


@pytest.mark.parametrize(
    "score", [ECHO, "import time\ntime.sleep(600)\n"], ids=["ready", "loading"]
)
def test_what_ended_while_nobody_watched_is_gone_and_not_failed(
    engines: EngineHarness, score: str
) -> None:
    """As when the machine goes down: a change that was under way must not fail for it."""
    spec = engines.spec(score)
    engines.engine.start(spec)
    if score == ECHO:
        engines.ready(spec)
    engines.supervised.crash()
    wait_until(lambda: has_killed_all(engines.supervised))
    engines.supervised.launch()
    gone = engines.phase(spec.id, InstancePhase.GONE)
    assert "nobody watched" in gone.reason
    assert engines.ready(engines.spec()).phase is InstancePhase.READY, "it is started anew"


def has_killed_all(harness: SupervisorHarness) -> bool:
    """Kills what it finds; true once that is nothing: a keeper may fork until it is dead, too."""
    left = harness.leftovers()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not left


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ("import no_such_module\n", "no_such_module"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "probably out of memory"),
        ("import os\nos.kill(os.getpid(), 11)\n", "signal 11"),
        (
            "import os, sys\nprint('the last words', flush=True)\nos._exit(9)\n",
            "exited with code 9; its log ends with: the last words",
        ),
        ("import os\nos._exit(3)\n", r"the model's process exited with code 3$"),
    ],
    ids=["import", "killed", "segfault", "exit", "silent"],
)
def test_a_keeper_that_dies_while_loading_says_why(
    engines: EngineHarness, score: str, reason: str
) -> None:
    spec = engines.spec(score + ECHO)
    engines.engine.start(spec)
    assert re.search(reason, engines.phase(spec.id, InstancePhase.FAILED).reason)


def test_a_model_that_hangs_in_c_is_ended_and_its_reason_kept(engines: EngineHarness) -> None:
    # With the signal blocked, the keeper's own alarm never comes: as in a loop of C code.
    score = (
        "import signal, time\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
        "time.sleep(600)\n"
    )
    spec = replace(engines.spec(score + ECHO), start_timeout_s=0.2)
    engines.engine.start(spec)
    failed = engines.phase(spec.id, InstancePhase.FAILED)
    assert failed.reason == "the model was not loaded within 0.2 s"
    assert len(engines.supervised.leftovers()) == 2, "looking ends nothing"
    assert engines.engine.inspect(spec.id) == failed
    assert engines.engine.instances() == [failed]
    engines.engine.stop(spec.id)
    assert len(engines.supervised.leftovers()) == 1
    assert engines.engine.instances() == []
    log = (engines.home.instance_logs / f"{spec.id}.log").read_text()
    assert f"Z [keeper] ended: {failed.reason}\n" in log


def test_one_that_hangs_while_it_loads_can_be_started_again(engines: EngineHarness) -> None:
    hangs = "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
    spec = replace(engines.spec(f"{hangs}time.sleep(600)\n{ECHO}"), start_timeout_s=0.2)
    engines.engine.start(spec)
    engines.phase(spec.id, InstancePhase.FAILED)
    [hung] = [pid for pid in engines.supervised.leftovers() if pid != supervisor_pid(engines)]
    assert engines.ready(engines.spec()).phase is InstancePhase.READY
    assert not runs(hung)


def test_a_keeper_that_does_not_answer_is_judged_by_its_last_word(engines: EngineHarness) -> None:
    spec = engines.spec()
    status = engines.ready(spec)
    os.kill(status.pid, signal.SIGSTOP)
    try:
        seen = engines.engine.inspect(spec.id)
        assert (seen.phase, seen.is_silent) == (InstancePhase.READY, True)
        assert not seen.is_held_up, "stopped: no busy machine is to blame"
    finally:
        os.kill(status.pid, signal.SIGCONT)
    engines.until(spec.id, lambda status: not status.is_silent)


def test_what_waits_at_a_keeper_that_stands_still_is_answered_without_it(
    engines: EngineHarness,
) -> None:
    spec = engines.spec()
    status = engines.ready(spec)
    os.kill(status.pid, signal.SIGSTOP)
    waiting = in_background(lambda: predict(status.address.path))
    engines.engine.channel(spec.id).end_keeper()
    answer = waiting()
    assert isinstance(answer, dict), answer
    assert answer["prediction"] == {"x": 1}
    degraded = engines.phase(spec.id, InstancePhase.DEGRADED)
    assert degraded.reason == "its keeper was killed by signal 9; its copies serve on"
    assert degraded.copies_ready == 2
    engines.engine.channel(spec.id).end_keeper()  # nothing more to end
    engines.engine.channel("nobodynobody").end_keeper()
    assert predict(status.address.path)["prediction"] == {"x": 1}


def test_a_keeper_that_waits_for_ever_or_runs_for_ever_is_no_victim_of_the_machine(
    engines: EngineHarness,
) -> None:
    """Code of the model's can bring that about: what it has run before each fork, say."""
    for waits, code in ((True, "time.sleep(600)"), (False, "while True: pass")):
        score = (
            "import os, time\n"
            f"def before():\n    if os.path.exists(MARK):\n        {code}\n"
            "MARK = os.path.join(os.environ['TMPDIR'], 'mark')\n"
            "os.register_at_fork(before=before)\n"
            "def predict(data):\n    open(MARK, 'w').close()\n    os._exit(1)\n"
        )
        spec = engines.spec(score)
        status = engines.ready(spec)
        with contextlib.suppress(AssertionError):
            predict(status.address.path)
        # At first it may be on its way there.
        wait_until(lambda spec=spec, waits=waits: has_hung(engines, spec.id, waits=waits))
        engines.engine.stop(spec.id)


def has_hung(engines: EngineHarness, instance_id: str, *, waits: bool) -> bool:
    """Whether two looks at a keeper that does not answer show it waiting, or running."""
    first = wait_until(lambda: silent_status(engines, instance_id))
    second = wait_until(lambda: silent_status(engines, instance_id))
    ran_s = second.keeper_cpu_s - first.keeper_cpu_s
    return (not second.is_held_up and ran_s == 0) if waits else ran_s > 0


def silent_status(engines: EngineHarness, instance_id: str) -> InstanceStatus | None:
    seen = engines.engine.inspect(instance_id)
    return seen if seen.is_silent else None


def test_copies_that_never_stay_up_are_given_up_in_time_and_their_death_is_named(
    engines: EngineHarness,
) -> None:
    # A death in every two seconds or so: never so many in a row that the keeper gives up; and none
    # lives for nearly as long as it must, even where this machine lets its timer act late.
    score = (
        "import os, threading\n"
        "def die():\n    os._exit(7)\n"
        "def begin():\n"
        "    timer = threading.Timer(2, die)\n    timer.daemon = True\n    timer.start()\n"
        "os.register_at_fork(after_in_child=begin)\n"
    )
    spec = replace(engines.spec(score + ECHO), copies=1, start_timeout_s=0.2, min_ready_s=6)
    engines.engine.start(spec)
    failed = engines.phase(spec.id, InstancePhase.FAILED)
    assert failed.reason == (
        "the instance was not ready within 0.2 s: a copy has died: exited with code 7"
    )


def test_what_a_crash_between_folder_and_process_left_is_listed_and_removed(
    engines: EngineHarness,
) -> None:
    folder = engines.home.instances / "leftleftleft"
    (folder / "tmp").mkdir(parents=True)
    assert [(row.id, row.phase) for row in engines.engine.instances()] == [
        ("leftleftleft", InstancePhase.GONE)
    ]
    engines.engine.stop("leftleftleft")
    assert engines.engine.instances() == []


def test_a_disk_that_takes_nothing_is_an_engine_fault(engines: EngineHarness) -> None:
    spec = engines.spec()
    (engines.home.logs / "instances").write_text("a file where the folder should be")
    with pytest.raises(EngineFault, match="cannot be prepared"):
        engines.engine.start(spec)
    assert engines.engine.inspect(spec.id).phase is InstancePhase.GONE


def test_an_interpreter_that_is_not_there_is_named(engines: EngineHarness) -> None:
    spec = engines.spec()
    absent = replace(spec.workload, interpreter=Path("/no/such/python"))
    spec = replace(spec, workload=absent)
    with pytest.raises(EngineFault, match="/no/such/python"):
        engines.engine.start(spec)


def test_changes_name_the_instance_that_died(engines: EngineHarness) -> None:
    spec = engines.spec()
    status = engines.ready(spec)
    changes = engines.engine.changes()
    assert next(changes) == spec.id, "what is there is told first"
    os.kill(status.pid, signal.SIGKILL)
    assert next(changes) == spec.id
    engines.phase(spec.id, InstancePhase.DEGRADED)
