"""One suite over every engine."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from tests.support.supervisor_harness import SupervisorHarness, model_interpreter

from havre.domain.errors import EngineFault
from havre.domain.instance import CheckRequest, CheckResponse, InstanceSpec, InstanceStatus
from havre.domain.rollout.policy import Capture
from havre.domain.states import InstancePhase
from havre.domain.workload import PythonWorkload
from havre.engines.base import Engine
from havre.engines.fake import FakeEngine, Script, echo
from havre.engines.model_channel import ModelChannel
from havre.engines.process import ProcessEngine

DEPLOYMENT = "ocid1.datasciencemodeldeployment.oc1.iad.contract"


class Harness(Protocol):
    """An engine on the harness, and how to get instances of every kind from it."""

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


def refuses_no(request: CheckRequest) -> CheckResponse:
    return CheckResponse(500, error="no") if request.body == b'"no"' else echo(request)


class FakeHarness:
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
            workload=PythonWorkload(Path("/python"), "3.11.7", Path("/artifact")),
            copies=2,
            cpus=2.0,
            memory_bytes=1 << 30,
            variables={},
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


class ProcessHarness:
    def __init__(self, supervised: SupervisorHarness) -> None:
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
            connected.connect(str(self.engine.inspect(instance_id).address.path))
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
            workload=PythonWorkload(model_interpreter(), "3.11.7", self._root / model),
            copies=2,
            cpus=2.0,
            memory_bytes=1 << 30,
            variables=self._environment,
        )


@pytest.fixture(params=["fake", "process"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    if request.param == "fake":
        yield FakeHarness()
        return
    supervised = SupervisorHarness()
    try:
        yield ProcessHarness(supervised)
    finally:
        supervised.close()


def channel(harness: Harness, instance_id: str) -> ModelChannel:
    channel = harness.engine.channel(instance_id)
    assert channel is not None
    return channel


def wait_for_status(
    harness: Harness, instance_id: str, is_so: Callable[[InstanceStatus], bool]
) -> InstanceStatus:
    """A keeper that a busy machine keeps from answering in a second has said what it said last."""
    deadline = time.monotonic() + 30
    while not is_so(status := harness.engine.inspect(instance_id)):
        assert time.monotonic() < deadline, status
        harness.pass_time()
    return status


def wait_for(harness: Harness, instance_id: str, *phases: InstancePhase) -> InstanceStatus:
    return wait_for_status(harness, instance_id, lambda status: status.phase in phases)


def wait_for_copies(harness: Harness, instance_id: str, copies: int) -> InstanceStatus:
    return wait_for_status(harness, instance_id, lambda status: status.copies_ready == copies)


def test_an_id_never_started_is_gone(harness: Harness) -> None:
    status = harness.engine.inspect("neverstarted")
    assert (status.id, status.phase, status.pid) == ("neverstarted", InstancePhase.GONE, 0)
    assert harness.engine.instances() == []


def test_an_instance_starts_serves_and_stops(harness: Harness) -> None:
    spec = harness.good("goodgoodgood")
    harness.engine.start(spec)
    assert harness.engine.inspect(spec.id).phase is not InstancePhase.GONE
    status = wait_for(harness, spec.id, InstancePhase.READY, InstancePhase.FAILED)
    assert status.phase is InstancePhase.READY, status.reason
    status = wait_for_copies(harness, spec.id, 2)
    assert (status.deployment_id, status.revision) == (DEPLOYMENT, spec.revision)
    assert (status.copies, status.copies_ready, status.copies_busy) == (2, 2, 0)
    assert status.pid > 0
    assert [(row.id, row.phase) for row in harness.engine.instances()] == [
        (spec.id, InstancePhase.READY)
    ]
    harness.engine.stop(spec.id)
    assert harness.engine.inspect(spec.id).phase is InstancePhase.GONE
    assert harness.engine.instances() == []


def test_starting_twice_changes_nothing(harness: Harness) -> None:
    spec = harness.good("twicetwiceaa")
    harness.engine.start(spec)
    first = wait_for(harness, spec.id, InstancePhase.READY)
    harness.engine.start(spec)
    again = harness.engine.inspect(spec.id)
    assert (again.pid, again.phase) == (first.pid, InstancePhase.READY)


def test_a_model_that_does_not_load_fails_with_its_reason(harness: Harness) -> None:
    spec = harness.failing("failingaaaaa")
    harness.engine.start(spec)
    status = wait_for(harness, spec.id, InstancePhase.FAILED, InstancePhase.READY)
    assert status.phase is InstancePhase.FAILED
    assert "no such model" in status.reason
    assert status.copies_ready == 0
    assert [row.id for row in harness.engine.instances()] == [spec.id], "failed ones are leftovers"


def test_a_failed_instance_can_be_started_again(harness: Harness) -> None:
    spec = harness.failing("afreshafresh")
    harness.engine.start(spec)
    wait_for(harness, spec.id, InstancePhase.FAILED)
    harness.engine.start(harness.good(spec.id))
    wait_for(harness, spec.id, InstancePhase.READY)
    wait_for_copies(harness, spec.id, 2)


def test_a_stopped_instance_can_be_started_again(harness: Harness) -> None:
    spec = harness.good("stoppedagain")
    harness.engine.start(spec)
    wait_for(harness, spec.id, InstancePhase.READY)
    harness.engine.stop(spec.id)
    harness.engine.start(spec)
    wait_for(harness, spec.id, InstancePhase.READY)


def test_an_instance_that_never_loads_fails_at_its_time_limit(harness: Harness) -> None:
    spec = replace(harness.stuck("stuckstuckaa"), start_timeout_s=0.5)
    harness.engine.start(spec)
    status = wait_for(harness, spec.id, InstancePhase.FAILED)
    assert "0.5 s" in status.reason


def test_an_instance_can_be_stopped_while_it_loads(harness: Harness) -> None:
    spec = harness.stuck("stopsloading")
    harness.engine.start(spec)
    assert harness.engine.inspect(spec.id).phase is InstancePhase.STARTING
    harness.engine.stop(spec.id)
    assert harness.engine.inspect(spec.id).phase is InstancePhase.GONE


def test_without_its_keeper_an_instance_serves_on(harness: Harness) -> None:
    spec = harness.good("releasedaaaa")
    harness.engine.start(spec)
    wait_for(harness, spec.id, InstancePhase.READY)
    wait_for_copies(harness, spec.id, 2)
    channel(harness, spec.id).end_keeper()
    status = wait_for(harness, spec.id, InstancePhase.DEGRADED)
    assert (status.copies_ready, status.is_silent) == (2, False)
    assert "keeper" in status.reason
    assert harness.predict(spec.id, b"[1]") == 200
    channel(harness, spec.id).end_keeper()
    channel(harness, "neverstarted").end_keeper()
    harness.engine.stop(spec.id)


def test_stopping_the_unknown_is_fine(harness: Harness) -> None:
    harness.engine.stop("neverstarted")
    harness.engine.stop("neverstarted")


def test_an_idle_instance_has_nothing_busy(harness: Harness) -> None:
    spec = harness.good("idlesidlesid")
    harness.engine.start(spec)
    wait_for(harness, spec.id, InstancePhase.READY)
    assert harness.engine.inspect(spec.id).copies_busy == 0


def test_a_check_asks_the_model_and_counts_nothing(harness: Harness) -> None:
    spec = harness.picky("checkscheck1")
    harness.engine.start(spec)
    wait_for_copies(harness, spec.id, 2)
    bodies = [b"1", b'"no"', b'{"x": [2]}']
    answers = list(channel(harness, spec.id).check([CheckRequest(body) for body in bodies]))
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert json.loads(answers[2].body) == {"prediction": {"x": [2]}}
    assert answers[2].content_type == "application/json"
    assert 0 < answers[2].took_s < 30
    assert list(channel(harness, spec.id).check([])) == []
    status = harness.engine.inspect(spec.id)
    assert (status.answered, status.failed, status.latency.count) == (0, 0, 0)


def test_many_and_large_checks_come_back_in_order(harness: Harness) -> None:
    spec = harness.good("checkscheck2")
    harness.engine.start(spec)
    wait_for_copies(harness, spec.id, 2)
    sizes = [*range(150), 9_000_000, 5_000_000, 7]
    requests = [CheckRequest(b'"%s"' % (b"x" * size)) for size in sizes]
    answers = list(channel(harness, spec.id).check(requests))
    assert [len(json.loads(answer.body)["prediction"]) for answer in answers] == sizes


def test_the_sample_is_what_came_with_the_artifact(harness: Harness) -> None:
    for spec, sample in (
        (harness.picky("samplesample"), CheckRequest(b"[1, 2]")),
        (harness.good("nosamplehere"), None),
    ):
        harness.engine.start(spec)
        wait_for(harness, spec.id, InstancePhase.READY)
        assert channel(harness, spec.id).sample() == sample


def test_live_requests_are_counted_and_kept_if_wanted(harness: Harness) -> None:
    spec = harness.picky("recordrecord")
    harness.engine.start(spec)
    wait_for_copies(harness, spec.id, 2)
    assert harness.predict(spec.id, b"0") == 200
    assert channel(harness, spec.id).recorded(10) == []
    channel(harness, spec.id).record(3)
    wait_for_status(harness, spec.id, lambda status: status.recording == 3)
    for body in (b"1", b"2", b'"no"', b"3"):
        harness.predict(spec.id, body)
    wanted = [(b"2", 200), (b'"no"', 500), (b"3", 200)]
    deadline = time.monotonic() + 30
    while [(kept.body, kept.status) for kept in channel(harness, spec.id).recorded(10)] != wanted:
        assert time.monotonic() < deadline
        harness.pass_time()
    last = channel(harness, spec.id).recorded(10)[-1]
    assert json.loads(last.response) == {"prediction": 3}
    assert (last.content_type, last.took_s > 0) == ("application/json", True)
    status = wait_for_status(harness, spec.id, lambda status: status.answered == 5)
    assert (status.failed, status.latency.count) == (1, 4)
    assert 0 < status.latency.quantile(0.5) < 30
    channel(harness, spec.id).record(0)
    assert channel(harness, spec.id).recorded(10) == []
    for wanted in (Capture(12.5, ("name", "e-mail")), Capture()):
        channel(harness, spec.id).capture(wanted)
        wait_for_status(harness, spec.id, lambda status, wanted=wanted: status.capture == wanted)


def test_what_is_not_ready_cannot_be_asked(harness: Harness) -> None:
    spec = harness.stuck("notreadyatal")
    harness.engine.start(spec)
    for instance_id in (spec.id, "neverstarted"):
        for ask in (
            lambda asked: list(channel(harness, asked).check([CheckRequest(b"1")])),
            lambda asked: channel(harness, asked).sample(),
            lambda asked: channel(harness, asked).record(5),
            lambda asked: channel(harness, asked).recorded(5),
            lambda asked: channel(harness, asked).capture(Capture(5.0)),
        ):
            with pytest.raises(EngineFault, match=instance_id):
                ask(instance_id)


def test_instances_do_not_touch_each_other(harness: Harness) -> None:
    for instance_id in ("firstfirstaa", "secondsecond"):
        harness.engine.start(harness.good(instance_id))
    for instance_id in ("firstfirstaa", "secondsecond"):
        wait_for(harness, instance_id, InstancePhase.READY)
    harness.engine.stop("firstfirstaa")
    assert harness.engine.inspect("secondsecond").phase is InstancePhase.READY
    assert [row.id for row in harness.engine.instances()] == ["secondsecond"]
