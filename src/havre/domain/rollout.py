"""The rollout planner: what to do next so that a deployment becomes what is wanted.

Pure: a wish and an observation in, a list of actions out. Each pass takes a step and the next looks
afresh, so a crash between any two actions is only a later pass. Zero downtime is one ordering:

    start new -> ready -> checked -> route in, route out old -> drained -> stop old

and it holds because of two rules that a property test watches: nothing that is in the route and
answers is ever stopped, and traffic goes to another revision only when all its instances are ready
and one of them has answered what it is checked with. With a canary it goes there in steps.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from havre.domain.actions import (
    Action,
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
from havre.domain.canary import exceeded, step_begins, step_over
from havre.domain.observed import (
    Goal,
    Preparation,
    Seen,
    SeenCanary,
    SeenInstance,
    Verification,
    Wanted,
)
from havre.domain.states import InstancePhase

SETTLE_S = 0.5
"""How long an instance out of the route is left alone: the balancer's threads take a changed route
over one by one, a few milliseconds after it is confirmed."""

ANSWERS = frozenset({InstancePhase.READY, InstancePhase.DEGRADED})
COMES_UP = frozenset({InstancePhase.READY, InstancePhase.STARTING})
DEAD = frozenset({InstancePhase.FAILED, InstancePhase.GONE})
ALL = 100
"""Percent."""


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
        return [*_take_back(wanted, seen), ending]
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
    """Calling off, or failing, before what is wanted is in the route in full."""
    goal, fallback, canary = wanted.goal, wanted.fallback, _canary_of(wanted.goal, seen)
    other_numbers = fallback is not None and (
        fallback.revision == goal.revision and fallback != goal
    )
    if wanted.canceling and (not is_switched or other_numbers):
        return Cancel()
    if seen.preparation is Preparation.FAILED:
        return Fail(seen.preparation_reason)
    if seen.verification is Verification.FAILED and not is_switched:
        return Fail(seen.verification_reason)
    for instance in _of(goal, seen):
        # One that was in rotation and died is repaired; one that never came up, or died while it
        # had the canary's share, condemns the change.
        on_trial = instance.is_on_trial and not _is_routed(instance, seen)
        in_canary = canary is not None and instance.id in canary.instances
        if instance.phase is InstancePhase.FAILED and (on_trial or in_canary):
            return Fail(instance.reason or "an instance did not become ready")
    if canary is not None and wanted.canary is not None:
        reason = exceeded(wanted.canary, seen.trial)
        return Fail(reason) if reason else None
    return None


def _take_back(wanted: Wanted, seen: Seen) -> list[Action]:
    """A canary's share goes back before the end of the change is told."""
    fallback = wanted.fallback
    if fallback is None or seen.route is None or seen.route.canary is None:
        return []
    if seen.route.revision != fallback.revision:
        return []
    return [Publish(fallback, _choose(fallback, seen))]


def _starts(goal: Goal, seen: Seen) -> list[Action]:
    coming = sum(instance.phase in COMES_UP for instance in _of(goal, seen))
    if coming >= goal.instances or goal.revision in seen.backing_off:
        return []
    return [Start(goal.revision, goal.instances - coming)]


def _keep_serving(goal: Goal, seen: Seen, result: _Plan) -> None:
    """The route has the wanted revision: repair it, grow or shrink it, and clear away the rest."""
    publish = Publish(goal, _choose(goal, seen))
    if _differs(publish, seen):
        result.add(publish)
        return
    leftovers = [each for each in seen.instances if each.id not in publish.instances]
    keep = _still_coming(goal, seen, len(publish.instances))
    result.add(*_stops([each for each in leftovers if each.id not in keep], seen))


def _switch_when_ready(wanted: Wanted, seen: Seen, result: _Plan) -> None:
    """The route has another revision, or there is none yet."""
    goal, fallback = wanted.goal, wanted.fallback
    ready = [each for each in _of(goal, seen) if each.phase is InstancePhase.READY]
    if wanted.changing and ready and seen.verification is Verification.NONE:
        result.add(Verify(min(each.id for each in ready)))
    is_verified = not wanted.changing or seen.verification is Verification.DONE
    percent = _percent(wanted, seen, may_go_on=is_verified and len(ready) >= goal.instances)
    if percent == ALL:
        result.add(Publish(goal, _choose(goal, seen), notes=_step_notes(wanted, percent, seen)))
        return
    if fallback is not None and seen.route is not None and seen.route.revision == fallback.revision:
        publish = _shared(wanted, fallback, percent, seen)
        if _differs(publish, seen):
            result.add(publish)
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


def _percent(wanted: Wanted, seen: Seen, *, may_go_on: bool) -> int:
    """The share of the traffic that the wanted revision is to have now.

    A revision that has nobody to share with gets everything at once.
    """
    canary, fallback = wanted.canary, wanted.fallback
    live = _canary_of(wanted.goal, seen)
    now = 0 if live is None else live.percent
    if not may_go_on:
        return now
    if canary is None or not wanted.changing or fallback is None or not _choose(fallback, seen):
        return ALL
    if seen.route is None or seen.route.revision != fallback.revision:
        return ALL
    if live is not None and seen.trial.for_s < canary.pause_of(now):
        return now
    return canary.after(now)


def _shared(wanted: Wanted, fallback: Goal, percent: int, seen: Seen) -> Publish:
    """The route of the revision that serves, with this share for the wanted one."""
    chosen = _choose(wanted.goal, seen)
    canary = Share(wanted.goal, chosen, percent) if percent and chosen else None
    notes = _step_notes(wanted, percent, seen)
    return Publish(fallback, _choose(fallback, seen), canary, notes)


def _step_notes(wanted: Wanted, percent: int, seen: Seen) -> tuple[str, ...]:
    live = _canary_of(wanted.goal, seen)
    if wanted.canary is None or percent == (0 if live is None else live.percent):
        return ()
    over = () if live is None else (step_over(live.percent, seen.trial),)
    if percent == ALL:
        return over
    return (*over, step_begins(percent, wanted.canary.pause_of(percent)))


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


def _differs(publish: Publish, seen: Seen) -> bool:
    return not seen.is_route_settled or seen.route != publish.as_seen


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
        elif instance.unrouted_s >= (limit_s := _drain_limit_s(instance, seen)):
            actions.append(Stop(instance.id, f"not drained in {limit_s:g} s"))
    return actions


def _drain_limit_s(instance: SeenInstance, seen: Seen) -> float:
    if instance.is_streaming:
        return max(seen.drain_timeout_s, seen.stream_total_s)
    return seen.drain_timeout_s


def _why_nothing_answers(seen: Seen) -> str:
    if seen.preparation is Preparation.FAILED:
        return seen.preparation_reason
    reasons = [each.reason for each in seen.instances if each.reason]
    return (reasons or [seen.last_failure])[0] or "no instance answers; it is being replaced"


def _of(goal: Goal, seen: Seen) -> list[SeenInstance]:
    return [each for each in seen.instances if each.revision == goal.revision]


def _canary_of(goal: Goal, seen: Seen) -> SeenCanary | None:
    """The canary's part of the route, if it is this revision's."""
    canary = None if seen.route is None else seen.route.canary
    return canary if canary is not None and canary.revision == goal.revision else None


def _is_routed(instance: SeenInstance, seen: Seen) -> bool:
    route = seen.route
    if route is None:
        return False
    return instance.id in route.instances or (
        route.canary is not None and instance.id in route.canary.instances
    )
