"""The scripts of the fake engine: what the tests of others lean on."""

from dataclasses import replace
from pathlib import Path

import pytest

from havre.domain.errors import EngineFault
from havre.domain.instance import InstanceSpec
from havre.domain.states import InstancePhase
from havre.domain.workload import PythonWorkload
from havre.engines.base import Engine
from havre.engines.fake import FakeEngine, Script


def instance(instance_id: str = "aaaaaaaaaaaa", revision: str = "r1") -> InstanceSpec:
    return InstanceSpec(
        id=instance_id,
        deployment_id="ocid1.datasciencemodeldeployment.oc1.iad.x",
        revision=revision,
        workload=PythonWorkload(Path("/python"), "3.11.7", Path("/artifact")),
        copies=2,
        cpus=2.0,
        memory_bytes=1,
        variables={},
        start_timeout_s=30.0,
    )


@pytest.mark.parametrize(
    ("script", "phases"),
    [
        (Script(), {0: "READY", 100: "READY"}),
        (Script(ready_after_s=5), {0: "STARTING", 4.9: "STARTING", 5: "READY"}),
        (Script(ready_after_s=None), {0: "STARTING", 30: "STARTING", 31: "FAILED"}),
        (Script(ready_after_s=2, fails_with="no model.pkl"), {1: "STARTING", 2: "FAILED"}),
        (Script(dies_after_s=9), {8: "READY", 9: "FAILED"}),
        (Script(degrades_after_s=3, dies_after_s=6), {2: "READY", 3: "DEGRADED", 6: "FAILED"}),
    ],
)
def test_an_instance_follows_its_script(script: Script, phases: dict[float, str]) -> None:
    engine = FakeEngine()
    engine.script("r1", script)
    engine.start(instance())
    for at, phase in phases.items():
        engine.advance(at - engine.now)
        assert engine.inspect("aaaaaaaaaaaa").phase == phase, at


def test_a_fake_instance_is_ready_when_its_copies_have_lived() -> None:
    engine = FakeEngine()
    engine.script("r1", Script(ready_after_s=5))
    engine.script("r2", Script(ready_after_s=5, dies_after_s=6, dies_of="a flaw"))
    for name, revision in (("aaaaaaaaaaaa", "r1"), ("bbbbbbbbbbbb", "r2")):
        engine.start(replace(instance(name, revision), min_ready_s=1.5))
    engine.advance(6.4)
    assert engine.inspect("aaaaaaaaaaaa").phase is InstancePhase.STARTING
    assert engine.inspect("bbbbbbbbbbbb").reason == "a flaw"
    engine.advance(0.1)
    assert engine.inspect("aaaaaaaaaaaa").phase is InstancePhase.READY


def test_copies_are_busy_until_told_otherwise() -> None:
    engine = FakeEngine()
    engine.start(instance())
    engine.occupy("aaaaaaaaaaaa", 2)
    engine.advance(60)
    assert engine.inspect("aaaaaaaaaaaa").copies_busy == 2
    engine.occupy("aaaaaaaaaaaa", 0)
    assert engine.inspect("aaaaaaaaaaaa").copies_busy == 0


def test_an_instances_own_script_wins_over_its_revisions() -> None:
    engine = FakeEngine()
    engine.script("r1", Script(ready_after_s=None))
    engine.script("bbbbbbbbbbbb", Script(start_fault="the disk is full"))
    with pytest.raises(EngineFault, match="the disk is full"):
        engine.start(instance("bbbbbbbbbbbb"))
    assert engine.inspect("bbbbbbbbbbbb").phase is InstancePhase.GONE


def test_a_broken_engine_knows_nothing_and_does_nothing() -> None:
    engine = FakeEngine()
    asked: Engine = engine
    asked.start(instance())
    with engine.break_engine("gone for lunch"):
        for call in (asked.inspect, asked.stop):
            with pytest.raises(EngineFault, match="gone for lunch"):
                call("aaaaaaaaaaaa")
        with pytest.raises(EngineFault, match="gone for lunch"):
            asked.instances()
    assert asked.inspect("aaaaaaaaaaaa").phase is InstancePhase.READY
    assert engine.calls == [("start", "aaaaaaaaaaaa")]
