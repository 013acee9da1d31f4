"""The planner, one step at a time: what it makes of what it sees."""

from bisect import bisect_right
from dataclasses import replace

import pytest
from tests.support.planner_input import DEGRADED, FAILED, GONE, READY, STARTING, route

from havre.domain.latency import BOUNDS_S, BUCKETS, Latency
from havre.domain.rollout.actions import (
    Cancel,
    EndHungKeeper,
    Fail,
    MarkNeedsAttention,
    MarkRecovered,
    Prepare,
    Publish,
    Share,
    Start,
    Stop,
    Succeed,
    Verify,
    Withdraw,
)
from havre.domain.rollout.canary import RequestStats, StepResult
from havre.domain.rollout.planner import SETTLE_S, plan
from havre.domain.rollout.planner_input import (
    Desired,
    DesiredRevision,
    Observed,
    ObservedCanary,
    ObservedInstance,
    ObservedRoute,
    Outcome,
    Stage,
)
from havre.domain.rollout.policy import Canary, Step
from havre.domain.states import InstancePhase

OLD = DesiredRevision("old", instances=2, requests_per_instance=16, bandwidth_mbps=10)
NEW = replace(OLD, revision="new")


def instance(name: str, phase: InstancePhase = READY, **more) -> ObservedInstance:
    return ObservedInstance(name, name.split("-")[0], phase, unrouted_s=SETTLE_S, **more)


def observe(*instances: ObservedInstance, route: ObservedRoute | None = None, **more) -> Observed:
    known = {"preparation": Outcome(Stage.DONE), "verification": Outcome(Stage.DONE)}
    return Observed(instances, route, **{**known, **more})


CREATING = Desired(run=True, target=NEW, changing=True)
UPDATING = Desired(run=True, target=NEW, fallback=OLD, changing=True)
STEADY = Desired(run=True, target=OLD, fallback=OLD)
RESTING = Desired(run=False, target=OLD, changing=True)
GROWING = replace(STEADY, target=replace(OLD, instances=3), changing=True)
WIDER = replace(OLD, bandwidth_mbps=20)
UNKNOWN = Outcome(Stage.NONE)
OLD_PAIR = (instance("old-1"), instance("old-2"))
OLD_ROUTE = route(OLD, "old-1", "old-2")


@pytest.mark.parametrize(
    ("desired", "observed", "actions"),
    [
        (CREATING, Observed(), [Prepare()]),
        (CREATING, Observed(preparation=Outcome(Stage.RUNNING)), []),
        (CREATING, Observed(preparation=Outcome(Stage.FAILED, "no")), [Fail("no")]),
        (CREATING, observe(), [Start("new", 2)]),
        (CREATING, observe(instance("new-1"), instance("new-2", STARTING)), []),
        (
            CREATING,
            observe(instance("new-1"), instance("new-2")),
            [Publish(NEW, ("new-1", "new-2"))],
        ),
        (
            CREATING,
            observe(instance("new-1"), instance("new-2"), route=route(NEW, "new-1", "new-2")),
            [Succeed()],
        ),
        (CREATING, observe(instance("new-1", FAILED, reason="boom")), [Fail("boom")]),
        (replace(CREATING, canceling=True), observe(instance("new-1")), [Cancel()]),
        (UPDATING, observe(*OLD_PAIR, route=OLD_ROUTE), [Start("new", 2)]),
        (
            UPDATING,
            observe(*OLD_PAIR, instance("new-1"), instance("new-2"), route=OLD_ROUTE),
            [Publish(NEW, ("new-1", "new-2"))],
        ),
        # The change is done when the route is switched; the old revision goes when it is drained.
        (
            UPDATING,
            observe(
                replace(OLD_PAIR[0], is_idle=False),
                instance("new-1"),
                instance("new-2"),
                route=route(NEW, "new-1", "new-2"),
            ),
            [Succeed()],
        ),
        (
            replace(STEADY, target=NEW),
            observe(
                OLD_PAIR[0],
                instance("new-1"),
                instance("new-2"),
                route=route(NEW, "new-1", "new-2"),
            ),
            [Stop("old-1", "drained")],
        ),
        # A revision that fails takes nothing from the one that serves.
        (
            UPDATING,
            observe(*OLD_PAIR, instance("new-1"), instance("new-2", FAILED), route=OLD_ROUTE),
            [Fail("an instance did not become ready")],
        ),
        # One that was in the route is repaired, but not without end.
        (
            CREATING,
            observe(
                instance("new-1"),
                instance("new-2", FAILED, reason="boom", is_on_trial=False),
                route=route(NEW, "new-1", "new-2"),
                lost=4,
            ),
            [Start("new", 1), Publish(NEW, ("new-1",))],
        ),
        (
            CREATING,
            observe(instance("new-1"), lost=5, last_failure="boom", route=route(NEW, "new-1")),
            [Fail("boom")],
        ),
        # Nor is it waited for without end.
        (
            CREATING,
            observe(instance("new-1"), instance("new-2", STARTING, reason="slow"), unwell_s=304.9),
            [],
        ),
        (
            CREATING,
            observe(instance("new-1"), instance("new-2", STARTING, reason="slow"), unwell_s=305),
            [Fail("not all instances were ready within 300 s: slow")],
        ),
        # A change has not succeeded with instances that it has brought, and that are in trouble.
        (
            CREATING,
            observe(
                instance("new-1"),
                instance("new-2", is_troubled=True),
                route=route(NEW, "new-1", "new-2"),
            ),
            [],
        ),
        (
            CREATING,
            observe(
                instance("new-1"),
                instance("new-2", is_troubled=True, is_new=False),
                route=route(NEW, "new-1", "new-2"),
            ),
            [Succeed()],
        ),
        (STEADY, observe(*OLD_PAIR, route=OLD_ROUTE), []),
        # A keeper that stands still: without it the copies serve on, and so on as below.
        (
            STEADY,
            observe(OLD_PAIR[0], instance("old-2", DEGRADED, is_hung=True), route=OLD_ROUTE),
            [EndHungKeeper("old-2"), Start("old", 1)],
        ),
        # Repair while serving: out of the route first, then away, and a new one up.
        (
            STEADY,
            observe(OLD_PAIR[0], instance("old-2", FAILED), route=OLD_ROUTE),
            [Start("old", 1), Publish(OLD, ("old-1",))],
        ),
        # A keeper died but its copies answer: replaced first, stopped afterwards.
        (
            STEADY,
            observe(OLD_PAIR[0], instance("old-2", DEGRADED), route=OLD_ROUTE),
            [Start("old", 1)],
        ),
        (
            STEADY,
            observe(OLD_PAIR[0], instance("old-2", DEGRADED), instance("old-3"), route=OLD_ROUTE),
            [Publish(OLD, ("old-1", "old-3"))],
        ),
        (
            STEADY,
            observe(
                instance("old-1", FAILED, reason="out of memory"),
                route=route(OLD),
                backing_off=frozenset({"old"}),
            ),
            [Stop("old-1", "out of memory")],
        ),
        (STEADY, observe(route=route(OLD), backing_off=frozenset({"old"})), None),
        (
            replace(STEADY, needs_attention=True),
            observe(*OLD_PAIR, route=OLD_ROUTE),
            [MarkRecovered()],
        ),
        (RESTING, observe(*OLD_PAIR, route=OLD_ROUTE), [Withdraw()]),
        (
            RESTING,
            observe(OLD_PAIR[0], replace(OLD_PAIR[1], is_idle=False)),
            [Stop("old-1", "drained")],
        ),
        (
            RESTING,
            observe(replace(OLD_PAIR[1], is_idle=False, unrouted_s=61)),
            [Stop("old-2", "not drained in 60 s")],
        ),
        (RESTING, observe(), [Succeed()]),
        (RESTING, observe(OLD_PAIR[0], route=route(OLD)), [Withdraw()]),
        (RESTING, observe(OLD_PAIR[0], is_route_settled=False), [Withdraw()]),
        # What is not confirmed may come late: it is published again before anything is stopped.
        (
            STEADY,
            observe(*OLD_PAIR, instance("new-1"), route=OLD_ROUTE, is_route_settled=False),
            [Publish(OLD, ("old-1", "old-2"))],
        ),
        (
            CREATING,
            observe(
                OLD_PAIR[0],
                instance("new-1", STARTING),
                instance("new-2", STARTING),
                is_route_settled=False,
            ),
            [],
        ),
        # The revision that serves is repaired while the next one comes up.
        (
            UPDATING,
            observe(
                OLD_PAIR[0],
                instance("new-1", STARTING),
                instance("new-2", STARTING),
                route=route(OLD, "old-1"),
            ),
            [Start("old", 1)],
        ),
        (
            UPDATING,
            observe(
                OLD_PAIR[0],
                instance("old-2", FAILED),
                instance("new-1", STARTING),
                instance("new-2", STARTING),
                route=OLD_ROUTE,
                backing_off=frozenset({"old"}),
            ),
            [Publish(OLD, ("old-1",))],
        ),
        (
            UPDATING,
            observe(
                OLD_PAIR[0],
                instance("old-3", STARTING),
                instance("new-1", STARTING),
                instance("new-2", STARTING),
                route=route(OLD, "old-1"),
            ),
            [],
        ),
        (
            replace(STEADY, changing=True),
            observe(OLD_PAIR[0], instance("old-2", FAILED), route=OLD_ROUTE),
            [Start("old", 1), Publish(OLD, ("old-1",))],
        ),
        # Only instances that are whole take traffic over.
        (
            UPDATING,
            observe(*OLD_PAIR, instance("new-1"), instance("new-2", DEGRADED), route=OLD_ROUTE),
            [Start("new", 1)],
        ),
        # What fails without having been started for this change does not condemn it.
        (
            UPDATING,
            observe(
                *OLD_PAIR,
                instance("new-1", FAILED, is_on_trial=False),
                instance("new-2", STARTING),
                instance("new-3", STARTING),
                route=OLD_ROUTE,
            ),
            [Stop("new-1", "it is dead")],
        ),
        # What is in the route is not stopped, whatever its revision.
        (
            STEADY,
            observe(
                instance("old-1", STARTING),
                instance("old-2", STARTING),
                instance("new-1"),
                route=route(NEW, "new-1"),
                backing_off=frozenset({"old"}),
            ),
            None,
        ),
        (
            replace(STEADY, needs_attention=True),
            observe(
                instance("old-1", STARTING),
                instance("old-2", STARTING),
                instance("new-1"),
                route=route(NEW, "new-1"),
            ),
            [],
        ),
        # Called off too late.
        (
            replace(CREATING, canceling=True),
            observe(instance("new-1"), instance("new-2"), route=route(NEW, "new-1", "new-2")),
            [Succeed()],
        ),
        # Growing is done when all of them answer.
        (
            replace(STEADY, changing=True),
            observe(OLD_PAIR[0], instance("old-2", STARTING), route=route(OLD, "old-1")),
            [],
        ),
        # Another length of the queue needs no new instances.
        (
            replace(STEADY, target=replace(OLD, requests_per_instance=32)),
            observe(*OLD_PAIR, route=OLD_ROUTE),
            [Publish(replace(OLD, requests_per_instance=32), ("old-1", "old-2"))],
        ),
        # Those in the route stay in it.
        (
            STEADY,
            observe(*OLD_PAIR, instance("old-3"), route=route(OLD, "old-2", "old-3")),
            [Stop("old-1", "drained")],
        ),
        # Once told, trouble is not told again; it ends when one instance is well.
        (
            replace(STEADY, needs_attention=True),
            observe(instance("old-1", STARTING), instance("old-2", STARTING), route=route(OLD)),
            [],
        ),
        (
            STEADY,
            observe(*(replace(each, is_troubled=True) for each in OLD_PAIR), route=OLD_ROUTE),
            None,
        ),
        (
            STEADY,
            observe(OLD_PAIR[0], replace(OLD_PAIR[1], is_troubled=True), route=OLD_ROUTE),
            [],
        ),
        (
            replace(STEADY, needs_attention=True),
            observe(*(replace(each, is_troubled=True) for each in OLD_PAIR), route=OLD_ROUTE),
            [],
        ),
        # A revision is asked before it gets traffic, as soon as somebody can be.
        (
            UPDATING,
            observe(
                *OLD_PAIR,
                instance("new-2", STARTING),
                instance("new-1"),
                route=OLD_ROUTE,
                verification=Outcome(Stage.NONE),
            ),
            [Verify("new-1")],
        ),
        (
            CREATING,
            observe(instance("new-1"), instance("new-2"), verification=Outcome(Stage.RUNNING)),
            [],
        ),
        (
            UPDATING,
            observe(
                *OLD_PAIR,
                instance("new-1"),
                route=OLD_ROUTE,
                verification=Outcome(Stage.FAILED, "the check failed"),
            ),
            [Fail("the check failed")],
        ),
        # Repairs are not asked.
        (
            STEADY,
            observe(instance("old-1"), instance("old-2"), route=route(OLD), verification=UNKNOWN),
            [Publish(OLD, ("old-1", "old-2"))],
        ),
        (
            STEADY,
            observe(instance("old-1"), instance("old-2"), verification=UNKNOWN),
            [Publish(OLD, ("old-1", "old-2"))],
        ),
        # A failing revision makes no other wait.
        (
            UPDATING,
            observe(*OLD_PAIR, route=OLD_ROUTE, backing_off=frozenset({"old"})),
            [Start("new", 2)],
        ),
        # Growing, shrinking and other numbers are called off until they are done.
        (
            replace(GROWING, canceling=True),
            observe(*OLD_PAIR, instance("old-3", STARTING), route=OLD_ROUTE),
            [Cancel()],
        ),
        (
            replace(STEADY, target=WIDER, changing=True, canceling=True),
            observe(*OLD_PAIR, route=OLD_ROUTE),
            [Cancel()],
        ),
        (
            replace(STEADY, changing=True, canceling=True),
            observe(*OLD_PAIR, route=OLD_ROUTE),
            [Succeed()],
        ),
        # Streams have longer.
        (
            RESTING,
            observe(replace(OLD_PAIR[0], is_idle=False, is_streaming=True, unrouted_s=61)),
            [],
        ),
        (
            RESTING,
            observe(replace(OLD_PAIR[0], is_idle=False, is_streaming=True, unrouted_s=301)),
            [Stop("old-1", "not drained in 300 s")],
        ),
    ],
)
def test_one_step(desired, observed, actions):
    if actions is None:
        assert isinstance(plan(desired, observed)[0], MarkNeedsAttention)
    else:
        assert plan(desired, observed) == actions


STAGED = replace(UPDATING, canary=Canary((Step(5, 30.0), Step(25, 60.0)), errors=0.01, slowdown=2))
NEW_PAIR = (instance("new-1", is_on_trial=False), instance("new-2", is_on_trial=False))


def at(percent: int, *names: str) -> ObservedRoute:
    """The old route, with this share for the new revision."""
    share = ObservedCanary("new", frozenset(names), NEW.requests_per_instance * len(names), percent)
    return replace(OLD_ROUTE, canary=share)


def share(percent: int, *names: str) -> Publish:
    return Publish(OLD, ("old-1", "old-2"), Share(NEW, names, percent))


def latency(count: int, took_s: float) -> Latency:
    bucket = bisect_right(BOUNDS_S, took_s)
    return Latency(tuple(count * (number == bucket) for number in range(BUCKETS)), count * took_s)


def tally(answered: int, failed: int = 0, took_s: float = 0.01) -> RequestStats:
    return RequestStats(answered, failed, latency(answered, took_s))


def step_result(
    for_s: float, new: RequestStats | None = None, old: RequestStats | None = None
) -> StepResult:
    return StepResult(for_s, new or tally(100), old or tally(1000))


@pytest.mark.parametrize(
    ("observed", "actions"),
    [
        (observe(*OLD_PAIR, *NEW_PAIR, route=OLD_ROUTE), [share(5, "new-1", "new-2")]),
        # Not before all of it is ready, nor before it was asked.
        (observe(*OLD_PAIR, NEW_PAIR[0], route=OLD_ROUTE), [Start("new", 1)]),
        (
            observe(*OLD_PAIR, *NEW_PAIR, route=OLD_ROUTE, verification=Outcome(Stage.RUNNING)),
            [],
        ),
        (
            observe(
                *OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"), step_result=step_result(29)
            ),
            [],
        ),
        (
            observe(
                *OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"), step_result=step_result(30)
            ),
            [share(25, "new-1", "new-2")],
        ),
        (
            observe(
                *OLD_PAIR, *NEW_PAIR, route=at(25, "new-1", "new-2"), step_result=step_result(60)
            ),
            [Publish(NEW, ("new-1", "new-2"))],
        ),
        # A step that the policy does not know (another setting by now) is over at once.
        (
            observe(*OLD_PAIR, *NEW_PAIR, route=at(10, "new-1", "new-2")),
            [share(25, "new-1", "new-2")],
        ),
        # Both are repaired while a step lasts, and it does not go on meanwhile.
        (
            observe(
                *OLD_PAIR,
                NEW_PAIR[0],
                instance("new-2", GONE, is_on_trial=False),
                route=at(5, "new-1", "new-2"),
                step_result=step_result(99),
            ),
            [Start("new", 1), share(5, "new-1")],
        ),
        # One that fails with live requests in it condemns the change.
        (
            observe(
                *OLD_PAIR,
                NEW_PAIR[0],
                instance("new-2", FAILED, is_on_trial=False, reason="out of memory"),
                route=at(5, "new-1", "new-2"),
            ),
            [Publish(OLD, ("old-1", "old-2")), Fail("out of memory")],
        ),
        # With nobody of the old revision left, all goes to the new one.
        (
            observe(*NEW_PAIR, route=at(5, "new-1", "new-2"), backing_off=frozenset({"old"})),
            [Publish(NEW, ("new-1", "new-2"))],
        ),
        # A control plane that lost its memory asks again, and holds the step meanwhile.
        (
            observe(*OLD_PAIR, *NEW_PAIR, route=at(25, "new-1", "new-2"), verification=UNKNOWN),
            [Verify("new-1")],
        ),
    ],
)
def test_one_step_of_a_canary(observed, actions):
    assert plan(STAGED, observed) == actions


@pytest.mark.parametrize(
    ("new", "old", "told"),
    [
        (tally(100, failed=3), tally(1000), "3.0% of the new revision's requests failed"),
        (tally(5, failed=3), tally(5), "15.0% of the new"),
        (tally(100, took_s=0.1), tally(1000), "more than 2 times as slow"),
        # One may be lost to anything, and what the old one fails too is not the new one's.
        (tally(20, failed=1), tally(1000), ""),
        (tally(100, failed=3), tally(1000, failed=40), ""),
        # Too few, or too short to tell.
        (tally(19, took_s=1.0), tally(1000), ""),
        (tally(100, took_s=0.004), tally(1000, took_s=0.001), ""),
    ],
)
def test_a_canary_stops_with_the_figures(new, old, told):
    observed = observe(
        *OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"), step_result=step_result(10, new, old)
    )
    planned = plan(STAGED, observed)
    if not told:
        assert planned == []
        return
    # The traffic goes back before the failure is told.
    taken_back, failed = planned
    assert taken_back == Publish(OLD, ("old-1", "old-2"))
    assert isinstance(failed, Fail)
    assert told in failed.reason
    assert f"{new.answered} requests, {new.failed} failed" in failed.reason
    # Where that was refused it is asked again; then the instances go.
    back = replace(STEADY, changing=False)
    assert plan(back, observed) == [Publish(OLD, ("old-1", "old-2"))]
    settled = observe(*OLD_PAIR, *NEW_PAIR, route=OLD_ROUTE)
    assert plan(back, settled) == [Stop("new-1", "drained"), Stop("new-2", "drained")]


def test_a_canary_can_be_called_off_at_any_step():
    for percent in (5, 25):
        observed = observe(*OLD_PAIR, *NEW_PAIR, route=at(percent, "new-1", "new-2"))
        canceled = plan(replace(STAGED, canceling=True), observed)
        assert canceled == [Publish(OLD, ("old-1", "old-2")), Cancel()]


def test_what_an_earlier_canary_left_is_taken_out_before_its_instances_stop():
    left = replace(OLD_ROUTE, canary=ObservedCanary("other", frozenset({"other-1"}), 16, 25))
    observed = observe(*OLD_PAIR, *NEW_PAIR[:1], instance("other-1"), route=left)
    assert plan(STAGED, observed) == [Start("new", 1), Publish(OLD, ("old-1", "old-2"))]


def test_each_step_is_told_with_its_figures():
    [first] = plan(STAGED, observe(*OLD_PAIR, *NEW_PAIR, route=OLD_ROUTE))
    assert first.notes == (
        "Canary: 5 % of the requests go to the new revision for 30 s, and until 20 are answered.",
    )
    observed = observe(*OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"))
    [second] = plan(STAGED, replace(observed, step_result=step_result(30, tally(23))))
    assert "23 requests, 0 failed" in second.notes[0]
    assert "There were no requests" not in second.notes[0]
    assert "Canary: 25 % of the requests go to the new revision for 60 s" in second.notes[1]
    observed = observe(
        *OLD_PAIR, *NEW_PAIR, route=at(25, "new-1", "new-2"), step_result=step_result(60)
    )
    [last] = plan(STAGED, observed)
    assert len(last.notes) == 1


def test_a_step_with_too_few_answers_lasts_and_then_stops_the_rollout():
    observed = observe(*OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"))
    for for_s in (30, 629):
        assert plan(STAGED, replace(observed, step_result=step_result(for_s, tally(19)))) == []
    _, failed = plan(STAGED, replace(observed, step_result=step_result(630, tally(19))))
    assert "too few answers" in failed.reason
    patient = replace(STAGED, canary=replace(STAGED.canary, wait_s=3600))
    assert plan(patient, replace(observed, step_result=step_result(630, tally(19)))) == []


def test_a_step_in_which_nobody_asks_goes_on():
    observed = observe(*OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"))
    [second] = plan(STAGED, replace(observed, step_result=StepResult(30)))
    assert second.notes[0].endswith("There were no requests; continuing.")


def test_a_step_does_not_end_while_the_new_revision_owes_an_answer():
    observed = observe(*OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"))
    waits = replace(tally(50), in_hand_s=(0.5,))
    assert plan(STAGED, replace(observed, step_result=step_result(30, waits))) == []
    answers = replace(tally(50), in_hand_s=(0.005,))
    assert plan(STAGED, replace(observed, step_result=step_result(30, answers))) != []
    _, failed = plan(
        STAGED, replace(observed, step_result=step_result(9, replace(waits, in_hand_s=(6, 7))))
    )
    assert "2 of them are still in hand" in failed.reason
