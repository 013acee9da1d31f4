"""The planner, one step at a time: what it makes of what it sees."""

from dataclasses import replace

import pytest

from havre.domain.rollout import (
    SETTLE_S,
    Cancel,
    Fail,
    Goal,
    NeedAttention,
    Preparation,
    Prepare,
    Publish,
    Recover,
    Seen,
    SeenInstance,
    SeenRoute,
    Start,
    Stop,
    Succeed,
    Wanted,
    Withdraw,
    plan,
)
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
    return Seen(instances, route, **{"preparation": Preparation.DONE, **more})


CREATING = Wanted(run=True, goal=NEW, changing=True)
UPDATING = Wanted(run=True, goal=NEW, fallback=OLD, changing=True)
STEADY = Wanted(run=True, goal=OLD, fallback=OLD)
RESTING = Wanted(run=False, goal=OLD, changing=True)
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
                may_start=False,
            ),
            [Stop("old-1", "out of memory")],
        ),
        (STEADY, seen(route=route(OLD), may_start=False), None),
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
                may_start=False,
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
                may_start=False,
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
    ],
)
def test_one_step(wanted, observed, actions):
    if actions is None:
        assert isinstance(plan(wanted, observed)[0], NeedAttention)
    else:
        assert plan(wanted, observed) == actions
