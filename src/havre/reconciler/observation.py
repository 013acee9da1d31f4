"""What is there now, of one deployment: asked of the engine and the load balancer, never guessed.

`look` asks, `observed_of` makes the planner's input of it. What only shows over time is kept in a
`Memory` for each deployment.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from havre.balancer.base import Balancer
from havre.domain.instance import InstanceStatus
from havre.domain.rollout.canary import RequestStats, StepResult
from havre.domain.rollout.planner import DEAD
from havre.domain.rollout.planner_input import (
    Observed,
    ObservedCanary,
    ObservedInstance,
    ObservedRoute,
    Outcome,
    Stage,
)
from havre.domain.route import Endpoint, Route
from havre.domain.states import InstancePhase
from havre.engines.base import Engine
from havre.reconciler.remembered import BLINK_S, HUNG, CanaryStep, Changing, Memory
from havre.reconciler.snapshot import Snapshot
from havre.settings import Settings


@dataclass(frozen=True, slots=True)
class Observation:
    """``serving`` instances have the traffic, except the canary's share; ``routed`` have any.

    ``active`` counts the load balancer's requests in flight to each instance out of the route that
    is otherwise idle.
    """

    statuses: Mapping[str, InstanceStatus]
    route: Route | None
    is_route_settled: bool
    active: Mapping[str, int]

    @property
    def serving(self) -> frozenset[str]:
        return _serving(self.route)

    @property
    def routed(self) -> frozenset[str]:
        return _routed(self.route)


def look(snapshot: Snapshot, engine: Engine, balancer: Balancer) -> Observation:
    """Raises EngineFault when the engine cannot be asked, Unavailable when the balancer cannot."""
    statuses = {instance_id: engine.inspect(instance_id) for instance_id in snapshot.instances}
    route = balancer.current(snapshot.deployment_id)
    is_route_settled = balancer.is_settled(snapshot.deployment_id)
    routed = _routed(route)
    draining = [
        status.id
        for status in statuses.values()
        if status.id not in routed and status.copies_busy == 0
    ]
    active = balancer.active_requests(draining) if draining else {}
    return Observation(statuses, route, is_route_settled, active)


def observed_of(
    snapshot: Snapshot,
    raw: Observation,
    memory: Memory,
    *,
    preparation: Outcome,
    verification: Outcome,
    settings: Settings,
    now: float,
) -> Observed:
    """The planner's input, and what ``memory`` needs of it for the next pass. No I/O."""
    routed = raw.routed
    memory.observe(raw.statuses.values(), snapshot.instances, routed, now)
    _observe_change(snapshot, routed, memory)
    instances = []
    for instance_id, revision in sorted(snapshot.instances.items()):
        status = raw.statuses[instance_id]
        is_idle = instance_id in routed or (
            status.copies_busy == 0 and raw.active.get(instance_id, 0) == 0
        )
        is_copyless = now - memory.copyless_since.get(instance_id, now) >= BLINK_S
        phase, reason = status.phase, status.reason
        is_on_trial = instance_id not in memory.proven
        is_hung = phase is InstancePhase.READY and memory.is_hung(instance_id, now)
        if is_hung:
            phase = InstancePhase.FAILED if is_on_trial else InstancePhase.DEGRADED
            reason = HUNG
        instances.append(
            ObservedInstance(
                id=instance_id,
                revision=revision,
                phase=phase,
                is_idle=is_idle,
                unrouted_s=now - memory.unrouted_since.get(instance_id, now),
                reason=reason or ("none of its copies is up" if is_copyless else ""),
                is_troubled=is_copyless or (phase is InstancePhase.READY and bool(reason)),
                is_on_trial=is_on_trial,
                is_new=memory.changing is not None and instance_id not in memory.changing.there,
                is_hung=is_hung,
                is_streaming=status.is_streaming,
            )
        )
    return Observed(
        instances=tuple(instances),
        lost=_lost(snapshot, instances, memory),
        unwell_s=_unwell_s(snapshot, instances, memory, preparation.stage, now),
        start_timeout_s=settings.start_timeout_s,
        route=_observed_route(raw.route),
        is_route_settled=raw.is_route_settled,
        preparation=preparation,
        verification=verification,
        backing_off=frozenset(memory.backing_off(now)),
        last_failure=memory.last_failure,
        drain_timeout_s=settings.drain_timeout_s,
        stream_total_s=settings.stream_total_s,
        step_result=_step_result(snapshot, raw, memory, now),
    )


def _observe_change(snapshot: Snapshot, routed: frozenset[str], memory: Memory) -> None:
    if snapshot.change is None:
        memory.changing = None
        return
    if memory.changing is None or memory.changing.change_id != snapshot.change.id:
        memory.changing = Changing(snapshot.change.id)  # it was begun by another control plane
    serving = snapshot.serving_spec
    memory.changing.there |= {
        instance_id
        for instance_id in routed
        if serving and snapshot.instances.get(instance_id) == serving.revision
    }


def _lost(snapshot: Snapshot, instances: Sequence[ObservedInstance], memory: Memory) -> int:
    """How many of the target revision have been in the route, and failed during this change."""
    if memory.changing is None:
        return 0
    target = [instance for instance in instances if instance.revision == snapshot.spec.revision]
    dead = {instance.id for instance in target if instance.phase in DEAD}
    memory.changing.alive |= {instance.id for instance in target} - dead
    memory.changing.lost |= {
        instance.id
        for instance in target
        if instance.phase is InstancePhase.FAILED
        and not instance.is_on_trial
        and instance.id in memory.changing.alive
    }
    return len(memory.changing.lost)


def _unwell_s(
    snapshot: Snapshot,
    instances: Sequence[ObservedInstance],
    memory: Memory,
    preparation: Stage,
    now: float,
) -> float:
    """For how long the target revision has had too few instances that are well."""
    changing = memory.changing
    if changing is None:
        return 0.0
    well = sum(
        instance.revision == snapshot.spec.revision
        and instance.phase is InstancePhase.READY
        and not (instance.is_new and instance.is_troubled)
        for instance in instances
    )
    if well >= snapshot.spec.instance_count or preparation is not Stage.DONE:
        changing.unwell_since = None
        return 0.0
    if changing.unwell_since is None:
        changing.unwell_since = now
    return now - changing.unwell_since


def _step_result(snapshot: Snapshot, raw: Observation, memory: Memory, now: float) -> StepResult:
    """What both revisions have done since the canary's present step began."""
    canary = None if raw.route is None else raw.route.canary
    if canary is None:
        memory.step = None
        return StepResult()
    change_id = "" if snapshot.change is None else snapshot.change.id
    key = (change_id, canary.revision, canary.percent)
    if memory.step is None or memory.step.key != key:
        memory.step = CanaryStep(key, now)
    before = memory.step.before

    def done_by(instances: frozenset[str]) -> RequestStats:
        done = RequestStats()
        for instance_id in instances & raw.statuses.keys():
            status = raw.statuses[instance_id]
            if status.phase is not InstancePhase.READY:
                continue  # its figures are from before its keeper died
            total = RequestStats(
                status.answered, status.failed, status.latency, status.in_hand_s, status.copies
            )
            done = done.plus(total.minus(before.setdefault(instance_id, total)))
        return done

    new, old = done_by(_instances(canary.endpoints)), done_by(raw.serving)
    return StepResult(now - memory.step.began, new=new, old=old)


def _observed_route(route: Route | None) -> ObservedRoute | None:
    if route is None:
        return None
    return ObservedRoute(
        revision=route.revision,
        instances=_instances(route.endpoints),
        max_requests=route.max_requests,
        bandwidth_mbps=route.bandwidth_mbps,
        is_idempotent=route.is_idempotent,
        canary=None
        if route.canary is None
        else ObservedCanary(
            revision=route.canary.revision,
            instances=_instances(route.canary.endpoints),
            max_requests=route.canary.max_requests,
            percent=route.canary.percent,
        ),
    )


def _serving(route: Route | None) -> frozenset[str]:
    return _instances(() if route is None else route.endpoints)


def _routed(route: Route | None) -> frozenset[str]:
    canary = None if route is None else route.canary
    return _serving(route) | _instances(() if canary is None else canary.endpoints)


def _instances(endpoints: Iterable[Endpoint]) -> frozenset[str]:
    return frozenset(endpoint.instance_id for endpoint in endpoints)
