"""What is there now, of one deployment: asked of the engine and the load balancer, never guessed.

A `Memory` per deployment keeps the few things that only time tells: since when an instance is out
of the route, how often starts have failed, when the canary's step began. It may be lost at any
time; waiting then starts anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from havre.balancer.base import Balancer
from havre.domain.canary import Tally, Trial
from havre.domain.instance import InstanceStatus
from havre.domain.observed import (
    Preparation,
    Seen,
    SeenCanary,
    SeenInstance,
    SeenRoute,
    Verification,
)
from havre.domain.route import Endpoint, Route
from havre.domain.states import InstancePhase
from havre.engines.base import Engine
from havre.reconciler.snapshot import Snapshot
from havre.settings import Settings

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
PROVEN_S = 60.0
"""An instance that has been ready for this long clears the record of failures, and is replaced at
once when it fails after all; one that fails younger makes the next start wait, longer each time."""

BLINK_S = 2.0
"""A copy that died is back long before: an instance without copies for so long is in trouble."""

SILENT_S = 60.0
"""A keeper that has answered nobody for so long hangs: its copies get no new connections. However
busy the machine is, a keeper gets to answer in less."""


@dataclass(slots=True)
class BackOff:
    """Starts of one revision that failed in a row, and until when none is tried again."""

    failures: int = 0
    until: float = 0.0


@dataclass(slots=True)
class CanaryStep:
    """Since when a share is live, and what each instance had answered before."""

    key: tuple[str, str, int]  # change, revision, percent
    began: float
    before: dict[str, Tally] = field(default_factory=dict)


@dataclass(slots=True)
class Memory:
    """Monotonic seconds throughout."""

    unrouted_since: dict[str, float] = field(default_factory=dict)
    ready_since: dict[str, float] = field(default_factory=dict)
    copyless_since: dict[str, float] = field(default_factory=dict)
    silent_since: dict[str, float] = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)
    proven: set[str] = field(default_factory=set)
    """Instances that say nothing of the present change if they fail: they were there before it, or
    have been in the route."""
    failed: set[str] = field(default_factory=set)
    last_failure: str = ""
    back_offs: dict[str, BackOff] = field(default_factory=dict)
    step: CanaryStep | None = None
    quiet_passes: int = 0
    trouble_since: float | None = None

    def observe(
        self,
        statuses: Iterable[InstanceStatus],
        revisions: Mapping[str, str],
        routed: frozenset[str],
        now: float,
    ) -> None:
        """Take note of what a look brought; before the planner is asked."""
        self.proven |= routed
        known: set[str] = set()
        failed_young: set[str] = set()
        for status in statuses:
            known.add(status.id)
            is_ready = status.phase is InstancePhase.READY
            for since, is_so in (
                (self.unrouted_since, status.id not in routed),
                (self.copyless_since, is_ready and status.copies_ready == 0),
                (self.silent_since, status.is_silent),
            ):
                if is_so:
                    since.setdefault(status.id, now)
                else:
                    since.pop(status.id, None)
            if is_ready:
                ready_s = now - self.ready_since.setdefault(status.id, now)
                if ready_s > PROVEN_S:
                    self.back_offs.pop(revisions[status.id], None)
            elif status.phase is InstancePhase.FAILED and status.id not in self.failed:
                self.failed.add(status.id)
                self.last_failure = status.reason
                if now - self.ready_since.get(status.id, now) <= PROVEN_S:
                    failed_young.add(revisions[status.id])
        for revision in failed_young:
            back_off = self.back_offs.setdefault(revision, BackOff())
            back_off.until = now + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**back_off.failures)
            back_off.failures += 1
        for revision in set(self.back_offs) - set(revisions.values()):
            if now - self.back_offs[revision].until > PROVEN_S:
                del self.back_offs[revision]  # nobody wants it any more
        for table in (
            self.unrouted_since,
            self.ready_since,
            self.copyless_since,
            self.silent_since,
        ):
            for gone in set(table) - known:
                del table[gone]
        self.announced &= known
        self.proven &= known
        self.failed &= known

    def start_at_once(self, revision: str) -> None:
        """Whatever made its starts fail may be mended."""
        if revision in self.back_offs:
            self.back_offs[revision].until = 0.0

    def is_hung(self, instance_id: str, now: float) -> bool:
        return now - self.silent_since.get(instance_id, now) >= SILENT_S

    def backing_off(self, now: float) -> dict[str, float]:
        """Seconds to wait, by revision."""
        waits = {revision: each.until - now for revision, each in self.back_offs.items()}
        return {revision: seconds for revision, seconds in waits.items() if seconds > 0}


@dataclass(frozen=True, slots=True)
class Observation:
    """``serving`` instances have the traffic, but for the canary's; ``routed`` are all of them."""

    statuses: dict[str, InstanceStatus]
    route: Route | None
    is_route_settled: bool

    @property
    def serving(self) -> frozenset[str]:
        return _instances(() if self.route is None else self.route.endpoints)

    @property
    def routed(self) -> frozenset[str]:
        canary = None if self.route is None else self.route.canary
        return self.serving | _instances(() if canary is None else canary.endpoints)


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
    verification: Verification,
    verification_reason: str,
    settings: Settings,
    now: float,
) -> Seen:
    """The planner's observation."""
    routed = observation.routed
    memory.observe(observation.statuses.values(), snapshot.instances, routed, now)
    instances = []
    for instance_id, revision in sorted(snapshot.instances.items()):
        status = observation.statuses[instance_id]
        is_idle = instance_id in routed or (
            status.copies_busy == 0 and balancer.active_requests(instance_id) == 0
        )
        is_copyless = now - memory.copyless_since.get(instance_id, now) >= BLINK_S
        phase, reason = status.phase, status.reason
        if phase is InstancePhase.READY and memory.is_hung(instance_id, now):
            phase, reason = InstancePhase.DEGRADED, "its keeper does not answer"
        instances.append(
            SeenInstance(
                id=instance_id,
                revision=revision,
                phase=phase,
                is_idle=is_idle,
                unrouted_s=now - memory.unrouted_since.get(instance_id, now),
                reason=reason or ("none of its copies is up" if is_copyless else ""),
                is_troubled=is_copyless or (phase is InstancePhase.READY and bool(reason)),
                is_on_trial=instance_id not in memory.proven,
                is_streaming=0 < status.streaming >= status.copies_busy,
            )
        )
    return Seen(
        instances=tuple(instances),
        route=_seen_route(observation.route),
        is_route_settled=observation.is_route_settled,
        preparation=preparation,
        preparation_reason=preparation_reason,
        verification=verification,
        verification_reason=verification_reason,
        backing_off=frozenset(memory.backing_off(now)),
        last_failure=memory.last_failure,
        drain_timeout_s=settings.drain_timeout_s,
        stream_total_s=settings.stream_total_s,
        trial=_trial(snapshot, observation, memory, now),
    )


def _trial(snapshot: Snapshot, observation: Observation, memory: Memory, now: float) -> Trial:
    """What both revisions have done since the canary's present step began."""
    canary = None if observation.route is None else observation.route.canary
    if canary is None:
        memory.step = None
        return Trial()
    change_id = "" if snapshot.change is None else snapshot.change.id
    key = (change_id, canary.revision, canary.percent)
    if memory.step is None or memory.step.key != key:
        memory.step = CanaryStep(key, now)
    before = memory.step.before

    def done_by(instances: frozenset[str]) -> Tally:
        done = Tally()
        for instance_id in instances & observation.statuses.keys():
            status = observation.statuses[instance_id]
            if status.phase is not InstancePhase.READY:
                continue  # its counts are from before its keeper died
            tally = Tally(status.answered, status.failed, status.latency)
            done = done.plus(tally.minus(before.setdefault(instance_id, tally)))
        return done

    new, old = done_by(_instances(canary.endpoints)), done_by(observation.serving)
    return Trial(now - memory.step.began, new=new, old=old)


def _seen_route(route: Route | None) -> SeenRoute | None:
    if route is None:
        return None
    return SeenRoute(
        revision=route.revision,
        instances=_instances(route.endpoints),
        max_requests=route.max_requests,
        bandwidth_mbps=route.bandwidth_mbps,
        is_idempotent=route.is_idempotent,
        canary=None
        if route.canary is None
        else SeenCanary(
            revision=route.canary.revision,
            instances=_instances(route.canary.endpoints),
            max_requests=route.canary.max_requests,
            percent=route.canary.percent,
        ),
    )


def _instances(endpoints: Iterable[Endpoint]) -> frozenset[str]:
    return frozenset(endpoint.instance_id for endpoint in endpoints)
