"""One suite over every engine."""

import http.client
import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from tests.supervisor_bench import SupervisorBench

from havre.domain.errors import EngineFault
from havre.domain.instance import CheckAnswer, CheckRequest, InstanceSpec, InstanceStatus
from havre.domain.policy import Capture
from havre.domain.states import InstancePhase
from havre.engines.base import Engine
from havre.engines.fake import FakeEngine, Script, echo
from havre.engines.process import ProcessEngine

DEPLOYMENT = "ocid1.datasciencemodeldeployment.oc1.iad.contract"


class Bench(Protocol):
    """An engine on the bench, and how to get instances of every kind from it."""

    engine: Engine

    def good(self, instance_id: str) -> InstanceSpec: ...

    def failing(self, instance_id: str) -> InstanceSpec:
        """Its model fails to load with a reason that contains "no such model"."""

    def stuck(self, instance_id: str) -> InstanceSpec:
        """Its model never finishes loading."""

    def picky(self, instance_id: str) -> InstanceSpec:
        """Its model raises at the text "no", and its artifact has the sample ``[1, 2]``."""

    def predict(self, instance_id: str, body: bytes) -> int:
        """A live request; the status of its answer."""

    def pass_time(self) -> None: ...


def refuses_no(request: CheckRequest) -> CheckAnswer:
    return CheckAnswer(500, error="no") if request.body == b'"no"' else echo(request)


class FakeBench:
    def __init__(self) -> None:
        self._fake = FakeEngine()
        self._fake.script("slow", Script(ready_after_s=0.2))
        self._fake.script("failing", Script(ready_after_s=0.2, fails_with="no such model"))
        self._fake.script("stuck", Script(ready_after_s=None))
        self._fake.script("picky", Script(model=refuses_no, sample=CheckRequest(b"[1, 2]")))
        self.engine: Engine = self._fake

    def good(self, instance_id: str) -> InstanceSpec:
        return self._spec(instance_id, "slow")

    def failing(self, instance_id: str) -> InstanceSpec:
        return self._spec(instance_id, "failing")

    def stuck(self, instance_id: str) -> InstanceSpec:
        return self._spec(instance_id, "stuck")

    def picky(self, instance_id: str) -> InstanceSpec:
        return self._spec(instance_id, "picky")

    def predict(self, instance_id: str, body: bytes) -> int:
        return self._fake.predict(instance_id, CheckRequest(body)).status

    def pass_time(self) -> None:
        self._fake.advance(0.1)

    def _spec(self, instance_id: str, revision: str) -> InstanceSpec:
        return InstanceSpec(
            id=instance_id,
            deployment_id=DEPLOYMENT,
            revision=revision,
            artifact=Path("/artifact"),
            interpreter=Path("/python"),
            copies=2,
            cpus=2.0,
            memory_bytes=1 << 30,
            environment={},
        )


SCORES = {
    "good": "def load_model():\n    return 1\n",
    "failing": "def load_model():\n    raise RuntimeError('no such model')\n",
    "picky": "def load_model():\n    return 1\n",
    "stuck": "import time\ndef load_model():\n    time.sleep(600)\n",
}
PREDICT = """
def predict(data, model=load_model()):
    if data == "no":
        raise ValueError(data)
    return {"prediction": data}
"""


class ProcessBench:
    def __init__(self, supervised: SupervisorBench) -> None:
        supervised.launch()
        self._root = supervised.home.root / "models"
        self._environment = {"HAVRE_TEST_HOME": str(supervised.home.root), "PATH": "/usr/bin:/bin"}
        for name, code in SCORES.items():
            (self._root / name).mkdir(parents=True)
            (self._root / name / "score.py").write_text(code + PREDICT)
        (self._root / "picky" / "test_input.json").write_text("[1, 2]")
        self.engine: Engine = ProcessEngine(supervised.home, supervised.client)

    def good(self, instance_id: str) -> InstanceSpec:
        return self._spec(instance_id, "good")

    def failing(self, instance_id: str) -> InstanceSpec:
        return self._spec(instance_id, "failing")

    def stuck(self, instance_id: str) -> InstanceSpec:
        return self._spec(instance_id, "stuck")

    def picky(self, instance_id: str) -> InstanceSpec:
        return self._spec(instance_id, "picky")

    def predict(self, instance_id: str, body: bytes) -> int:
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(str(self.engine.inspect(instance_id).socket))
            connected.settimeout(30)
            connection = http.client.HTTPConnection("localhost")
            connection.sock = connected
            connection.request("POST", "/predict", body, {"content-type": "application/json"})
            return connection.getresponse().status

    def pass_time(self) -> None:
        time.sleep(0.02)

    def _spec(self, instance_id: str, model: str) -> InstanceSpec:
        return InstanceSpec(
            id=instance_id,
            deployment_id=DEPLOYMENT,
            revision=model,
            artifact=self._root / model,
            interpreter=Path(sys.executable),
            copies=2,
            cpus=2.0,
            memory_bytes=1 << 30,
            environment=self._environment,
        )


@pytest.fixture(params=["fake", "process"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "fake":
        yield FakeBench()
        return
    supervised = SupervisorBench()
    try:
        yield ProcessBench(supervised)
    finally:
        supervised.close()


def wait_for(bench: Bench, instance_id: str, *phases: InstancePhase) -> InstanceStatus:
    deadline = time.monotonic() + 30
    while (status := bench.engine.inspect(instance_id)).phase not in phases:
        assert time.monotonic() < deadline, status
        bench.pass_time()
    return status


def wait_for_copies(bench: Bench, instance_id: str, copies: int) -> InstanceStatus:
    deadline = time.monotonic() + 30
    while (status := bench.engine.inspect(instance_id)).copies_ready != copies:
        assert time.monotonic() < deadline, status
        bench.pass_time()
    return status


def test_an_id_never_started_is_gone(bench: Bench) -> None:
    status = bench.engine.inspect("neverstarted")
    assert (status.id, status.phase, status.pid) == ("neverstarted", InstancePhase.GONE, 0)
    assert bench.engine.instances() == []


def test_an_instance_starts_serves_and_stops(bench: Bench) -> None:
    spec = bench.good("goodgoodgood")
    bench.engine.start(spec)
    assert bench.engine.inspect(spec.id).phase is not InstancePhase.GONE
    status = wait_for(bench, spec.id, InstancePhase.READY, InstancePhase.FAILED)
    assert status.phase is InstancePhase.READY, status.reason
    status = wait_for_copies(bench, spec.id, 2)
    assert (status.deployment_id, status.revision) == (DEPLOYMENT, spec.revision)
    assert (status.copies, status.copies_ready, status.copies_busy) == (2, 2, 0)
    assert status.pid > 0
    assert [(row.id, row.phase) for row in bench.engine.instances()] == [
        (spec.id, InstancePhase.READY)
    ]
    bench.engine.stop(spec.id)
    assert bench.engine.inspect(spec.id).phase is InstancePhase.GONE
    assert bench.engine.instances() == []


def test_starting_twice_changes_nothing(bench: Bench) -> None:
    spec = bench.good("twicetwiceaa")
    bench.engine.start(spec)
    first = wait_for(bench, spec.id, InstancePhase.READY)
    bench.engine.start(spec)
    again = bench.engine.inspect(spec.id)
    assert (again.pid, again.phase) == (first.pid, InstancePhase.READY)


def test_a_model_that_does_not_load_fails_with_its_reason(bench: Bench) -> None:
    spec = bench.failing("failingaaaaa")
    bench.engine.start(spec)
    status = wait_for(bench, spec.id, InstancePhase.FAILED, InstancePhase.READY)
    assert status.phase is InstancePhase.FAILED
    assert "no such model" in status.reason
    assert status.copies_ready == 0
    assert [row.id for row in bench.engine.instances()] == [spec.id], "failed ones are leftovers"


def test_one_that_failed_starts_afresh(bench: Bench) -> None:
    spec = bench.failing("afreshafresh")
    bench.engine.start(spec)
    wait_for(bench, spec.id, InstancePhase.FAILED)
    bench.engine.start(bench.good(spec.id))
    wait_for(bench, spec.id, InstancePhase.READY)
    wait_for_copies(bench, spec.id, 2)


def test_one_that_was_stopped_starts_afresh(bench: Bench) -> None:
    spec = bench.good("stoppedagain")
    bench.engine.start(spec)
    wait_for(bench, spec.id, InstancePhase.READY)
    bench.engine.stop(spec.id)
    bench.engine.start(spec)
    wait_for(bench, spec.id, InstancePhase.READY)


def test_one_that_loads_for_ever_fails_at_its_time_limit(bench: Bench) -> None:
    spec = replace(bench.stuck("stuckstuckaa"), start_timeout_s=0.5)
    bench.engine.start(spec)
    assert bench.engine.inspect(spec.id).phase is InstancePhase.STARTING
    status = wait_for(bench, spec.id, InstancePhase.FAILED)
    assert "0.5 s" in status.reason


def test_one_can_be_stopped_while_it_loads(bench: Bench) -> None:
    spec = bench.stuck("stopsloading")
    bench.engine.start(spec)
    bench.engine.stop(spec.id)
    assert bench.engine.inspect(spec.id).phase is InstancePhase.GONE


def test_stopping_the_unknown_is_fine(bench: Bench) -> None:
    bench.engine.stop("neverstarted")
    bench.engine.stop("neverstarted")


def test_an_idle_instance_has_nothing_busy(bench: Bench) -> None:
    spec = bench.good("idlesidlesid")
    bench.engine.start(spec)
    wait_for(bench, spec.id, InstancePhase.READY)
    assert bench.engine.inspect(spec.id).copies_busy == 0


def test_a_check_asks_the_model_and_counts_nothing(bench: Bench) -> None:
    spec = bench.picky("checkscheck1")
    bench.engine.start(spec)
    wait_for_copies(bench, spec.id, 2)
    bodies = [b"1", b'"no"', b'{"x": [2]}']
    answers = bench.engine.check(spec.id, [CheckRequest(body) for body in bodies])
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert json.loads(answers[2].body) == {"prediction": {"x": [2]}}
    assert answers[2].content_type == "application/json"
    assert 0 < answers[2].took_s < 5
    assert bench.engine.check(spec.id, []) == []
    status = bench.engine.inspect(spec.id)
    assert (status.answered, status.failed, status.latency.count) == (0, 0, 0)


def test_many_and_large_checks_come_back_in_order(bench: Bench) -> None:
    spec = bench.good("checkscheck2")
    bench.engine.start(spec)
    wait_for_copies(bench, spec.id, 2)
    sizes = [*range(150), 9_000_000, 5_000_000, 7]
    requests = [CheckRequest(b'"%s"' % (b"x" * size)) for size in sizes]
    answers = bench.engine.check(spec.id, requests)
    assert [len(json.loads(answer.body)["prediction"]) for answer in answers] == sizes


def test_the_sample_is_what_came_with_the_artifact(bench: Bench) -> None:
    for spec, sample in (
        (bench.picky("samplesample"), CheckRequest(b"[1, 2]")),
        (bench.good("nosamplehere"), None),
    ):
        bench.engine.start(spec)
        wait_for(bench, spec.id, InstancePhase.READY)
        assert bench.engine.sample(spec.id) == sample


def test_live_requests_are_counted_and_kept_if_wanted(bench: Bench) -> None:
    spec = bench.picky("recordrecord")
    bench.engine.start(spec)
    wait_for_copies(bench, spec.id, 2)
    assert bench.predict(spec.id, b"0") == 200
    assert bench.engine.recorded(spec.id) == []
    bench.engine.record(spec.id, 3)
    assert bench.engine.inspect(spec.id).recording == 3
    for body in (b"1", b"2", b'"no"', b"3"):
        bench.predict(spec.id, body)
    wanted = [(b"2", 200), (b'"no"', 500), (b"3", 200)]
    deadline = time.monotonic() + 30
    while [(kept.body, kept.status) for kept in bench.engine.recorded(spec.id)] != wanted:
        assert time.monotonic() < deadline
        bench.pass_time()
    last = bench.engine.recorded(spec.id)[-1]
    assert json.loads(last.answer) == {"prediction": 3}
    assert (last.content_type, last.took_s > 0) == ("application/json", True)
    status = bench.engine.inspect(spec.id)
    assert (status.answered, status.failed, status.latency.count) == (5, 1, 4)
    assert 0 < status.latency.quantile(0.5) < 5
    bench.engine.record(spec.id, 0)
    assert bench.engine.recorded(spec.id) == []
    for wanted in (Capture(12.5, ("name", "e-mail")), Capture()):
        bench.engine.capture(spec.id, wanted)
        assert bench.engine.inspect(spec.id).capture == wanted


def test_what_is_not_ready_cannot_be_asked(bench: Bench) -> None:
    spec = bench.stuck("notreadyatal")
    bench.engine.start(spec)
    for instance_id in (spec.id, "neverstarted"):
        for ask in (
            lambda asked: bench.engine.check(asked, [CheckRequest(b"1")]),
            bench.engine.sample,
            lambda asked: bench.engine.record(asked, 5),
            bench.engine.recorded,
            lambda asked: bench.engine.capture(asked, Capture(5.0)),
        ):
            with pytest.raises(EngineFault, match=instance_id):
                ask(instance_id)


def test_instances_do_not_touch_each_other(bench: Bench) -> None:
    for instance_id in ("firstfirstaa", "secondsecond"):
        bench.engine.start(bench.good(instance_id))
    for instance_id in ("firstfirstaa", "secondsecond"):
        wait_for(bench, instance_id, InstancePhase.READY)
    bench.engine.stop("firstfirstaa")
    assert bench.engine.inspect("secondsecond").phase is InstancePhase.READY
    assert [row.id for row in bench.engine.instances()] == ["secondsecond"]
