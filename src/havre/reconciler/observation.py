"""What is there now, of one deployment: asked of the engine and the load balancer, never guessed.

A `Memory` per deployment keeps the few things that only time tells: since when an instance is out
of the route, how often starts have failed. It may be lost at any time; waiting then starts anew.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from havre.balancer.base import Balancer
from havre.domain.instance import InstanceStatus
from havre.domain.rollout import Preparation, Seen, SeenInstance, SeenRoute
from havre.domain.route import Route
from havre.domain.states import InstancePhase
from havre.engines.base import Engine
from havre.reconciler.snapshot import Snapshot

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
PROVEN_S = 60.0
"""An instance that has been ready for this long clears the record of failures, and is replaced at
once when it fails after all; one that fails younger makes the next start wait, longer each time."""

BLINK_S = 2.0
"""A copy that died is back long before: an instance without copies for so long is in trouble."""


@dataclass(slots=True)
class Memory:
    """Monotonic seconds throughout."""

    unrouted_since: dict[str, float] = field(default_factory=dict)
    ready_since: dict[str, float] = field(default_factory=dict)
    copyless_since: dict[str, float] = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)
    proven: set[str] = field(default_factory=set)
    """Instances that say nothing of the present change if they fail: they were there before it, or
    have been in the route."""
    failed: set[str] = field(default_factory=set)
    failures: int = 0
    last_failure: str = ""
    start_again_at: float = 0.0
    quiet_passes: int = 0
    trouble_since: float | None = None

    def observe(
        self, statuses: Iterable[InstanceStatus], routed: frozenset[str], now: float
    ) -> None:
        """Take note of what a look brought; before the planner is asked."""
        self.proven |= routed
        known, failed_young = set(), False
        for status in statuses:
            known.add(status.id)
            if status.id in routed:
                self.unrouted_since.pop(status.id, None)
            else:
                self.unrouted_since.setdefault(status.id, now)
            if status.phase is InstancePhase.READY and status.copies_ready == 0:
                self.copyless_since.setdefault(status.id, now)
            else:
                self.copyless_since.pop(status.id, None)
            if status.phase is InstancePhase.READY:
                ready_s = now - self.ready_since.setdefault(status.id, now)
                if ready_s > PROVEN_S:
                    self.failures = 0
            elif status.phase is InstancePhase.FAILED and status.id not in self.failed:
                self.failed.add(status.id)
                self.last_failure = status.reason
                failed_young |= now - self.ready_since.get(status.id, now) <= PROVEN_S
        if failed_young:
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self.failures)
            self.failures += 1
            self.start_again_at = now + pause
        for table in (self.unrouted_since, self.ready_since, self.copyless_since):
            for gone in set(table) - known:
                del table[gone]
        self.announced &= known
        self.proven &= known
        self.failed &= known


@dataclass(frozen=True, slots=True)
class Observation:
    statuses: dict[str, InstanceStatus]
    route: Route | None
    is_route_settled: bool

    @property
    def routed(self) -> frozenset[str]:
        if self.route is None:
            return frozenset()
        return frozenset(endpoint.instance_id for endpoint in self.route.endpoints)


def look(snapshot: Snapshot, engine: Engine, balancer: Balancer) -> Observation:
    """Raises EngineFault when the engine cannot be asked."""
    return Observation(
        {instance_id: engine.inspect(instance_id) for instance_id in snapshot.instances},
        balancer.current(snapshot.deployment_id),
        balancer.is_settled(snapshot.deployment_id),
    )


def seen(
    snapshot: Snapshot,
    observation: Observation,
    memory: Memory,
    balancer: Balancer,
    *,
    preparation: Preparation,
    preparation_reason: str,
    drain_timeout_s: float,
    now: float,
) -> Seen:
    """The planner's observation."""
    routed = observation.routed
    memory.observe(observation.statuses.values(), routed, now)
    instances = []
    for instance_id, revision in sorted(snapshot.instances.items()):
        status = observation.statuses[instance_id]
        is_idle = instance_id in routed or (
            status.copies_busy == 0 and balancer.active_requests(instance_id) == 0
        )
        is_copyless = now - memory.copyless_since.get(instance_id, now) >= BLINK_S
        instances.append(
            SeenInstance(
                id=instance_id,
                revision=revision,
                phase=status.phase,
                is_idle=is_idle,
                unrouted_s=now - memory.unrouted_since.get(instance_id, now),
                reason=status.reason or ("none of its copies is up" if is_copyless else ""),
                is_troubled=is_copyless
                or (status.phase is InstancePhase.READY and bool(status.reason)),
                is_on_trial=instance_id not in memory.proven,
            )
        )
    return Seen(
        instances=tuple(instances),
        route=_seen_route(observation.route),
        is_route_settled=observation.is_route_settled,
        preparation=preparation,
        preparation_reason=preparation_reason,
        may_start=now >= memory.start_again_at,
        last_failure=memory.last_failure,
        drain_timeout_s=drain_timeout_s,
    )


def _seen_route(route: Route | None) -> SeenRoute | None:
    if route is None:
        return None
    return SeenRoute(
        revision=route.revision,
        instances=frozenset(endpoint.instance_id for endpoint in route.endpoints),
        max_requests=route.max_requests,
        bandwidth_mbps=route.bandwidth_mbps,
    )
