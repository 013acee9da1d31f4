"""The planner, against a simulated world in which anything may break between two passes."""

from dataclasses import dataclass, field, replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from havre.domain.actions import (
    Cancel,
    Fail,
    NeedAttention,
    Prepare,
    Publish,
    Recover,
    Start,
    Stop,
    Succeed,
    Verify,
    Withdraw,
)
from havre.domain.canary import Tally, Trial
from havre.domain.latency import BUCKETS, Latency
from havre.domain.observed import (
    Goal,
    Preparation,
    Seen,
    SeenInstance,
    SeenRoute,
    Verification,
    Wanted,
)
from havre.domain.policy import Canary, Step
from havre.domain.rollout import ANSWERS, SETTLE_S, plan
from havre.domain.states import InstancePhase

READY, STARTING, FAILED, GONE, DEGRADED = (
    InstancePhase.READY,
    InstancePhase.STARTING,
    InstancePhase.FAILED,
    InstancePhase.GONE,
    InstancePhase.DEGRADED,
)


CANARY = Canary((Step(5, 1.0), Step(25, 3.0)))
QUICK, LATE = (
    Latency(tuple(100 * (number == bucket) for number in range(BUCKETS))) for bucket in (15, 25)
)
WELL, ERRING, SLOW = Tally(100, 0, QUICK), Tally(100, 50, QUICK), Tally(100, 0, LATE)


def route(goal: Goal, *names: str) -> SeenRoute:
    return SeenRoute(
        goal.revision,
        frozenset(names),
        goal.requests_per_instance * len(names),
        goal.bandwidth_mbps,
    )


def names_in(route: SeenRoute | None) -> set[str]:
    if route is None:
        return set()
    canary = set() if route.canary is None else route.canary.instances
    return {*route.instances, *canary}


def share_of(route: SeenRoute | None) -> int:
    return 0 if route is None or route.canary is None else route.canary.percent


@dataclass
class World:
    """Carries plans out perfectly; everything else in it may go wrong."""

    wanted: Wanted
    instances: dict[str, SeenInstance] = field(default_factory=dict)
    route: SeenRoute | None = None
    prepared: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    verification: Verification = Verification.NONE
    verified: set[str] = field(default_factory=set)  # for the present change
    served: set[str] = field(default_factory=set)  # before the present change
    step_s: float = 0.0
    canary: Canary | None = None
    outcomes: list[str] = field(default_factory=list)
    counter: int = 0
    unconfirmed: int = 0  # so many publications from now on come late
    late: list[SeenRoute | None] = field(default_factory=list)

    def observe(self) -> Seen:
        revision = self.wanted.goal.revision
        done = Preparation.DONE if revision in self.prepared else Preparation.NONE
        return Seen(
            tuple(self.instances.values()),
            self.route,
            done,
            verification=self.verification,
            verification_reason="it does not answer",
            is_route_settled=not self.late,
            trial=self.trial(),
        )

    def trial(self) -> Trial:
        """What the canary's revision does: two of them are worse than what serves."""
        canary = self.route and self.route.canary
        if canary is None:
            return Trial()
        new = {"erring": ERRING, "slow": SLOW}.get(canary.revision, WELL)
        return Trial(self.step_s, new, WELL)

    def ask_balancer(self, wanted: SeenRoute | None) -> None:
        if self.unconfirmed:
            self.unconfirmed -= 1
            self.late = [wanted]
        else:
            self.go_live(wanted)

    def catch_up(self) -> None:
        for wanted in self.late:
            self.go_live(wanted)

    def go_live(self, wanted: SeenRoute | None) -> None:
        if share_of(wanted) != share_of(self.route):
            self.step_s = 0.0
        self.route, self.late = wanted, []

    def routed(self) -> set[str]:
        return names_in(self.route)

    def in_rotation(self) -> int:
        return sum(
            self.instances[each].phase in ANSWERS
            for each in self.routed()
            if each in self.instances
        )

    def want(self, revision: str, count: int) -> None:
        """An update, or a create where nothing runs."""
        serving = self.wanted.goal if self.wanted.run else None
        goal = Goal(revision, count, 16, 10 * count)
        self.served = set() if serving is None else {serving.revision}
        self.verified = set()
        self.wanted = Wanted(True, goal, serving, changing=True, canary=self.canary)

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
            case Verify(name):
                assert self.instances[name].phase is READY
                assert self.wanted.changing
                self.verification = Verification.RUNNING
            case Publish():
                wanted = action.as_seen
                names = names_in(wanted)
                assert all(self.instances[each].phase in ANSWERS for each in names)
                self._assert_may_have_traffic(action)
                self.ask_balancer(wanted)
                for name in names:
                    self.instances[name] = replace(self.instances[name], unrouted_s=0)
            case Withdraw():
                assert not self.wanted.run
                self.ask_balancer(None)
            case Stop(name):
                gone = self.instances.pop(name)
                assert name not in self.routed()
                if gone.phase not in (FAILED, GONE):
                    assert all(name not in names_in(late) for late in self.late)
                    assert gone.is_idle
                    assert gone.unrouted_s >= SETTLE_S
            case Succeed():
                assert not self.late
                self.verification = Verification.NONE
                if self.wanted.run:
                    assert self.route.canary is None
                    assert self.in_rotation() >= self.wanted.goal.instances
                    self.wanted = replace(self.wanted, changing=False, fallback=self.wanted.goal)
                else:
                    assert not self.instances
                    self.wanted = replace(self.wanted, changing=False)
                self.outcomes.append("succeeded")
            case Fail() | Cancel():
                back = self.wanted.fallback
                self.verification = Verification.NONE
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

    def _assert_may_have_traffic(self, publish: Publish) -> None:
        """Only what served before, or was asked in this change and is whole, gets traffic."""
        share = publish.canary
        for goal in (publish.goal, *([] if share is None else [share.goal])):
            if self.wanted.changing and goal.revision not in self.served:
                assert goal.revision in self.verified
        if share is not None:
            assert 0 < share.percent < 100
            assert share.instances
            assert publish.instances

    def pass_time(self) -> None:
        """What a healthy world does by itself: models load, requests end, changes settle."""
        self.step_s += 1
        if self.verification is Verification.RUNNING:
            is_good = self.wanted.goal.revision != "mute"
            self.verification = Verification.DONE if is_good else Verification.FAILED
            if is_good:
                self.verified.add(self.wanted.goal.revision)
        for name, each in self.instances.items():
            phase = each.phase
            if phase is STARTING:
                phase = FAILED if each.revision in self.bad else READY
            routed = name in self.routed()
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
    st.tuples(
        st.just("want"),
        st.integers(1, 3),
        st.sampled_from(["a", "b", "c", "bad", "mute", "erring", "slow", None]),
    ),
    st.tuples(st.just("canary"), st.just(0), st.booleans()),
    st.tuples(st.just("forget"), st.just(0), st.none()),
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
                world.want(revision, count)
        case ("canary", _, is_staged) if not world.wanted.changing:
            world.canary = CANARY if is_staged else None
        case ("forget", _, _):
            # Another control plane: what it knows of the change is in the database and the route.
            world.verification, world.step_s = Verification.NONE, 0.0
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
    elif world.wanted.goal.revision not in {"bad", "mute"}:
        assert world.in_rotation() == world.wanted.goal.instances == len(world.instances)
        assert world.route == route(world.wanted.goal, *world.instances)
        assert not world.wanted.needs_attention


WORSE = {"bad", "mute", "erring", "slow"}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["b", *sorted(WORSE)]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(0, 20)),
    st.lists(st.integers(0, 20), max_size=2),
    st.lists(st.integers(3, 20), max_size=2),
)
def test_a_canary_ends_with_all_traffic_on_one_revision(
    revision, first, count, cancel, forgets, losses
):
    """Called off after any step, with control planes that forget between any two, and with all new
    instances gone at any time.
    """
    world = World(Wanted(True, Goal("a", first, 16, 10), changing=True), bad={"bad"})
    world.come_to_rest(10)
    world.canary = CANARY
    old = set(world.instances)
    world.want(revision, count)
    shares = []
    for number in range(80):
        if not world.wanted.changing:
            break
        if number == cancel and world.route.revision == "a":
            world.wanted = replace(world.wanted, canceling=True)
        if number in forgets:
            world.verification, world.step_s = Verification.NONE, 0.0
        for name in set(world.instances) - old if number in losses else ():
            world.instances[name] = replace(world.instances[name], phase=GONE)
        world.step()
        world.pass_time()
        if world.route.revision == "a":
            assert world.in_rotation() >= first
            assert old <= set(world.instances)
        shares.append(share_of(world.route))
    assert not world.wanted.changing
    world.come_to_rest(10)
    is_canceled = world.outcomes[-1] == "failed"
    assert is_canceled or revision not in WORSE
    goal = world.wanted.goal
    assert goal.revision == ("a" if is_canceled else revision)
    assert world.route == route(goal, *world.instances)
    assert (set(world.instances) == old) is is_canceled
    if not is_canceled:
        assert {5, 25} <= set(shares)
