"""The planner, against a simulated world in which anything may break between two passes."""

from dataclasses import dataclass, field, replace

from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.support.planner_input import DEGRADED, FAILED, GONE, READY, STARTING, route

from havre.domain.latency import BUCKETS, Latency
from havre.domain.rollout.actions import (
    Cancel,
    EndHungKeeper,
    Fail,
    MarkNeedsAttention,
    MarkRecovered,
    Prepare,
    Publish,
    Start,
    Stop,
    Succeed,
    Verify,
    Withdraw,
)
from havre.domain.rollout.canary import RequestStats, StepResult
from havre.domain.rollout.planner import SERVING, SETTLE_S, plan
from havre.domain.rollout.planner_input import (
    Desired,
    DesiredRevision,
    Observed,
    ObservedInstance,
    ObservedRoute,
    Outcome,
    Stage,
)
from havre.domain.rollout.policy import Canary, Step

START_TIMEOUT_S = 20
CANARY = Canary((Step(5, 1.0), Step(25, 3.0)))
QUICK, LATE = (
    Latency(tuple(100 * (number == bucket) for number in range(BUCKETS))) for bucket in (15, 25)
)
WELL, ERRING, SLOW = (
    RequestStats(100, 0, QUICK),
    RequestStats(100, 50, QUICK),
    RequestStats(100, 0, LATE),
)


def names_in(route: ObservedRoute | None) -> set[str]:
    if route is None:
        return set()
    canary = set() if route.canary is None else route.canary.instances
    return {*route.instances, *canary}


def share_of(route: ObservedRoute | None) -> int:
    return 0 if route is None or route.canary is None else route.canary.percent


@dataclass
class World:
    """Carries plans out perfectly; everything else in it may go wrong."""

    desired: Desired
    instances: dict[str, ObservedInstance] = field(default_factory=dict)
    route: ObservedRoute | None = None
    prepared: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    verification: Stage = Stage.NONE
    verified: set[str] = field(default_factory=set)  # for the present change
    served: set[str] = field(default_factory=set)  # before the present change
    step_s: float = 0.0
    canary: Canary | None = None
    outcomes: list[str] = field(default_factory=list)
    counter: int = 0
    unconfirmed: int = 0  # so many publications from now on come late
    late: list[ObservedRoute | None] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)  # of changes that failed
    was_routed: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # in the present change, after they were routed
    last_failure: str = ""
    unwell_s: float = 0.0

    def observe(self) -> Observed:
        revision = self.desired.target.revision
        done = Stage.DONE if revision in self.prepared else Stage.NONE
        self.was_routed |= self.routed()
        for name, each in self.instances.items():
            self.instances[name] = replace(each, is_on_trial=name not in self.was_routed)
            if each.phase is FAILED:
                self.last_failure = each.reason
            if each.phase is FAILED and name in self.was_routed and each.revision == revision:
                self.lost.add(name)
        return Observed(
            tuple(self.instances.values()),
            self.route,
            Outcome(done),
            verification=Outcome(self.verification, "it does not answer"),
            is_route_settled=not self.late,
            step_result=self.step_result(),
            lost=len(self.lost),
            last_failure=self.last_failure,
            unwell_s=self.unwell_s,
            start_timeout_s=START_TIMEOUT_S,
        )

    def step_result(self) -> StepResult:
        """What the canary's revision does: two of them are worse than what serves."""
        canary = self.route and self.route.canary
        if canary is None:
            return StepResult()
        new = {"erring": ERRING, "slow": SLOW}.get(canary.revision, WELL)
        return StepResult(self.step_s, new, WELL)

    def ask_balancer(self, desired: ObservedRoute | None) -> None:
        if self.unconfirmed:
            self.unconfirmed -= 1
            self.late = [desired]
        else:
            self.go_live(desired)

    def catch_up(self) -> None:
        for desired in self.late:
            self.go_live(desired)

    def go_live(self, desired: ObservedRoute | None) -> None:
        if share_of(desired) != share_of(self.route):
            self.step_s = 0.0
        self.route, self.late = desired, []

    def routed(self) -> set[str]:
        return names_in(self.route)

    def in_rotation(self) -> int:
        return sum(
            self.instances[each].phase in SERVING
            for each in self.routed()
            if each in self.instances
        )

    def want(self, revision: str, count: int) -> None:
        """An update, or a create where nothing runs."""
        serving = self.desired.target if self.desired.run else None
        target = DesiredRevision(revision, count, 16, 10 * count)
        self.served = set() if serving is None else {serving.revision}
        self.verified, self.lost, self.unwell_s = set(), set(), 0.0
        self.was_routed |= self.instances.keys()  # they say nothing of the change
        self.desired = Desired(True, target, serving, changing=True, canary=self.canary)

    def step(self) -> bool:
        """One pass; False when the planner has nothing to do."""
        before, had_route = self.in_rotation(), self.route
        actions = plan(self.desired, self.observe())
        for action in actions:
            self._carry_out(action)
        if self.desired.run and had_route is not None:
            promised = min(before, self._promised())
            assert self.in_rotation() >= promised, (had_route, actions)
        return bool(actions)

    def _promised(self) -> int:
        """The smaller figure while going from one to the other: shrinking is not an outage."""
        desired = self.desired
        return min(
            target.instances for target in (desired.target, desired.fallback) if target is not None
        )

    def _carry_out(self, action) -> None:
        match action:
            case Prepare():
                self.prepared.add(self.desired.target.revision)
            case Start(revision, count):
                for _ in range(count):
                    self.counter += 1
                    name = f"{revision}-{self.counter}"
                    self.instances[name] = ObservedInstance(name, revision, STARTING)
            case Verify(name):
                assert self.instances[name].phase is READY
                assert self.desired.changing
                self.verification = Stage.RUNNING
            case Publish():
                desired = action.as_observed
                names = names_in(desired)
                assert all(self.instances[each].phase in SERVING for each in names)
                self._assert_may_have_traffic(action)
                self.ask_balancer(desired)
                for name in names:
                    self.instances[name] = replace(self.instances[name], unrouted_s=0)
            case Withdraw():
                assert not self.desired.run
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
                self.verification = Stage.NONE
                if self.desired.run:
                    assert self.route.canary is None
                    assert self.in_rotation() >= self.desired.target.instances
                    self.desired = replace(
                        self.desired, changing=False, fallback=self.desired.target
                    )
                else:
                    assert not self.instances
                    self.desired = replace(self.desired, changing=False)
                self.outcomes.append("succeeded")
            case EndHungKeeper(name):
                self.instances[name] = replace(self.instances[name], is_hung=False)
            case Fail() | Cancel():
                self.reasons.append(getattr(action, "reason", ""))
                back = self.desired.fallback
                self.verification = Stage.NONE
                self.desired = replace(
                    self.desired,
                    run=back is not None,
                    target=back or self.desired.target,
                    changing=False,
                    canceling=False,
                )
                self.outcomes.append("failed")
            case MarkNeedsAttention():
                self.desired = replace(self.desired, needs_attention=True)
            case MarkRecovered():
                self.desired = replace(self.desired, needs_attention=False)

    def _assert_may_have_traffic(self, publish: Publish) -> None:
        """Only what served before, or was asked in this change and is whole, gets traffic."""
        share = publish.canary
        for target in (publish.target, *([] if share is None else [share.target])):
            if self.desired.changing and target.revision not in self.served:
                assert target.revision in self.verified
        if share is not None:
            assert 0 < share.percent < 100
            assert share.instances
            assert publish.instances

    def pass_time(self) -> None:
        """What a healthy world does by itself: models load, requests end, changes settle."""
        self.step_s += 1
        target = self.desired.target
        well = [e for e in self.instances.values() if e.phase is READY and not e.is_troubled]
        is_well = sum(each.revision == target.revision for each in well) >= target.instances
        self.unwell_s = 0.0 if is_well else self.unwell_s + 1
        if self.verification is Stage.RUNNING:
            is_good = self.desired.target.revision != "mute"
            self.verification = Stage.DONE if is_good else Stage.FAILED
            if is_good:
                self.verified.add(self.desired.target.revision)
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
        case ("want", count, revision) if not world.desired.changing:
            if revision is None:
                world.desired = replace(world.desired, run=False, changing=True)
            else:
                world.want(revision, count)
        case ("canary", _, is_staged) if not world.desired.changing:
            world.canary = CANARY if is_staged else None
        case ("forget", _, _):
            # Another control plane: what it knows of the change is in the database and the route.
            world.verification, world.step_s = Stage.NONE, 0.0
        case ("cancel", _, _) if world.desired.changing and world.desired.run:
            world.desired = replace(world.desired, canceling=True)
        case _:
            pass


@settings(max_examples=600)
@given(st.lists(st.tuples(FAULTS, st.integers(0, 3)), max_size=40), st.integers(1, 3))
def test_never_below_the_promise_and_always_converging(script, first):
    target = DesiredRevision("a", first, 16, 10)
    world = World(Desired(True, target, changing=True), bad={"bad"})
    for fault, passes in script:
        disturb(world, fault)
        for _ in range(passes):
            world.step()
    # From here on nothing breaks any more: it must come to rest, with what was wanted.
    world.unconfirmed = 0
    world.come_to_rest(40)
    event(f"outcomes {len(world.outcomes)}")
    assert not world.desired.changing
    assert not world.step()
    if not world.desired.run:
        assert world.instances == {}
        assert world.route is None
    elif world.desired.target.revision not in {"bad", "mute"}:
        assert world.in_rotation() == world.desired.target.instances == len(world.instances)
        assert world.route == route(world.desired.target, *world.instances)
        assert not world.desired.needs_attention


WORSE = {"bad", "mute", "erring", "slow"}


@settings(max_examples=300)
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
    world = World(Desired(True, DesiredRevision("a", first, 16, 10), changing=True), bad={"bad"})
    world.come_to_rest(10)
    world.canary = CANARY
    old = set(world.instances)
    world.want(revision, count)
    shares = []
    for number in range(80):
        if not world.desired.changing:
            break
        if number == cancel and world.route.revision == "a":
            world.desired = replace(world.desired, canceling=True)
        if number in forgets:
            world.verification, world.step_s = Stage.NONE, 0.0
        for name in set(world.instances) - old if number in losses else ():
            world.instances[name] = replace(world.instances[name], phase=GONE)
        world.step()
        world.pass_time()
        if world.route.revision == "a":
            assert world.in_rotation() >= first
            assert old <= set(world.instances)
        shares.append(share_of(world.route))
    assert not world.desired.changing
    world.come_to_rest(10)
    is_canceled = world.outcomes[-1] == "failed"
    assert is_canceled or revision not in WORSE
    target = world.desired.target
    assert target.revision == ("a" if is_canceled else revision)
    assert world.route == route(target, *world.instances)
    assert (set(world.instances) == old) is is_canceled
    if not is_canceled:
        assert {5, 25} <= set(shares)


DEATH = "copies keep dying: the last was killed by SIGSEGV"


@settings(max_examples=600)
@given(
    st.booleans(),
    st.integers(1, 3),
    st.integers(0, 12),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_whenever_copies_die_after_they_were_ready_the_change_ends(
    is_update, count, lives, passes, is_staged, all_die
):
    """All instances of the new revision, or the first of them, die so many passes after they were
    ready, and so do those in their place. ``passes`` are made in a unit of time.
    """
    first = "a" if is_update else "dying"
    world = World(Desired(True, DesiredRevision(first, count, 16, 10), changing=True))
    if is_update:
        world.come_to_rest(10)
        world.canary = CANARY if is_staged else None
        world.want("dying", count)
    ages: dict[str, int] = {}
    mortal: set[str] = set()
    for number in range(600):
        if number % passes == 0:
            world.pass_time()
        for name, each in sorted(world.instances.items()):
            if each.revision == "dying" and each.phase is READY:
                ages[name] = ages.get(name, -1) + 1
                if all_die or not any(other in world.instances for other in mortal - {name}):
                    mortal.add(name)
                if name in mortal and ages[name] >= lives:
                    world.instances[name] = replace(each, phase=FAILED, reason=DEATH)
        world.step()
        if is_update and world.route.revision == "a":
            assert len(world.route.instances) == count, "the old revision serves on"
        if not world.desired.changing:
            break
    assert not world.desired.changing
    assert world.reasons in ([], [DEATH])
    event("failed" if world.reasons else "succeeded")


@settings(max_examples=200)
@given(st.booleans(), st.integers(1, 3), st.booleans(), st.booleans())
def test_instances_that_are_never_well_end_the_change_in_time(is_update, count, is_ready, all_are):
    """They start for ever, or are ready without a copy that stays up."""
    world = World(Desired(True, DesiredRevision("a", count, 16, 10), changing=True))
    if is_update:
        world.come_to_rest(10)
        world.want("b", count)
    began = len(world.outcomes)
    spared: set[str] = set()
    for _ in range(START_TIMEOUT_S + 40):
        world.pass_time()
        for name, each in sorted(world.instances.items()):
            if each.revision != world.desired.target.revision or len(world.outcomes) > began:
                continue
            if not all_are and (not spared or name in spared):
                spared.add(name)
            else:
                phase = READY if is_ready else STARTING
                trouble = replace(each, phase=phase, is_troubled=is_ready, reason=DEATH)
                world.instances[name] = trouble
        for _ in range(5):
            world.step()
    assert len(world.outcomes) == began + 1
    if all_are or count > 1:
        assert world.outcomes[-1] == "failed"
        assert DEATH in world.reasons[-1]
        assert str(START_TIMEOUT_S) in world.reasons[-1]
