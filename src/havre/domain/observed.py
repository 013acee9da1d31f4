"""What the rollout planner is told: what is wanted, and what is there."""

from dataclasses import dataclass, field
from enum import StrEnum

from havre.domain.canary import Trial
from havre.domain.policy import Canary
from havre.domain.states import InstancePhase


@dataclass(frozen=True, slots=True)
class Goal:
    """A revision as it should serve."""

    revision: str
    instances: int
    requests_per_instance: int
    bandwidth_mbps: int
    is_idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """``fallback`` is what served last and serves on while ``goal`` comes up; None if nothing does.

    ``changing``: a work request waits for the outcome. ``needs_attention``: the state says so now.
    ``canary``: how traffic goes from ``fallback`` to ``goal``; None: all at once.
    """

    run: bool
    goal: Goal
    fallback: Goal | None = None
    changing: bool = False
    canceling: bool = False
    needs_attention: bool = False
    canary: Canary | None = None


class Preparation(StrEnum):
    """How far the environment and the artifact of the wanted revision are."""

    NONE = "none"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Verification(StrEnum):
    """How far the check of the wanted revision is, the replay of live requests included.

    DONE also where there was nothing to ask; NONE where nobody has begun, or it is not known.
    """

    NONE = "none"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SeenInstance:
    """``is_idle``: neither the balancer nor the instance itself has a request in it.

    ``is_streaming``: what is left in it are streams. ``unrouted_s`` counts from when it was last
    seen in the route (or first seen at all).
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
    is_streaming: bool = False


@dataclass(frozen=True, slots=True)
class SeenCanary:
    """The part of the traffic that goes to another revision."""

    revision: str
    instances: frozenset[str]
    max_requests: int
    percent: int


@dataclass(frozen=True, slots=True)
class SeenRoute:
    revision: str
    instances: frozenset[str]
    max_requests: int
    bandwidth_mbps: int
    is_idempotent: bool = False
    canary: SeenCanary | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there now.

    ``backing_off`` are revisions of which none may be started for a while, after failures;
    ``last_failure`` is why the last instance that failed did. ``is_route_settled`` is False while
    the load balancer may yet go over from ``route`` to what was last asked of it. ``trial`` is what
    came of the canary's present step so far.
    """

    instances: tuple[SeenInstance, ...] = ()
    route: SeenRoute | None = None
    preparation: Preparation = Preparation.NONE
    preparation_reason: str = ""
    verification: Verification = Verification.NONE
    verification_reason: str = ""
    backing_off: frozenset[str] = frozenset()
    last_failure: str = ""
    drain_timeout_s: float = 60.0
    stream_total_s: float = 300.0
    is_route_settled: bool = True
    trial: Trial = field(default_factory=Trial)
