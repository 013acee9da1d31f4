"""The planner's input: what is desired, and what is observed."""

from dataclasses import dataclass, field
from enum import StrEnum

from havre.domain.rollout.canary import StepResult
from havre.domain.rollout.policy import Canary
from havre.domain.states import InstancePhase


@dataclass(frozen=True, slots=True)
class DesiredRevision:
    """A revision as it should serve."""

    revision: str
    instances: int
    requests_per_instance: int
    bandwidth_mbps: int
    is_idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Desired:
    """``fallback`` is what served last and goes on serving while ``target`` comes up; None if there
    is nothing.

    ``changing``: a work request waits for the outcome. ``needs_attention``: that is the present
    state. ``canary``: how traffic goes from ``fallback`` to ``target``; None: all at once.
    """

    run: bool
    target: DesiredRevision
    fallback: DesiredRevision | None = None
    changing: bool = False
    canceling: bool = False
    needs_attention: bool = False
    canary: Canary | None = None


class Stage(StrEnum):
    """How far a task in the background is. NONE: it has not begun, or nothing is known of it."""

    NONE = "none"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has come of a task so far; ``reason`` says why it FAILED."""

    stage: Stage = Stage.NONE
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ObservedInstance:
    """``is_idle``: neither the balancer nor the instance itself has a request in it.

    ``is_streaming``: all requests left in it are streams. ``unrouted_s`` counts from when it was
    last observed in the route (or first observed at all).
    ``is_troubled``: it is READY, but its copies do not stay up; ``reason`` says why.
    ``is_on_trial``: it was started for the present change and has not been in the route yet.
    ``is_new``: it was started for the present change. ``is_hung``: its keeper hangs.
    """

    id: str
    revision: str
    phase: InstancePhase
    is_idle: bool = True
    unrouted_s: float = 0.0
    reason: str = ""
    is_troubled: bool = False
    is_on_trial: bool = True
    is_new: bool = True
    is_streaming: bool = False
    is_hung: bool = False


@dataclass(frozen=True, slots=True)
class ObservedCanary:
    """The part of the traffic that goes to another revision."""

    revision: str
    instances: frozenset[str]
    max_requests: int
    percent: int


@dataclass(frozen=True, slots=True)
class ObservedRoute:
    revision: str
    instances: frozenset[str]
    max_requests: int
    bandwidth_mbps: int
    is_idempotent: bool = False
    canary: ObservedCanary | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there now.

    ``preparation``: of the target revision's environment and artifact. ``verification``: its check,
    the replay of live requests included; DONE also where there was nothing to check.

    ``backing_off`` are revisions of which none may be started for a while, after failures;
    ``last_failure`` is the reason of the last instance that failed. ``is_route_settled`` is False
    while the load balancer may still change from ``route`` to what it was last sent.
    ``step_result`` is what has come of the canary's present step so far.

    Of the present change: ``lost`` counts the instances of the target revision that failed after
    they had been in the route; ``unwell_s`` is for how long there have been too few that are well,
    of the ``start_timeout_s`` that this may take.
    """

    instances: tuple[ObservedInstance, ...] = ()
    route: ObservedRoute | None = None
    preparation: Outcome = Outcome()
    verification: Outcome = Outcome()
    backing_off: frozenset[str] = frozenset()
    last_failure: str = ""
    drain_timeout_s: float = 60.0
    stream_total_s: float = 300.0
    is_route_settled: bool = True
    lost: int = 0
    unwell_s: float = 0.0
    start_timeout_s: float = 300.0
    step_result: StepResult = field(default_factory=StepResult)
