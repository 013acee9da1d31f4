"""The planner, one step at a time: what it makes of what it sees."""

from bisect import bisect_right
from dataclasses import replace

import pytest

from havre.domain.actions import (
    Cancel,
    Fail,
    NeedAttention,
    Prepare,
    Publish,
    Recover,
    Share,
    Start,
    Stop,
    Succeed,
    Verify,
    Withdraw,
)
from havre.domain.canary import Tally, Trial
from havre.domain.latency import BOUNDS_S, BUCKETS, Latency
from havre.domain.observed import (
    Goal,
    Preparation,
    Seen,
    SeenCanary,
    SeenInstance,
    SeenRoute,
    Verification,
    Wanted,
)
from havre.domain.policy import Canary, Step
from havre.domain.rollout import SETTLE_S, plan
from havre.domain.states import InstancePhase

READY, STARTING, FAILED, GONE, DEGRADED = (
    InstancePhase.READY,
    InstancePhase.STARTING,
    InstancePhase.FAILED,
    InstancePhase.GONE,
    InstancePhase.DEGRADED,
)
OLD = Goal("old", instances=2, requests_per_instance=16, bandwidth_mbps=10)
NEW = replace(OLD, revision="new")


def instance(name: str, phase: InstancePhase = READY, **more) -> SeenInstance:
    return SeenInstance(name, name.split("-")[0], phase, unrouted_s=SETTLE_S, **more)


def route(goal: Goal, *names: str) -> SeenRoute:
    return SeenRoute(
        goal.revision,
        frozenset(names),
        goal.requests_per_instance * len(names),
        goal.bandwidth_mbps,
    )


def seen(*instances: SeenInstance, route: SeenRoute | None = None, **more) -> Seen:
    known = {"preparation": Preparation.DONE, "verification": Verification.DONE}
    return Seen(instances, route, **{**known, **more})


CREATING = Wanted(run=True, goal=NEW, changing=True)
UPDATING = Wanted(run=True, goal=NEW, fallback=OLD, changing=True)
STEADY = Wanted(run=True, goal=OLD, fallback=OLD)
RESTING = Wanted(run=False, goal=OLD, changing=True)
GROWING = replace(STEADY, goal=replace(OLD, instances=3), changing=True)
WIDER = replace(OLD, bandwidth_mbps=20)
UNKNOWN = Verification.NONE
OLD_PAIR = (instance("old-1"), instance("old-2"))
OLD_ROUTE = route(OLD, "old-1", "old-2")


@pytest.mark.parametrize(
    ("wanted", "observed", "actions"),
    [
        (CREATING, Seen(), [Prepare()]),
        (CREATING, Seen(preparation=Preparation.RUNNING), []),
        (CREATING, Seen(preparation=Preparation.FAILED, preparation_reason="no"), [Fail("no")]),
        (CREATING, seen(), [Start("new", 2)]),
        (CREATING, seen(instance("new-1"), instance("new-2", STARTING)), []),
        (
            CREATING,
            seen(instance("new-1"), instance("new-2")),
            [Publish(NEW, ("new-1", "new-2"))],
        ),
        (
            CREATING,
            seen(instance("new-1"), instance("new-2"), route=route(NEW, "new-1", "new-2")),
            [Succeed()],
        ),
        (CREATING, seen(instance("new-1", FAILED, reason="boom")), [Fail("boom")]),
        (replace(CREATING, canceling=True), seen(instance("new-1")), [Cancel()]),
        (UPDATING, seen(*OLD_PAIR, route=OLD_ROUTE), [Start("new", 2)]),
        (
            UPDATING,
            seen(*OLD_PAIR, instance("new-1"), instance("new-2"), route=OLD_ROUTE),
            [Publish(NEW, ("new-1", "new-2"))],
        ),
        # The change is done when the route is switched; the old revision goes when it is drained.
        (
            UPDATING,
            seen(
                replace(OLD_PAIR[0], is_idle=False),
                instance("new-1"),
                instance("new-2"),
                route=route(NEW, "new-1", "new-2"),
            ),
            [Succeed()],
        ),
        (
            replace(STEADY, goal=NEW),
            seen(
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
            seen(*OLD_PAIR, instance("new-1"), instance("new-2", FAILED), route=OLD_ROUTE),
            [Fail("an instance did not become ready")],
        ),
        (STEADY, seen(*OLD_PAIR, route=OLD_ROUTE), []),
        # Repair while serving: out of the route first, then away, and a new one up.
        (
            STEADY,
            seen(OLD_PAIR[0], instance("old-2", FAILED), route=OLD_ROUTE),
            [Start("old", 1), Publish(OLD, ("old-1",))],
        ),
        # A keeper died but its copies answer: replaced first, stopped afterwards.
        (
            STEADY,
            seen(OLD_PAIR[0], instance("old-2", DEGRADED), route=OLD_ROUTE),
            [Start("old", 1)],
        ),
        (
            STEADY,
            seen(OLD_PAIR[0], instance("old-2", DEGRADED), instance("old-3"), route=OLD_ROUTE),
            [Publish(OLD, ("old-1", "old-3"))],
        ),
        (
            STEADY,
            seen(
                instance("old-1", FAILED, reason="out of memory"),
                route=route(OLD),
                backing_off=frozenset({"old"}),
            ),
            [Stop("old-1", "out of memory")],
        ),
        (STEADY, seen(route=route(OLD), backing_off=frozenset({"old"})), None),
        (replace(STEADY, needs_attention=True), seen(*OLD_PAIR, route=OLD_ROUTE), [Recover()]),
        (RESTING, seen(*OLD_PAIR, route=OLD_ROUTE), [Withdraw()]),
        (
            RESTING,
            seen(OLD_PAIR[0], replace(OLD_PAIR[1], is_idle=False)),
            [Stop("old-1", "drained")],
        ),
        (
            RESTING,
            seen(replace(OLD_PAIR[1], is_idle=False, unrouted_s=61)),
            [Stop("old-2", "not drained in 60 s")],
        ),
        (RESTING, seen(), [Succeed()]),
        (RESTING, seen(OLD_PAIR[0], route=route(OLD)), [Withdraw()]),
        (RESTING, seen(OLD_PAIR[0], is_route_settled=False), [Withdraw()]),
        # What is not confirmed may come late: it is published again before anything is stopped.
        (
            STEADY,
            seen(*OLD_PAIR, instance("new-1"), route=OLD_ROUTE, is_route_settled=False),
            [Publish(OLD, ("old-1", "old-2"))],
        ),
        (
            CREATING,
            seen(
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
            seen(
                OLD_PAIR[0],
                instance("new-1", STARTING),
                instance("new-2", STARTING),
                route=route(OLD, "old-1"),
            ),
            [Start("old", 1)],
        ),
        (
            UPDATING,
            seen(
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
            seen(
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
            seen(OLD_PAIR[0], instance("old-2", FAILED), route=OLD_ROUTE),
            [Start("old", 1), Publish(OLD, ("old-1",))],
        ),
        # Only instances that are whole take traffic over.
        (
            UPDATING,
            seen(*OLD_PAIR, instance("new-1"), instance("new-2", DEGRADED), route=OLD_ROUTE),
            [Start("new", 1)],
        ),
        # What fails without having been started for this change does not condemn it.
        (
            UPDATING,
            seen(
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
            seen(
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
            seen(
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
            seen(instance("new-1"), instance("new-2"), route=route(NEW, "new-1", "new-2")),
            [Succeed()],
        ),
        # Growing is done when all of them answer.
        (
            replace(STEADY, changing=True),
            seen(OLD_PAIR[0], instance("old-2", STARTING), route=route(OLD, "old-1")),
            [],
        ),
        # Another length of the queue needs no new instances.
        (
            replace(STEADY, goal=replace(OLD, requests_per_instance=32)),
            seen(*OLD_PAIR, route=OLD_ROUTE),
            [Publish(replace(OLD, requests_per_instance=32), ("old-1", "old-2"))],
        ),
        # Those in the route stay in it.
        (
            STEADY,
            seen(*OLD_PAIR, instance("old-3"), route=route(OLD, "old-2", "old-3")),
            [Stop("old-1", "drained")],
        ),
        # Once told, trouble is not told again; it ends when one instance is well.
        (
            replace(STEADY, needs_attention=True),
            seen(instance("old-1", STARTING), instance("old-2", STARTING), route=route(OLD)),
            [],
        ),
        (
            STEADY,
            seen(*(replace(each, is_troubled=True) for each in OLD_PAIR), route=OLD_ROUTE),
            None,
        ),
        (
            STEADY,
            seen(OLD_PAIR[0], replace(OLD_PAIR[1], is_troubled=True), route=OLD_ROUTE),
            [],
        ),
        (
            replace(STEADY, needs_attention=True),
            seen(*(replace(each, is_troubled=True) for each in OLD_PAIR), route=OLD_ROUTE),
            [],
        ),
        # A revision is asked before it gets traffic, as soon as somebody can be.
        (
            UPDATING,
            seen(
                *OLD_PAIR,
                instance("new-2", STARTING),
                instance("new-1"),
                route=OLD_ROUTE,
                verification=Verification.NONE,
            ),
            [Verify("new-1")],
        ),
        (
            CREATING,
            seen(instance("new-1"), instance("new-2"), verification=Verification.RUNNING),
            [],
        ),
        (
            UPDATING,
            seen(
                *OLD_PAIR,
                instance("new-1"),
                route=OLD_ROUTE,
                verification=Verification.FAILED,
                verification_reason="the check failed",
            ),
            [Fail("the check failed")],
        ),
        # Repairs are not asked.
        (
            STEADY,
            seen(instance("old-1"), instance("old-2"), route=route(OLD), verification=UNKNOWN),
            [Publish(OLD, ("old-1", "old-2"))],
        ),
        (
            STEADY,
            seen(instance("old-1"), instance("old-2"), verification=UNKNOWN),
            [Publish(OLD, ("old-1", "old-2"))],
        ),
        # A failing revision makes no other wait.
        (
            UPDATING,
            seen(*OLD_PAIR, route=OLD_ROUTE, backing_off=frozenset({"old"})),
            [Start("new", 2)],
        ),
        # Growing, shrinking and other numbers are called off until they are done.
        (
            replace(GROWING, canceling=True),
            seen(*OLD_PAIR, instance("old-3", STARTING), route=OLD_ROUTE),
            [Cancel()],
        ),
        (
            replace(STEADY, goal=WIDER, changing=True, canceling=True),
            seen(*OLD_PAIR, route=OLD_ROUTE),
            [Cancel()],
        ),
        (
            replace(STEADY, changing=True, canceling=True),
            seen(*OLD_PAIR, route=OLD_ROUTE),
            [Succeed()],
        ),
        # Streams have longer.
        (
            RESTING,
            seen(replace(OLD_PAIR[0], is_idle=False, is_streaming=True, unrouted_s=61)),
            [],
        ),
        (
            RESTING,
            seen(replace(OLD_PAIR[0], is_idle=False, is_streaming=True, unrouted_s=301)),
            [Stop("old-1", "not drained in 300 s")],
        ),
    ],
)
def test_one_step(wanted, observed, actions):
    if actions is None:
        assert isinstance(plan(wanted, observed)[0], NeedAttention)
    else:
        assert plan(wanted, observed) == actions


STAGED = replace(UPDATING, canary=Canary((Step(5, 30.0), Step(25, 60.0)), errors=0.01, slowdown=2))
NEW_PAIR = (instance("new-1", is_on_trial=False), instance("new-2", is_on_trial=False))


def at(percent: int, *names: str) -> SeenRoute:
    """The old route, with this share for the new revision."""
    share = SeenCanary("new", frozenset(names), NEW.requests_per_instance * len(names), percent)
    return replace(OLD_ROUTE, canary=share)


def share(percent: int, *names: str) -> Publish:
    return Publish(OLD, ("old-1", "old-2"), Share(NEW, names, percent))


def latency(count: int, took_s: float) -> Latency:
    bucket = bisect_right(BOUNDS_S, took_s)
    return Latency(tuple(count * (number == bucket) for number in range(BUCKETS)), count * took_s)


def tally(answered: int, failed: int = 0, took_s: float = 0.01) -> Tally:
    return Tally(answered, failed, latency(answered, took_s))


def trial(for_s: float, new: Tally | None = None, old: Tally | None = None) -> Trial:
    return Trial(for_s, new or tally(100), old or tally(1000))


@pytest.mark.parametrize(
    ("observed", "actions"),
    [
        (seen(*OLD_PAIR, *NEW_PAIR, route=OLD_ROUTE), [share(5, "new-1", "new-2")]),
        # Not before all of it is ready, nor before it was asked.
        (seen(*OLD_PAIR, NEW_PAIR[0], route=OLD_ROUTE), [Start("new", 1)]),
        (
            seen(*OLD_PAIR, *NEW_PAIR, route=OLD_ROUTE, verification=Verification.RUNNING),
            [],
        ),
        (seen(*OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"), trial=trial(29)), []),
        (
            seen(*OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"), trial=trial(30)),
            [share(25, "new-1", "new-2")],
        ),
        (
            seen(*OLD_PAIR, *NEW_PAIR, route=at(25, "new-1", "new-2"), trial=trial(60)),
            [Publish(NEW, ("new-1", "new-2"))],
        ),
        # A step that the policy does not know (another setting by now) is over at once.
        (
            seen(*OLD_PAIR, *NEW_PAIR, route=at(10, "new-1", "new-2")),
            [share(25, "new-1", "new-2")],
        ),
        # Both are repaired while a step lasts, and it does not go on meanwhile.
        (
            seen(
                *OLD_PAIR,
                NEW_PAIR[0],
                instance("new-2", GONE, is_on_trial=False),
                route=at(5, "new-1", "new-2"),
                trial=trial(99),
            ),
            [Start("new", 1), share(5, "new-1")],
        ),
        # One that fails with live requests in it condemns the change.
        (
            seen(
                *OLD_PAIR,
                NEW_PAIR[0],
                instance("new-2", FAILED, is_on_trial=False, reason="out of memory"),
                route=at(5, "new-1", "new-2"),
            ),
            [Publish(OLD, ("old-1", "old-2")), Fail("out of memory")],
        ),
        # With nobody of the old revision left, all goes to the new one.
        (
            seen(*NEW_PAIR, route=at(5, "new-1", "new-2"), backing_off=frozenset({"old"})),
            [Publish(NEW, ("new-1", "new-2"))],
        ),
        # A control plane that lost its memory asks again, and holds the step meanwhile.
        (
            seen(*OLD_PAIR, *NEW_PAIR, route=at(25, "new-1", "new-2"), verification=UNKNOWN),
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
        # Too few for a median, or too short to tell.
        (tally(19, took_s=1.0), tally(1000), ""),
        (tally(100, took_s=0.004), tally(1000, took_s=0.001), ""),
    ],
)
def test_a_canary_stops_with_the_figures(new, old, told):
    seen_ = seen(*OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"), trial=trial(10, new, old))
    planned = plan(STAGED, seen_)
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
    assert plan(back, seen_) == [Publish(OLD, ("old-1", "old-2"))]
    settled = seen(*OLD_PAIR, *NEW_PAIR, route=OLD_ROUTE)
    assert plan(back, settled) == [Stop("new-1", "drained"), Stop("new-2", "drained")]


def test_a_canary_can_be_called_off_at_any_step():
    for percent in (5, 25):
        observed = seen(*OLD_PAIR, *NEW_PAIR, route=at(percent, "new-1", "new-2"))
        canceled = plan(replace(STAGED, canceling=True), observed)
        assert canceled == [Publish(OLD, ("old-1", "old-2")), Cancel()]


def test_what_an_earlier_canary_left_is_taken_out_before_its_instances_stop():
    left = replace(OLD_ROUTE, canary=SeenCanary("other", frozenset({"other-1"}), 16, 25))
    observed = seen(*OLD_PAIR, *NEW_PAIR[:1], instance("other-1"), route=left)
    assert plan(STAGED, observed) == [Start("new", 1), Publish(OLD, ("old-1", "old-2"))]


def test_each_step_is_told_with_its_figures():
    [first] = plan(STAGED, seen(*OLD_PAIR, *NEW_PAIR, route=OLD_ROUTE))
    assert first.notes == ("Canary: 5 % of the requests go to the new revision for 30 s.",)
    observed = seen(*OLD_PAIR, *NEW_PAIR, route=at(5, "new-1", "new-2"))
    [second] = plan(STAGED, replace(observed, trial=trial(30, tally(3))))
    assert "3 requests, 0 failed" in second.notes[0]
    assert "Too few requests to judge" in second.notes[0]
    assert second.notes[1] == "Canary: 25 % of the requests go to the new revision for 60 s."
    observed = seen(*OLD_PAIR, *NEW_PAIR, route=at(25, "new-1", "new-2"), trial=trial(60))
    [last] = plan(STAGED, observed)
    assert len(last.notes) == 1
    assert "Too few" not in last.notes[0]
