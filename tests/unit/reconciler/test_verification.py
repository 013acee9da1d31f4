"""A check that nobody wants any more ends, whatever the instance does."""

import pytest
from tests.unit.reconciler.world import SPEC, Inline, World

from havre.domain.errors import EngineFault
from havre.domain.instance import CheckRequest
from havre.domain.rollout.planner_input import Stage
from havre.domain.rollout.policy import Replay
from havre.engines.fake import FakeChannel, Script
from havre.reconciler.snapshot import load
from havre.reconciler.verification import Verifier


@pytest.mark.parametrize("hangs", ["check", "recorded"])
@pytest.mark.parametrize("ends", ["forget", "close"])
def test_a_check_under_way_is_told_that_it_is_called_off(world: World, hangs, ends, monkeypatch):
    world.engine.script(SPEC.revision, Script(sample=CheckRequest(b"1")))
    deployment = world.create()
    world.settle(deployment)
    [instance] = world.running()
    world.update(deployment, tags={"havre-replay": "5"})
    with world.database.read() as session:
        snapshot = load(session, deployment)
    woken = []
    verifier = Verifier(world.engine, world.recorder, woken.append, Inline())
    seen = []

    def hang(*_, should_continue):
        seen.append(should_continue())
        verifier.forget(deployment) if ends == "forget" else verifier.close()
        seen.append(should_continue())
        raise EngineFault("the answer is not wanted any more")

    monkeypatch.setattr(FakeChannel, hangs, hang)
    if hangs == "recorded":
        monkeypatch.setattr(FakeChannel, "sample", lambda _: None)
    verifier.begin(snapshot, instance, [instance], Replay(5))
    if ends == "forget":
        assert seen == [True, False]
        assert verifier.outcome(snapshot).stage is Stage.NONE
    else:
        assert seen[:2] == [True, False]
    assert woken == []
