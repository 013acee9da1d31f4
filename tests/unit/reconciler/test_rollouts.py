"""How a revision gets traffic: checked, replayed, in steps; and how a change is called off."""

import json
import re
from dataclasses import replace

import pytest
from tests.support.databases import migrated_sqlite
from tests.unit.reconciler.world import SPEC, World

from havre.domain.deployment import NO_CAP_MBPS
from havre.domain.errors import Conflict, EngineFault, IncorrectState
from havre.domain.instance import CheckRequest, CheckResponse
from havre.domain.rollout.policy import NO_CAPTURE, Capture
from havre.domain.states import DeploymentState as D
from havre.domain.states import WorkRequestState as W
from havre.engines.fake import FakeChannel, Script
from havre.reconciler import verification
from havre.store import intents

JSON = "application/json"
NEW = {"environment_variables": {"A": "1"}}
SAMPLE = CheckRequest(b'{"data": 1}')


def answered(status: int, body: bytes = b"{}", took_s: float = 0.001, error: str = ""):
    return CheckResponse(status, JSON, body, took_s, error)


def new_revision(world: World, **script) -> None:
    world.engine.script(replace(SPEC, **NEW).revision, Script(**script))


def checks(world: World) -> int:
    return sum(verb == "check" for verb, _ in world.engine.calls)


def obey(request: CheckRequest) -> CheckResponse:
    """A model that answers as the request says."""
    told = json.loads(request.body)
    answer = told.get("answer", "{}").encode()
    return answered(told.get("status", 200), answer, told.get("took_s", 0.001))


def ask(world: World, instance: str, *, times: int = 1, **told) -> None:
    world.engine.predict(instance, CheckRequest(json.dumps(told).encode()), times)


def tagged(world: World, **tags: str) -> str:
    """An active deployment with these tags; all its models obey."""
    world.engine.script(SPEC.revision, Script(model=obey))
    new_revision(world, model=obey)
    named = {f"havre-{name}": text for name, text in tags.items()}
    deployment = world.create(tags=named, instance_count=2)
    world.settle(deployment)
    return deployment


# The check.


@pytest.mark.parametrize("operation", ["create", "update"])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (answered(500, b'{"code": "x", "message": "KeyError: iris"}'), "with 500: KeyError: iris"),
        (answered(400, b"no json"), "with 400: no json"),
        (answered(0, error="it took longer than 58 s"), "did not answer .* longer than 58 s"),
    ],
)
def test_a_revision_that_fails_its_own_sample_never_gets_traffic(world, operation, answer, told):
    new_revision(world, sample=SAMPLE, model=lambda _: answer)
    before = set()
    if operation == "create":
        deployment = world.create(**NEW)
    else:
        deployment = world.create()
        world.settle(deployment)
        before = world.running()
        world.update(deployment, **NEW)
    for _ in range(40):
        world.reconciler.reconcile(deployment)
        world.engine.advance(0.3)
        assert world.routed(deployment) == before
    state = D.FAILED if operation == "create" else D.ACTIVE
    assert world.outcome(deployment) == (state, W.FAILED)
    reason = world.row(deployment).lifecycle_details
    assert reason == world.log(deployment)[-1]
    assert re.search(f"the check failed: .*{told}", reason)
    assert world.running() == before


@pytest.mark.parametrize(
    ("mbps", "sample", "told"),
    [
        (10, CheckRequest(b"x" * 625_000), "Mbps lets through about 2 requests a second like the"),
        (10, None, "10 Mbps lets through 1,250,000 bytes of bodies a second"),
        (NO_CAP_MBPS, CheckRequest(b"x" * 625_000), None),
        (NO_CAP_MBPS, None, None),
    ],
)
def test_what_the_bandwidth_means_is_told_once(world, mbps, sample, told):
    world.engine.script(SPEC.revision, Script(sample=sample))
    deployment = world.create(bandwidth_mbps=mbps)
    world.settle(deployment)
    lines = [line for line in world.log(deployment) if "bandwidth" in line]
    assert len(lines) == (told is not None)
    assert told is None or told in lines[0]


def test_what_another_bandwidth_means_is_told_where_nothing_is_checked(world, active):
    for mbps, told in ((20, 1), (20, 0), (NO_CAP_MBPS, 0)):
        world.update(active, bandwidth_mbps=mbps)
        world.settle(active)
        assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
        lines = [line for line in world.log(active) if "bandwidth of 20 Mbps" in line]
        assert len(lines) == told


def test_a_sample_is_asked_once_per_change_and_never_for_repairs(world):
    world.engine.script(SPEC.revision, Script(sample=SAMPLE))
    deployment = world.create(instance_count=2)
    world.settle(deployment)
    assert checks(world) == 1
    assert any("answered the artifact's own sample" in line for line in world.log(deployment))
    world.engine.kill(sorted(world.running())[0])
    world.settle(deployment)
    assert len(world.routed(deployment)) == 2
    world.update(deployment, instance_count=3, bandwidth_mbps=20)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
    assert checks(world) == 1
    # The same revision in a later change is asked anew: the machine is another by then.
    world.ask(deployment, intents.deactivate)
    world.settle(deployment)
    world.ask(deployment, intents.activate, replace(SPEC, instance_count=3))
    world.settle(deployment)
    assert checks(world) == 2


def test_an_instance_that_cannot_be_asked_is_asked_again_a_few_times(world, active, monkeypatch):
    monkeypatch.setattr(verification, "FAULT_PAUSE_S", 0.0)
    new_revision(world, sample=SAMPLE)
    faults = 2

    def check(self, requests, ask=FakeChannel.check, **named):
        nonlocal faults
        faults -= 1
        if faults >= 0:
            raise EngineFault("the keeper does not answer")
        return ask(self, requests, **named)

    monkeypatch.setattr(FakeChannel, "check", check)
    world.update(active, **NEW)
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    faults = 1000
    world.engine.script(SPEC.revision, Script(sample=SAMPLE))
    world.update(active, environment_variables={})
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.FAILED)
    assert "the keeper does not answer" in world.row(active).lifecycle_details


def test_a_revision_whose_model_cannot_be_asked_serves_unchecked(world):
    world.engine.has_channels = False
    deployment = world.create(tags={"havre-replay": "5"})
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
    new_revision(world, sample=SAMPLE)
    world.update(deployment, **NEW)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
    told = "Nothing was checked: its model cannot be asked apart from its traffic."
    assert told in world.log(deployment)
    assert {verb for verb, _ in world.engine.calls} == {"start", "stop"}


# The replay.


def test_live_requests_are_replayed_before_the_switch(world):
    deployment = tagged(world, replay="3")
    one, two = sorted(world.running())
    ask(world, one, times=5, answer='{"a": 1, "b": 2.0}', took_s=0.01)
    ask(world, two, answer="other", took_s=0.01)
    new_revision(world, model=lambda _: answered(200, b'{"b": 2, "a": 1}', took_s=0.02))
    world.update(deployment, **NEW)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
    [line] = [line for line in world.log(deployment) if line.startswith("Replay")]
    assert "2 of 3 responses are equal, 1 differ (the first is request 3)" in line
    assert "median 20 ms, was 10 ms" in line
    assert "other" not in "".join(world.log(deployment))


@pytest.mark.parametrize("limit", ["equal=95%", "slowdown=2"])
def test_a_limit_of_the_replay_stops_the_rollout(world, limit):
    deployment = tagged(world, replay=f"50 {limit}")
    before = world.running()
    for instance in before:
        ask(world, instance, times=10, took_s=0.01)
    is_wrong = limit.startswith("equal")
    answer = answered(200, b"[]" if is_wrong else b"{}", took_s=0.03)
    new_revision(world, model=lambda _: answer)
    world.update(deployment, **NEW)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.FAILED)
    assert "the replay stopped the rollout" in world.row(deployment).lifecycle_details
    assert "of 20 responses are equal" in world.log(deployment)[-1]
    assert world.running() == before == world.routed(deployment)


def test_nothing_recorded_yet_is_told_and_no_obstacle(world):
    deployment = tagged(world, replay="50")
    world.update(deployment, **NEW)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
    assert "Nothing was replayed: no live request is recorded yet." in world.log(deployment)


def test_requests_are_kept_only_while_the_policy_says_so(world, active):
    def kept() -> set[int]:
        return {world.engine._runs[each].recording for each in world.routed(active)}

    assert kept() == {0}
    world.update(active, tags={"havre-replay": "50"})
    world.settle(active)
    assert kept() == {50}
    calls = len(world.engine.calls)
    world.settle(active)
    assert len(world.engine.calls) == calls
    world.restart()
    world.update(active, tags={})
    world.settle(active)
    assert kept() == {0}


def test_requests_are_captured_only_while_the_policy_says_so(world, active):
    def told() -> set[Capture]:
        return {world.engine._runs[each].capture for each in world.routed(active)}

    assert told() == {NO_CAPTURE}
    before = world.running()
    world.update(active, tags={"havre-capture": "5", "havre-capture-redact": "name, email"})
    world.settle(active)
    assert told() == {Capture(5.0, ("name", "email"))}
    calls = len(world.engine.calls)
    world.settle(active)
    assert len(world.engine.calls) == calls
    world.update(active, tags={})
    world.settle(active)
    assert told() == {NO_CAPTURE}
    assert world.running() == before, "it takes no new copies"


def test_the_settings_stand_in_for_tags(tmp_path):
    database = migrated_sqlite(tmp_path / "havre.sqlite3")
    world = World(database, {"HAVRE_ROLLOUT_CANARY": "7%/1s", "HAVRE_ROLLOUT_REPLAY": "9"})
    deployment = world.create()
    world.settle(deployment)
    assert {run.recording for run in world.engine._runs.values()} == {9}
    world.update(deployment, **NEW)
    world.settle(deployment)
    assert any("Canary at 7 %" in line for line in world.log(deployment))
    database.close()


# The canary.


def step_into(world: World, deployment: str, percent: int) -> None:
    for _ in range(60):
        if world.share(deployment) == percent:
            world.reconciler.reconcile(deployment)  # the step has begun
            return
        world.reconciler.reconcile(deployment)
        world.engine.advance(0.3)
    pytest.fail(f"no share of {percent} %: {world.log(deployment)}")


def parts(world: World, deployment: str) -> tuple[list[str], list[str]]:
    serving, canary = world.balancer.current(deployment).parts
    return (
        [each.instance_id for each in serving.endpoints],
        [each.instance_id for each in canary.endpoints],
    )


def test_traffic_goes_over_in_steps_and_each_is_told(world):
    deployment = tagged(world, canary="5%/2s 25%/2s")
    before = world.running()
    world.update(deployment, **NEW)
    step_into(world, deployment, 5)
    serving, canary = parts(world, deployment)
    assert set(serving) == before
    assert len(canary) == 2
    assert world.row(deployment).current_instances == 2
    for each in serving:
        ask(world, each, times=500)
    ask(world, canary[0], times=50)
    percents = {world.work_request(deployment).percent_complete}
    step_into(world, deployment, 25)
    percents.add(world.work_request(deployment).percent_complete)
    ask(world, canary[0], times=19)
    for _ in range(20):
        world.engine.advance(1)
        world.reconciler.reconcile(deployment)
    assert world.share(deployment) == 25
    ask(world, canary[0], times=1)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
    assert world.routed(deployment) == world.running() == set(canary)
    assert len(percents) == 2
    log = "\n".join(world.log(deployment))
    assert "5 % of the requests go to the new revision for 2 s, and until 20 are answered" in log
    assert "Canary at 5 %: new revision 50 requests, 0 failed, median " in log
    assert "old revision 1000 requests" in log
    assert "Canary at 25 %: new revision 20 requests, 0 failed" in log


@pytest.mark.parametrize("how", ["errors", "slow", "hangs", "death"])
def test_a_canary_that_does_worse_is_taken_back_with_the_figures(world, how):
    deployment = tagged(world, canary="5%/30s errors=2%")
    before = world.running()
    for each in before:
        ask(world, each, times=10_000, status=500)  # long before
    world.update(deployment, **NEW)
    step_into(world, deployment, 5)
    serving, canary = parts(world, deployment)
    for each in serving:
        ask(world, each, times=100)
    if how == "errors":
        ask(world, canary[0], times=45)
        ask(world, canary[0], times=5, status=500)
    elif how == "hangs":
        ask(world, canary[0], times=10)
        world.engine.occupy(canary[0], 2)
        world.engine.advance(4)
        world.reconciler.reconcile(deployment)
        assert world.share(deployment) == 5
        world.engine.advance(2)
    elif how == "slow":
        ask(world, canary[0], times=50, took_s=0.5)
    else:
        world.engine.kill(canary[0], "out of memory")
    world.reconciler.reconcile(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.FAILED)
    if how == "hangs":
        world.engine.occupy(canary[0], 0)
    world.settle(deployment)
    reason = world.row(deployment).lifecycle_details
    told = {
        "errors": "10.0% of the new revision's requests failed",
        "slow": "2 times as slow",
        "hangs": "2 of them are still in hand",
    }
    assert told.get(how, "out of memory") in reason
    assert reason == world.log(deployment)[-1]
    assert world.share(deployment) == 0
    assert world.routed(deployment) == world.running() == before


def test_a_restart_in_a_step_holds_the_step_anew(world):
    deployment = tagged(world, canary="5%/10s 25%/10s")
    world.update(deployment, **NEW)
    step_into(world, deployment, 25)
    world.engine.advance(9)
    world.restart()
    world.reconciler.reconcile(deployment)
    world.engine.advance(9)
    world.reconciler.reconcile(deployment)
    assert world.share(deployment) == 25
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)


# Calling off, and changes that meet.


@pytest.mark.parametrize("percent", [5, 25])
def test_canceling_a_canary_puts_everything_back(world, percent):
    deployment = tagged(world, canary="5%/2s 25%/2s")
    before = world.running()
    world.update(deployment, **NEW)
    step_into(world, deployment, percent)
    world.cancel(deployment)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.CANCELED)
    assert world.share(deployment) == 0
    assert world.routed(deployment) == world.running() == world.recorded() == before
    world.update(deployment, **NEW)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)


@pytest.mark.parametrize(
    "change", [{"instance_count": 4}, {"instance_count": 1}, {"bandwidth_mbps": 99}]
)
@pytest.mark.parametrize("passes", range(5))
def test_canceling_other_numbers_goes_back_to_those_that_served(world, active, change, passes):
    before = world.balancer.current(active)
    world.engine.script(SPEC.revision, Script(ready_after_s=1.0))
    world.update(active, **change)
    for _ in range(passes):
        world.reconciler.reconcile(active)
        world.engine.advance(0.2)
    if world.outcome(active)[1] == W.SUCCEEDED:
        with pytest.raises(Conflict):
            world.cancel(active)
        return
    world.cancel(active)
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.CANCELED)
    row = world.row(active)
    assert row.spec == row.serving_spec
    assert row.configuration == row.serving_configuration
    after = world.balancer.current(active)
    assert (len(after.endpoints), after.max_requests, after.bandwidth_mbps) == (
        len(before.endpoints),
        before.max_requests,
        before.bandwidth_mbps,
    )
    assert world.running() == world.recorded() == world.routed(active)


def test_growing_that_fails_goes_back_to_the_number_that_served(world, active):
    before = world.running()
    world.engine.script(SPEC.revision, Script(fails_with="no memory left"))
    world.update(active, instance_count=4)
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.FAILED)
    assert world.row(active).spec == world.row(active).serving_spec
    assert world.running() == world.recorded() == world.routed(active) == before


@pytest.mark.parametrize("operation", ["create", "update", "activate"])
@pytest.mark.parametrize("passes", range(8))
def test_a_change_can_be_called_off_at_every_stage_and_is_never_stuck(world, operation, passes):
    def script(**script):
        for revision in (SPEC.revision, replace(SPEC, **NEW).revision):
            world.engine.script(revision, Script(sample=SAMPLE, **script))

    script()
    if operation == "create":
        deployment = world.create()
    else:
        deployment = world.create()
        world.settle(deployment)
        if operation == "activate":
            world.ask(deployment, intents.deactivate)
            world.settle(deployment)
    script(ready_after_s=0.5)
    if operation == "activate":
        world.ask(deployment, intents.activate, SPEC)
    elif operation == "update":
        world.update(deployment, **NEW)
    for _ in range(passes):
        world.reconciler.reconcile(deployment)
        world.engine.advance(0.2)
    try:
        world.cancel(deployment)
    except Conflict:
        assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
        return
    world.settle(deployment)
    back = {"create": D.FAILED, "update": D.ACTIVE, "activate": D.INACTIVE}[operation]
    # In time, or too late: one or the other, and nothing in between.
    assert world.outcome(deployment) in {(back, W.CANCELED), (D.ACTIVE, W.SUCCEEDED)}
    assert world.routed(deployment) == world.running() == world.recorded()
    assert len(world.running()) == (world.state(deployment) == D.ACTIVE)


def test_changes_that_meet(world, active):
    slow = {"environment_variables": {"S": "1"}}
    world.engine.script(replace(SPEC, **slow).revision, Script(ready_after_s=None))
    creating = world.create(**slow)
    world.settle(creating, passes=5)
    with pytest.raises(IncorrectState):
        world.ask(creating, intents.deactivate)
    world.update(active, **slow)
    world.settle(active, passes=5)
    with pytest.raises(IncorrectState):
        world.update(active, **NEW)
    with pytest.raises(IncorrectState):
        world.ask(active, intents.deactivate)
    for deployment in (creating, active):
        world.ask(deployment, intents.delete)
        world.settle(deployment)
        assert world.outcome(deployment) == (D.DELETED, W.SUCCEEDED)
    assert world.running() == world.recorded() == set()


# Waiting.


def test_a_failing_revision_makes_no_other_wait(world, active):
    world.engine.script(SPEC.revision, Script(fails_with="killed by signal 9"))
    for instance in world.running():
        world.engine.kill(instance)
    world.settle(active, passes=20)
    assert world.state(active) == D.NEEDS_ATTENTION
    since = world.engine.now
    world.update(active, **NEW)
    while world.work_request(active).status != W.SUCCEEDED:
        world.reconciler.reconcile(active)
        world.engine.advance(0.1)
        assert world.engine.now < since + 3


def test_streams_have_longer_than_requests_to_end(world, active):
    held, other = sorted(world.running())
    for instance, streaming in ((held, 1), (other, 0)):
        world.engine.occupy(instance, 1, streaming=streaming)
    world.update(active, **NEW)
    world.settle(active, passes=30)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    assert {held, other} <= world.running()
    world.engine.advance(61)
    world.settle(active, passes=5)
    assert other not in world.running()
    assert held in world.running()
    world.engine.advance(240)
    world.settle(active, passes=5)
    assert held not in world.running()


def test_a_prediction_may_be_repeated_where_its_owner_says_so(world, active):
    before = world.running()
    world.update(active, tags={"havre-idempotent": "true"})
    world.settle(active)
    assert world.balancer.current(active).is_idempotent
    assert world.running() == before
    world.update(active, tags={})
    world.settle(active)
    assert not world.balancer.current(active).is_idempotent
