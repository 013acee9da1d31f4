"""The process engine when keepers die, hang or lie, and when supervisors are killed."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor_bench import SupervisorBench, runs, wait_until

from havre.domain.errors import EngineFault
from havre.domain.instance import InstanceSpec, InstanceStatus
from havre.domain.logs import Category
from havre.domain.states import InstancePhase
from havre.engines.process import ProcessEngine
from havre.telemetry.collecting import Tally
from havre.telemetry.conversion import Converter
from havre.telemetry.instance_files import InstanceFiles
from havre.telemetry.store import LogStore

ECHO = """
import os
def load_model():
    return os.getpid()
def predict(data, model=load_model()):
    policy = os.sched_getscheduler(0)
    return {"prediction": data, "folder": os.environ["TMPDIR"], "policy": policy}
"""


class EngineBench:
    def __init__(self, bench: SupervisorBench) -> None:
        bench.launch()
        self.supervised = bench
        self.home = bench.home
        self.engine = ProcessEngine(bench.home, bench.client)

    def spec(self, score: str = ECHO, instance_id: str = "aaaaaaaaaaaa") -> InstanceSpec:
        artifact = self.home.root / f"model-{instance_id}"
        artifact.mkdir(exist_ok=True)
        (artifact / "score.py").write_text(score)
        return InstanceSpec(
            id=instance_id,
            deployment_id="ocid1.datasciencemodeldeployment.oc1.iad.x",
            revision="r1",
            artifact=artifact,
            interpreter=Path(sys.executable),
            copies=2,
            cpus=2.0,
            memory_bytes=1 << 30,
            environment={"HAVRE_TEST_HOME": str(self.home.root), "PATH": "/usr/bin:/bin"},
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


@pytest.fixture
def engines(bench: SupervisorBench) -> EngineBench:
    return EngineBench(bench)


def predict(path: Path, body: bytes = b'{"x": 1}') -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(10)
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


def test_an_instance_answers_with_its_own_temporary_folder(engines: EngineBench) -> None:
    spec = engines.spec()
    status = engines.ready(spec)
    answer = predict(status.socket)
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
    supervisor = engines.supervised.server()["supervisor"]["pid"]  # type: ignore[index]
    assert engines.supervised.leftovers() == [supervisor]


def test_what_an_instance_printed_is_collected_when_it_is_gone(engines: EngineBench) -> None:
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
    assert predict(engines.ready(spec).socket)["prediction"] == {"x": 1}
    outside = home.root / "outside"
    outside.write_text("not to be moved")
    output = home.instances / spec.id / "output"
    (output / "copy-9.1764100000000.log").symlink_to(outside)
    engines.engine.stop(spec.id)
    assert not (home.instances / spec.id).exists()
    assert outside.exists()
    home.telemetry.mkdir(exist_ok=True)
    tally = Tally()
    collector = InstanceFiles(
        home,
        Converter(home, tally),
        tally,
        lines_per_second=1000,
        retention_days=1,
        most_bytes=10**9,
        look_s=0.0,
    )

    def entries() -> list[tuple[Any, ...]]:
        collector.collect(int(time.time() * 1000))
        with contextlib.closing(LogStore(home)) as store:
            return store.query(
                "SELECT message, request, copy, revision FROM entries WHERE copy IS NOT NULL",
                category=Category.PREDICT,
                deployments=[spec.deployment_id],
                time_from_ms=0,
                time_to_ms=2**53,
            ).rows

    found = wait_until(lambda: entries() or None)
    assert [message for message, *_ in sorted(found)] == [
        "an end without a line's end",
        "asked {'x': 1}",
    ]
    assert {revision for *_, revision in found} == {"r1"}
    wait_until(lambda: entries() and not list(home.instance_logs.glob("*.copy-*.log")))
    assert (home.instance_logs / f"{spec.id}.log").stat().st_size > 0, "people may still look"


def test_copies_serve_on_without_their_keeper_and_are_ended_by_a_stop(
    engines: EngineBench,
) -> None:
    spec = engines.spec()
    status = engines.ready(spec)
    os.kill(status.pid, signal.SIGKILL)
    degraded = engines.phase(spec.id, InstancePhase.DEGRADED)
    assert degraded.copies_ready == 2
    assert "signal 9" in degraded.reason
    assert predict(degraded.socket)["prediction"] == {"x": 1}
    engines.engine.start(spec)
    assert engines.engine.inspect(spec.id).phase is InstancePhase.DEGRADED, "it still serves"
    engines.engine.stop(spec.id)
    assert engines.engine.inspect(spec.id).phase is InstancePhase.GONE
    assert len(engines.supervised.leftovers()) == 1


def test_a_keeper_of_another_protocol_serves_until_it_is_replaced(engines: EngineBench) -> None:
    spec = engines.spec()
    ready = engines.ready(spec)
    places = engines.home.instances / spec.id
    speak_another_protocol(places / "spec.json")
    serving = engines.engine.inspect(spec.id)
    assert (serving.phase, serving.copies_ready) == (InstancePhase.DEGRADED, 2)
    assert "earlier version" in serving.reason
    assert predict(serving.socket)["prediction"] == {"x": 1}
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


def test_instances_serve_and_are_known_after_the_supervisors_death(engines: EngineBench) -> None:
    spec = engines.spec()
    before = engines.ready(spec)
    engines.supervised.crash()
    with pytest.raises(EngineFault, match="havre up"):
        engines.engine.inspect(spec.id)
    assert predict(before.socket)["prediction"] == {"x": 1}
    engines.supervised.launch()
    after = engines.engine.inspect(spec.id)
    assert (after.phase, after.pid, after.copies_ready) == (InstancePhase.READY, before.pid, 2)
    engines.engine.stop(spec.id)
    assert not runs(before.pid)


@pytest.mark.parametrize(
    "score", [ECHO, "import time\ntime.sleep(600)\n"], ids=["ready", "loading"]
)
def test_what_ended_while_nobody_watched_is_gone_and_not_failed(
    engines: EngineBench, score: str
) -> None:
    """As when the machine goes down: a change that was under way must not fail for it."""
    spec = engines.spec(score)
    engines.engine.start(spec)
    if score == ECHO:
        engines.ready(spec)
    engines.supervised.crash()
    for pid in engines.supervised.leftovers():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: engines.supervised.leftovers() == [])
    engines.supervised.launch()
    gone = engines.phase(spec.id, InstancePhase.GONE)
    assert "nobody watched" in gone.reason
    assert engines.ready(engines.spec()).phase is InstancePhase.READY, "it is started anew"


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
    engines: EngineBench, score: str, reason: str
) -> None:
    spec = engines.spec(score + ECHO)
    engines.engine.start(spec)
    assert re.search(reason, engines.phase(spec.id, InstancePhase.FAILED).reason)


def test_a_model_that_hangs_in_c_is_ended_and_its_reason_kept(engines: EngineBench) -> None:
    # With the signal blocked, the keeper's own alarm never comes: as in a loop of C code.
    score = (
        "import signal, time\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
        "time.sleep(600)\n"
    )
    spec = replace(engines.spec(score + ECHO), start_timeout_s=0.2)
    engines.engine.start(spec)
    assert "0.2 s" in engines.phase(spec.id, InstancePhase.FAILED).reason
    assert len(engines.supervised.leftovers()) == 1
    assert "0.2 s" in engines.engine.inspect(spec.id).reason
    assert [row.phase for row in engines.engine.instances()] == [InstancePhase.FAILED]
    engines.engine.stop(spec.id)
    assert engines.engine.instances() == []


def test_a_keeper_that_does_not_answer_is_judged_by_its_last_word(engines: EngineBench) -> None:
    spec = engines.spec()
    status = engines.ready(spec)
    os.kill(status.pid, signal.SIGSTOP)
    try:
        seen = engines.engine.inspect(spec.id)
        assert (seen.phase, seen.is_silent) == (InstancePhase.READY, True)
    finally:
        os.kill(status.pid, signal.SIGCONT)
    assert not engines.engine.inspect(spec.id).is_silent


def test_what_a_crash_between_folder_and_process_left_is_listed_and_removed(
    engines: EngineBench,
) -> None:
    folder = engines.home.instances / "leftleftleft"
    (folder / "tmp").mkdir(parents=True)
    assert [(row.id, row.phase) for row in engines.engine.instances()] == [
        ("leftleftleft", InstancePhase.GONE)
    ]
    engines.engine.stop("leftleftleft")
    assert engines.engine.instances() == []


def test_a_disk_that_takes_nothing_is_an_engine_fault(engines: EngineBench) -> None:
    spec = engines.spec()
    (engines.home.logs / "instances").write_text("a file where the folder should be")
    with pytest.raises(EngineFault, match="cannot be prepared"):
        engines.engine.start(spec)
    assert engines.engine.inspect(spec.id).phase is InstancePhase.GONE


def test_an_interpreter_that_is_not_there_is_named(engines: EngineBench) -> None:
    spec = replace(engines.spec(), interpreter=Path("/no/such/python"))
    with pytest.raises(EngineFault, match="/no/such/python"):
        engines.engine.start(spec)


def test_changes_name_the_instance_that_died(engines: EngineBench) -> None:
    spec = engines.spec()
    status = engines.ready(spec)
    changes = engines.engine.changes()
    assert next(changes) == spec.id, "what is there is told first"
    os.kill(status.pid, signal.SIGKILL)
    assert next(changes) == spec.id
    assert engines.engine.inspect(spec.id).phase is InstancePhase.DEGRADED
