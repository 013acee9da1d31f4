"""The planner: what to do next so that a deployment becomes what is desired.

Pure: desired and observed in, a list of actions out. Each pass takes one step and the next pass
observes again, so a crash between any two actions only means another pass. Zero downtime is one
ordering:

    start new -> ready -> checked -> route in, route out old -> drained -> stop old

and it holds because of two rules that a property test watches: nothing that is in the route and
answers is ever stopped, and traffic goes to another revision only when all its instances are ready
and one of them has passed its check. With a canary it goes there in steps.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from havre.domain.rollout.actions import (
    Action,
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
from havre.domain.rollout.canary import (
    is_step_done,
    step_done_note,
    step_start_note,
    violated_limit,
)
from havre.domain.rollout.planner_input import (
    Desired,
    DesiredRevision,
    Observed,
    ObservedCanary,
    ObservedInstance,
    Stage,
)
from havre.domain.states import InstancePhase

SETTLE_S = 0.5
"""How long an instance out of the route is left alone: the balancer's threads take a changed route
over one by one, a few milliseconds after it is confirmed."""

SERVING = frozenset({InstancePhase.READY, InstancePhase.DEGRADED})
COMING_UP = frozenset({InstancePhase.READY, InstancePhase.STARTING})
DEAD = frozenset({InstancePhase.FAILED, InstancePhase.GONE})
MAX_LOSSES = 2
"""A change fails once it has lost more than this many times the instances that it asks for."""
START_MARGIN_S = 5.0
"""Added to the time that an instance has to become ready, so that its own reason comes first."""
ALL = 100
"""Percent."""


@dataclass(slots=True)
class _Plan:
    actions: list[Action] = field(default_factory=list)

    def add(self, *actions: Action) -> None:
        self.actions.extend(actions)


def plan(desired: Desired, observed: Observed) -> list[Action]:
    """The next actions, in the order they are to be carried out; empty: wait, or all is well."""
    result = _Plan()
    if not desired.run:
        _wind_down(desired, observed, result)
        return result.actions
    is_switched = observed.route is not None and observed.route.revision == desired.target.revision
    if desired.changing and (ending := _abort_action(desired, observed, is_switched)) is not None:
        return [*_withdraw_canary(desired, observed), ending]
    result.add(*(EndHungKeeper(instance.id) for instance in observed.instances if instance.is_hung))
    if observed.preparation.stage is Stage.NONE:
        result.add(Prepare())
    if observed.preparation.stage is Stage.DONE:
        result.add(*_starts(desired.target, observed))
    if is_switched:
        _keep_serving(desired.target, observed, result)
    else:
        if desired.fallback is not None and desired.fallback.revision != desired.target.revision:
            result.add(*_starts(desired.fallback, observed))
        _switch_when_ready(desired, observed, result)
    if not result.actions:
        _finish(desired, observed, result)
    return result.actions


def _wind_down(desired: Desired, observed: Observed, result: _Plan) -> None:
    if observed.route is not None or not observed.is_route_settled:
        result.add(Withdraw())
        return
    result.add(*_stops(observed.instances, observed))
    if not observed.instances and desired.changing:
        result.add(Succeed())


def _abort_action(desired: Desired, observed: Observed, is_switched: bool) -> Action | None:
    """Cancels or fails the change, before its target is in the route in full."""
    target, fallback = desired.target, desired.fallback
    canary = _canary_of(target, observed)
    is_rescaled = fallback is not None and (
        fallback.revision == target.revision and fallback != target
    )
    if desired.canceling and (not is_switched or is_rescaled):
        return Cancel()
    if observed.preparation.stage is Stage.FAILED:
        return Fail(observed.preparation.reason)
    if observed.verification.stage is Stage.FAILED and not is_switched:
        return Fail(observed.verification.reason)
    for instance in _of(target, observed):
        # One that died after it had been in the route is replaced; one that never came up, or died
        # while it had the canary's share, fails the change.
        on_trial = instance.is_on_trial and not _is_routed(instance, observed)
        in_canary = canary is not None and instance.id in canary.instances
        if instance.phase is InstancePhase.FAILED and (on_trial or in_canary):
            return Fail(instance.reason or "an instance did not become ready")
    if observed.lost > MAX_LOSSES * target.instances:
        return Fail(_why_not_well(target, observed))
    if observed.unwell_s >= observed.start_timeout_s + START_MARGIN_S:
        return Fail(
            f"not all instances were ready within {observed.start_timeout_s:g} s: "
            f"{_why_not_well(target, observed)}"
        )
    if canary is not None and desired.canary is not None:
        reason = violated_limit(desired.canary, observed.step_result, canary.percent)
        return Fail(reason) if reason else None
    return None


def _withdraw_canary(desired: Desired, observed: Observed) -> list[Action]:
    """A canary's share of the traffic goes back before the change is recorded as ended."""
    fallback = desired.fallback
    if fallback is None or observed.route is None or observed.route.canary is None:
        return []
    if observed.route.revision != fallback.revision:
        return []
    return [Publish(fallback, _route_members(fallback, observed))]


def _starts(revision: DesiredRevision, observed: Observed) -> list[Action]:
    coming = sum(instance.phase in COMING_UP for instance in _of(revision, observed))
    if coming >= revision.instances or revision.revision in observed.backing_off:
        return []
    return [Start(revision.revision, revision.instances - coming)]


def _keep_serving(target: DesiredRevision, observed: Observed, result: _Plan) -> None:
    """The route has the target revision: repair it, grow or shrink it, and stop the rest."""
    publish = Publish(target, _route_members(target, observed))
    if _differs(publish, observed):
        result.add(publish)
        return
    unrouted = [instance for instance in observed.instances if instance.id not in publish.instances]
    keep = _still_needed(target, observed, len(publish.instances))
    result.add(*_stops([instance for instance in unrouted if instance.id not in keep], observed))


def _switch_when_ready(desired: Desired, observed: Observed, result: _Plan) -> None:
    """The route has another revision, or there is none yet."""
    target, fallback = desired.target, desired.fallback
    ready = [
        instance for instance in _of(target, observed) if instance.phase is InstancePhase.READY
    ]
    if desired.changing and ready and observed.verification.stage is Stage.NONE:
        result.add(Verify(min(instance.id for instance in ready)))
    is_verified = not desired.changing or observed.verification.stage is Stage.DONE
    percent = _percent(
        desired, observed, may_continue=is_verified and len(ready) >= target.instances
    )
    if percent == ALL:
        notes = _step_notes(desired, percent, observed)
        result.add(Publish(target, _route_members(target, observed), notes=notes))
        return
    route = observed.route
    if fallback is not None and route is not None and route.revision == fallback.revision:
        publish = _shared(desired, fallback, percent, observed)
        if _differs(publish, observed):
            result.add(publish)
            return
    needed = {target.revision} | ({fallback.revision} if fallback is not None else set())
    result.add(
        *_stops(
            [
                instance
                for instance in observed.instances
                if instance.phase in DEAD
                or (observed.is_route_settled and instance.revision not in needed)
            ],
            observed,
        )
    )


def _percent(desired: Desired, observed: Observed, *, may_continue: bool) -> int:
    """The share of the traffic that the target revision should have now.

    Where no other revision serves it gets everything at once.
    """
    canary, fallback = desired.canary, desired.fallback
    live = _canary_of(desired.target, observed)
    now = 0 if live is None else live.percent
    if not may_continue:
        return now
    if (
        canary is None
        or not desired.changing
        or fallback is None
        or not _route_members(fallback, observed)
    ):
        return ALL
    if observed.route is None or observed.route.revision != fallback.revision:
        return ALL
    if live is not None and not is_step_done(canary, observed.step_result, now):
        return now
    return canary.after(now)


def _shared(
    desired: Desired, fallback: DesiredRevision, percent: int, observed: Observed
) -> Publish:
    """The route of the revision that serves, with this share for the target."""
    chosen = _route_members(desired.target, observed)
    canary = Share(desired.target, chosen, percent) if percent and chosen else None
    notes = _step_notes(desired, percent, observed)
    return Publish(fallback, _route_members(fallback, observed), canary, notes)


def _step_notes(desired: Desired, percent: int, observed: Observed) -> tuple[str, ...]:
    live = _canary_of(desired.target, observed)
    if desired.canary is None or percent == (0 if live is None else live.percent):
        return ()
    done = () if live is None else (step_done_note(live.percent, observed.step_result),)
    if percent == ALL:
        return done
    return (*done, step_start_note(percent, desired.canary.pause_of(percent)))


def _finish(desired: Desired, observed: Observed, result: _Plan) -> None:
    """Nothing is left to do, or only to wait for: has the change succeeded?"""
    if observed.route is None or observed.route.revision != desired.target.revision:
        if not desired.changing and not desired.needs_attention:
            result.add(MarkNeedsAttention(_why_not_serving(observed)))
        return
    answering = [
        instance
        for instance in observed.instances
        if _is_routed(instance, observed) and instance.phase in SERVING
    ]
    is_well = any(not instance.is_troubled for instance in answering)
    if desired.changing:
        # Instances in trouble from before the change do not count against it.
        if sum(not (instance.is_new and instance.is_troubled) for instance in answering) >= (
            desired.target.instances
        ):
            result.add(Succeed())
    elif not is_well and not desired.needs_attention:
        result.add(MarkNeedsAttention(_why_not_serving(observed)))
    elif is_well and desired.needs_attention:
        result.add(MarkRecovered())


def _route_members(revision: DesiredRevision, observed: Observed) -> tuple[str, ...]:
    """The instances that should be in the route: ready ones first, of those the ones already in it;
    ones that only answer fill the gaps until their replacements are ready.
    """
    answering = [instance for instance in _of(revision, observed) if instance.phase in SERVING]
    answering.sort(
        key=lambda instance: (
            instance.phase is not InstancePhase.READY,
            not _is_routed(instance, observed),
            instance.id,
        )
    )
    return tuple(sorted(instance.id for instance in answering[: revision.instances]))


def _differs(publish: Publish, observed: Observed) -> bool:
    return not observed.is_route_settled or observed.route != publish.as_observed


def _still_needed(target: DesiredRevision, observed: Observed, in_route: int) -> set[str]:
    """Instances of the target that are starting, up to the number that is still missing."""
    starting = [
        instance for instance in _of(target, observed) if instance.phase is InstancePhase.STARTING
    ]
    ready = sum(
        instance.phase is InstancePhase.READY and _is_routed(instance, observed)
        for instance in _of(target, observed)
    )
    room = max(0, target.instances - min(ready, in_route))
    return {instance.id for instance in sorted(starting, key=lambda instance: instance.id)[:room]}


def _stops(instances: Iterable[ObservedInstance], observed: Observed) -> list[Action]:
    actions: list[Action] = []
    for instance in instances:
        if _is_routed(instance, observed):
            continue
        if instance.phase in DEAD:
            actions.append(Stop(instance.id, instance.reason or "it is dead"))
        elif instance.is_idle and instance.unrouted_s >= SETTLE_S:
            actions.append(Stop(instance.id, "drained"))
        elif instance.unrouted_s >= (limit_s := _drain_limit_s(instance, observed)):
            actions.append(Stop(instance.id, f"not drained in {limit_s:g} s"))
    return actions


def _drain_limit_s(instance: ObservedInstance, observed: Observed) -> float:
    if instance.is_streaming:
        return max(observed.drain_timeout_s, observed.stream_total_s)
    return observed.drain_timeout_s


def _why_not_serving(observed: Observed) -> str:
    if observed.preparation.stage is Stage.FAILED:
        return observed.preparation.reason
    reasons = [instance.reason for instance in observed.instances if instance.reason]
    return (reasons or [observed.last_failure])[0] or "no instance answers; it is being replaced"


def _why_not_well(target: DesiredRevision, observed: Observed) -> str:
    reasons = [instance.reason for instance in _of(target, observed) if instance.reason]
    return (reasons or [observed.last_failure])[0] or "no reason is known"


def _of(revision: DesiredRevision, observed: Observed) -> list[ObservedInstance]:
    return [instance for instance in observed.instances if instance.revision == revision.revision]


def _canary_of(revision: DesiredRevision, observed: Observed) -> ObservedCanary | None:
    """The canary's part of the route, if it is this revision's."""
    canary = None if observed.route is None else observed.route.canary
    return canary if canary is not None and canary.revision == revision.revision else None


def _is_routed(instance: ObservedInstance, observed: Observed) -> bool:
    route = observed.route
    if route is None:
        return False
    return instance.id in route.instances or (
        route.canary is not None and instance.id in route.canary.instances
    )
