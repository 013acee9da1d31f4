"""The planner, against a simulated world in which anything may break between two passes."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from havre.domain.rollout import (
    ANSWERS,
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


@dataclass
class World:
    """Carries plans out perfectly; everything else in it may go wrong."""

    wanted: Wanted
    instances: dict[str, SeenInstance] = field(default_factory=dict)
    route: SeenRoute | None = None
    prepared: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    outcomes: list[str] = field(default_factory=list)
    counter: int = 0
    unconfirmed: int = 0  # so many publications from now on come late
    late: list[SeenRoute | None] = field(default_factory=list)

    def observe(self) -> Seen:
        revision = self.wanted.goal.revision
        done = Preparation.DONE if revision in self.prepared else Preparation.NONE
        return Seen(
            tuple(self.instances.values()), self.route, done, is_route_settled=not self.late
        )

    def ask_balancer(self, wanted: SeenRoute | None) -> None:
        if self.unconfirmed:
            self.unconfirmed -= 1
            self.late = [wanted]
        else:
            self.route, self.late = wanted, []

    def catch_up(self) -> None:
        for wanted in self.late:
            self.route, self.late = wanted, []

    def in_rotation(self) -> int:
        if self.route is None:
            return 0
        return sum(
            self.instances[each].phase in ANSWERS
            for each in self.route.instances
            if each in self.instances
        )

    def step(self) -> bool:
        """One pass; False when the planner has nothing to do."""
        before, had_route = self.in_rotation(), self.route
        actions = plan(self.wanted, self.observe())
        for action in actions:
            self._carry_out(action)
        if self.wanted.run and had_route is not None:
            promised = min(before, self._promised())
            assert self.in_rotation() >= promised, (had_route, actions)
        return bool(actions)

    def _promised(self) -> int:
        """The smaller figure while going from one to the other: shrinking is not an outage."""
        wanted = self.wanted
        return min(goal.instances for goal in (wanted.goal, wanted.fallback) if goal is not None)

    def _carry_out(self, action) -> None:
        match action:
            case Prepare():
                self.prepared.add(self.wanted.goal.revision)
            case Start(revision, count):
                for _ in range(count):
                    self.counter += 1
                    name = f"{revision}-{self.counter}"
                    self.instances[name] = SeenInstance(name, revision, STARTING)
            case Publish(goal, names):
                assert all(self.instances[each].phase in ANSWERS for each in names)
                self.ask_balancer(route(goal, *names))
                for name in names:
                    self.instances[name] = replace(self.instances[name], unrouted_s=0)
            case Withdraw():
                assert not self.wanted.run
                self.ask_balancer(None)
            case Stop(name):
                gone = self.instances.pop(name)
                assert self.route is None or name not in self.route.instances
                if gone.phase not in (FAILED, GONE):
                    assert all(late is None or name not in late.instances for late in self.late)
                    assert gone.is_idle
                    assert gone.unrouted_s >= SETTLE_S
            case Succeed():
                assert not self.late
                if self.wanted.run:
                    assert self.in_rotation() >= self.wanted.goal.instances
                    self.wanted = replace(self.wanted, changing=False, fallback=self.wanted.goal)
                else:
                    assert not self.instances
                    self.wanted = replace(self.wanted, changing=False)
                self.outcomes.append("succeeded")
            case Fail() | Cancel():
                back = self.wanted.fallback
                self.wanted = replace(
                    self.wanted,
                    run=back is not None,
                    goal=back or self.wanted.goal,
                    changing=False,
                    canceling=False,
                )
                self.outcomes.append("failed")
            case NeedAttention():
                self.wanted = replace(self.wanted, needs_attention=True)
            case Recover():
                self.wanted = replace(self.wanted, needs_attention=False)

    def pass_time(self) -> None:
        """What a healthy world does by itself: models load, requests end, changes settle."""
        for name, each in self.instances.items():
            phase = each.phase
            if phase is STARTING:
                phase = FAILED if each.revision in self.bad else READY
            routed = self.route is not None and name in self.route.instances
            self.instances[name] = replace(
                each, phase=phase, is_idle=True, unrouted_s=0 if routed else each.unrouted_s + 1
            )

    def come_to_rest(self, rounds: int) -> None:
        for _ in range(rounds):
            self.pass_time()
            for _ in range(30):
                if not self.step():
                    break
            else:
                raise AssertionError("the planner goes round in circles")


FAULTS = st.one_of(
    st.tuples(st.just("die"), st.integers(0, 9), st.sampled_from([FAILED, GONE, DEGRADED])),
    st.tuples(st.just("busy"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("time"), st.just(0), st.none()),
    st.tuples(st.just("want"), st.integers(1, 3), st.sampled_from(["a", "b", "c", "bad", None])),
    st.tuples(st.just("cancel"), st.just(0), st.none()),
    st.tuples(st.just("calm"), st.just(0), st.none()),
    st.tuples(st.just("late"), st.integers(1, 3), st.booleans()),
)


def disturb(world: World, fault) -> None:
    match fault:
        case ("die", which, phase) if world.instances:
            name = sorted(world.instances)[which % len(world.instances)]
            world.instances[name] = replace(world.instances[name], phase=phase)
        case ("busy", which, idle) if world.instances:
            name = sorted(world.instances)[which % len(world.instances)]
            world.instances[name] = replace(world.instances[name], is_idle=idle)
        case ("time", _, _):
            world.pass_time()
        case ("calm", _, _):
            world.come_to_rest(4)
        case ("late", count, catches_up):
            world.unconfirmed = count
            if catches_up:
                world.catch_up()
        case ("want", count, revision) if not world.wanted.changing:
            if revision is None:
                world.wanted = replace(world.wanted, run=False, changing=True)
            else:
                serving = world.wanted.goal if world.wanted.run else None
                goal = Goal(revision, count, 16, 10 * count)
                world.wanted = Wanted(True, goal, serving, changing=True)
        case ("cancel", _, _) if world.wanted.changing and world.wanted.run:
            world.wanted = replace(world.wanted, canceling=True)
        case _:
            pass


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(FAULTS, st.integers(0, 3)), max_size=40), st.integers(1, 3))
def test_never_below_the_promise_and_always_converging(script, first):
    goal = Goal("a", first, 16, 10)
    world = World(Wanted(True, goal, changing=True), bad={"bad"})
    for fault, passes in script:
        disturb(world, fault)
        for _ in range(passes):
            world.step()
    # From here on nothing breaks any more: it must come to rest, with what was wanted.
    world.unconfirmed = 0
    world.come_to_rest(40)
    event(f"outcomes {len(world.outcomes)}")
    assert not world.wanted.changing
    assert not world.step()
    if not world.wanted.run:
        assert world.instances == {}
        assert world.route is None
    elif world.wanted.goal.revision != "bad":
        assert world.in_rotation() == world.wanted.goal.instances == len(world.instances)
        assert world.route == route(world.wanted.goal, *world.instances)
        assert not world.wanted.needs_attention
