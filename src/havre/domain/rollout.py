"""The rollout planner: what to do next so that a deployment becomes what is wanted.

Pure: a wish and an observation in, a list of actions out. Each pass takes a step and the next looks
afresh, so a crash between any two actions is only a later pass. Zero downtime is one ordering:

    start new -> ready -> route in, route out old -> drained -> stop old

and it holds because of two rules that a property test watches: nothing that is in the route and
answers is ever stopped, and traffic goes to another revision only when all its instances are ready.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from havre.domain.states import InstancePhase

SETTLE_S = 0.5
"""How long an instance out of the route is left alone: the balancer's threads take a changed route
over one by one, a few milliseconds after it is confirmed."""

ANSWERS = frozenset({InstancePhase.READY, InstancePhase.DEGRADED})
COMES_UP = frozenset({InstancePhase.READY, InstancePhase.STARTING})
DEAD = frozenset({InstancePhase.FAILED, InstancePhase.GONE})


@dataclass(frozen=True, slots=True)
class Goal:
    """A revision as it should serve."""

    revision: str
    instances: int
    requests_per_instance: int
    bandwidth_mbps: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """``fallback`` is what served last and serves on while ``goal`` comes up; None if nothing does.

    ``changing``: a work request waits for the outcome. ``needs_attention``: the state says so now.
    """

    run: bool
    goal: Goal
    fallback: Goal | None = None
    changing: bool = False
    canceling: bool = False
    needs_attention: bool = False


class Preparation(StrEnum):
    """How far the environment and the artifact of the wanted revision are."""

    NONE = "none"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SeenInstance:
    """``is_idle``: neither the balancer nor the instance itself has a request in it.

    ``unrouted_s`` counts from when it was last seen in the route (or first seen at all).
    ``is_troubled``: it is READY, but its copies do not stay up; ``reason`` says why.
    ``is_on_trial``: it was started for the present change and has not been in the route yet.
    """

    id: str
    revision: str
    phase: InstancePhase
    is_idle: bool = True
    unrouted_s: float = 0.0
    reason: str = ""
    is_troubled: bool = False
    is_on_trial: bool = True


@dataclass(frozen=True, slots=True)
class SeenRoute:
    revision: str
    instances: frozenset[str]
    max_requests: int
    bandwidth_mbps: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there now.

    ``may_start`` is False while a back-off after failures lasts; ``last_failure`` is why the last
    instance that failed did. ``is_route_settled`` is False while the load balancer may yet go over
    from ``route`` to what was last asked of it.
    """

    instances: tuple[SeenInstance, ...] = ()
    route: SeenRoute | None = None
    preparation: Preparation = Preparation.NONE
    preparation_reason: str = ""
    may_start: bool = True
    last_failure: str = ""
    drain_timeout_s: float = 60.0
    is_route_settled: bool = True


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the environment and unpack the artifact of the wanted revision."""


@dataclass(frozen=True, slots=True)
class Start:
    revision: str
    instances: int


@dataclass(frozen=True, slots=True)
class Publish:
    goal: Goal
    instances: tuple[str, ...]

    @property
    def max_requests(self) -> int:
        return self.goal.requests_per_instance * len(self.instances)


@dataclass(frozen=True, slots=True)
class Withdraw:
    pass


@dataclass(frozen=True, slots=True)
class Stop:
    instance_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Succeed:
    """The change is true: record the final state, then the work request."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The change cannot become true: go back to what served, and say why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The change was called off in time: go back to what served."""


@dataclass(frozen=True, slots=True)
class NeedAttention:
    reason: str


@dataclass(frozen=True, slots=True)
class Recover:
    pass


Action = (
    Prepare | Start | Publish | Withdraw | Stop | Succeed | Fail | Cancel | NeedAttention | Recover
)


@dataclass(slots=True)
class _Plan:
    actions: list[Action] = field(default_factory=list)

    def add(self, *actions: Action) -> None:
        self.actions.extend(actions)


def plan(wanted: Wanted, seen: Seen) -> list[Action]:
    """The next actions, in the order they are to be carried out; empty: wait, or all is well."""
    result = _Plan()
    if not wanted.run:
        _wind_down(wanted, seen, result)
        return result.actions
    is_switched = seen.route is not None and seen.route.revision == wanted.goal.revision
    if wanted.changing and (ending := _early_end(wanted, seen, is_switched)) is not None:
        return [ending]
    if seen.preparation is Preparation.NONE:
        result.add(Prepare())
    if seen.preparation is Preparation.DONE:
        result.add(*_starts(wanted.goal, seen))
    if is_switched:
        _keep_serving(wanted.goal, seen, result)
    else:
        if wanted.fallback is not None and wanted.fallback.revision != wanted.goal.revision:
            result.add(*_starts(wanted.fallback, seen))
        _switch_when_ready(wanted, seen, result)
    if not result.actions:
        _finish(wanted, seen, result)
    return result.actions


def _wind_down(wanted: Wanted, seen: Seen, result: _Plan) -> None:
    if seen.route is not None or not seen.is_route_settled:
        result.add(Withdraw())
        return
    result.add(*_stops(seen.instances, seen))
    if not seen.instances and wanted.changing:
        result.add(Succeed())


def _early_end(wanted: Wanted, seen: Seen, is_switched: bool) -> Action | None:
    """Calling off, or failing, before the wanted revision is in the route in full."""
    if wanted.canceling and not is_switched:
        return Cancel()
    if seen.preparation is Preparation.FAILED:
        return Fail(seen.preparation_reason)
    for instance in _of(wanted.goal, seen):
        # One that was in rotation and died is repaired; one that never came up condemns the change.
        if (
            instance.phase is InstancePhase.FAILED
            and instance.is_on_trial
            and not _is_routed(instance, seen)
        ):
            return Fail(instance.reason or "an instance did not become ready")
    return None


def _starts(goal: Goal, seen: Seen) -> list[Action]:
    coming = sum(instance.phase in COMES_UP for instance in _of(goal, seen))
    if coming >= goal.instances or not seen.may_start:
        return []
    return [Start(goal.revision, goal.instances - coming)]


def _keep_serving(goal: Goal, seen: Seen, result: _Plan) -> None:
    """The route has the wanted revision: repair it, grow or shrink it, and clear away the rest."""
    chosen = _choose(goal, seen)
    if _differs(goal, chosen, seen):
        result.add(Publish(goal, chosen))
        return
    leftovers = [instance for instance in seen.instances if instance.id not in chosen]
    keep = _still_coming(goal, seen, len(chosen))
    result.add(*_stops([each for each in leftovers if each.id not in keep], seen))


def _switch_when_ready(wanted: Wanted, seen: Seen, result: _Plan) -> None:
    """The route has another revision, or there is none yet."""
    goal, fallback = wanted.goal, wanted.fallback
    ready = [each for each in _of(goal, seen) if each.phase is InstancePhase.READY]
    if len(ready) >= goal.instances:
        result.add(Publish(goal, _choose(goal, seen)))
        return
    if fallback is not None and seen.route is not None and seen.route.revision == fallback.revision:
        chosen = _choose(fallback, seen)
        if _differs(fallback, chosen, seen):
            result.add(Publish(fallback, chosen))
            return
    needed = {goal.revision} | ({fallback.revision} if fallback is not None else set())
    result.add(
        *_stops(
            [
                each
                for each in seen.instances
                if each.phase in DEAD or (seen.is_route_settled and each.revision not in needed)
            ],
            seen,
        )
    )


def _finish(wanted: Wanted, seen: Seen, result: _Plan) -> None:
    """Nothing is left to do or everything is waited for: is the outcome there?"""
    if seen.route is None or seen.route.revision != wanted.goal.revision:
        if not wanted.changing and not wanted.needs_attention:
            result.add(NeedAttention(_why_nothing_answers(seen)))
        return
    answering = [
        each for each in seen.instances if _is_routed(each, seen) and each.phase in ANSWERS
    ]
    is_well = any(not each.is_troubled for each in answering)
    if wanted.changing:
        if len(answering) >= wanted.goal.instances:
            result.add(Succeed())
    elif not is_well and not wanted.needs_attention:
        result.add(NeedAttention(_why_nothing_answers(seen)))
    elif is_well and wanted.needs_attention:
        result.add(Recover())


def _choose(goal: Goal, seen: Seen) -> tuple[str, ...]:
    """Who should be in the route: ready ones first, those already in it before others; ones that
    only answer fill the gaps until their replacements are ready.
    """
    answering = [each for each in _of(goal, seen) if each.phase in ANSWERS]
    answering.sort(
        key=lambda each: (
            each.phase is not InstancePhase.READY,
            not _is_routed(each, seen),
            each.id,
        )
    )
    return tuple(sorted(each.id for each in answering[: goal.instances]))


def _differs(goal: Goal, chosen: tuple[str, ...], seen: Seen) -> bool:
    route = seen.route
    assert route is not None
    return (
        not seen.is_route_settled
        or route.instances != set(chosen)
        or route.bandwidth_mbps != goal.bandwidth_mbps
        or route.max_requests != Publish(goal, chosen).max_requests
    )


def _still_coming(goal: Goal, seen: Seen, in_route: int) -> set[str]:
    """Instances of the goal on their way up that its number still has room for."""
    starting = [each for each in _of(goal, seen) if each.phase is InstancePhase.STARTING]
    ready = sum(
        each.phase is InstancePhase.READY and _is_routed(each, seen) for each in _of(goal, seen)
    )
    room = max(0, goal.instances - min(ready, in_route))
    return {each.id for each in sorted(starting, key=lambda each: each.id)[:room]}


def _stops(instances: Iterable[SeenInstance], seen: Seen) -> list[Action]:
    actions: list[Action] = []
    for instance in instances:
        if _is_routed(instance, seen):
            continue
        if instance.phase in DEAD:
            actions.append(Stop(instance.id, instance.reason or "it is dead"))
        elif instance.is_idle and instance.unrouted_s >= SETTLE_S:
            actions.append(Stop(instance.id, "drained"))
        elif instance.unrouted_s >= seen.drain_timeout_s:
            actions.append(Stop(instance.id, f"not drained in {seen.drain_timeout_s:g} s"))
    return actions


def _why_nothing_answers(seen: Seen) -> str:
    if seen.preparation is Preparation.FAILED:
        return seen.preparation_reason
    reasons = [each.reason for each in seen.instances if each.reason]
    return (reasons or [seen.last_failure])[0] or "no instance answers; it is being replaced"


def _of(goal: Goal, seen: Seen) -> list[SeenInstance]:
    return [each for each in seen.instances if each.revision == goal.revision]


def _is_routed(instance: SeenInstance, seen: Seen) -> bool:
    return seen.route is not None and instance.id in seen.route.instances
