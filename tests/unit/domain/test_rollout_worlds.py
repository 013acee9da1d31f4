"""The planner, against a simulated world in which anything may break between two passes."""

from dataclasses import dataclass, field, replace

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


def route(goal: Goal, *names: str) -> SeenRoute:
    return SeenRoute(
        goal.revision,
        frozenset(names),
        goal.requests_per_instance * len(names),
        goal.bandwidth_mbps,
    )


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
