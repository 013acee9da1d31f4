"""The planner's output: the next things to do."""

from dataclasses import dataclass, field

from havre.domain.rollout.planner_input import DesiredRevision, ObservedCanary, ObservedRoute


@dataclass(frozen=True, slots=True)
class Prepare:
    """Build the environment and unpack the artifact of the target revision."""


@dataclass(frozen=True, slots=True)
class Start:
    revision: str
    instances: int


@dataclass(frozen=True, slots=True)
class Verify:
    """Have this instance checked: the new revision gets no traffic before it has passed."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Share:
    """``percent`` of the traffic for these instances of another revision."""

    target: DesiredRevision
    instances: tuple[str, ...]
    percent: int

    @property
    def max_requests(self) -> int:
        return _bound(self.target, self.instances)


@dataclass(frozen=True, slots=True)
class Publish:
    """``notes`` are for the work request's log, once it is live."""

    target: DesiredRevision
    instances: tuple[str, ...]
    canary: Share | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def max_requests(self) -> int:
        return _bound(self.target, self.instances)

    @property
    def as_observed(self) -> ObservedRoute:
        """The route as it is observed once it is confirmed."""
        share = self.canary
        return ObservedRoute(
            revision=self.target.revision,
            instances=frozenset(self.instances),
            max_requests=self.max_requests,
            bandwidth_mbps=self.target.bandwidth_mbps,
            is_idempotent=self.target.is_idempotent,
            canary=None
            if share is None
            else ObservedCanary(
                revision=share.target.revision,
                instances=frozenset(share.instances),
                max_requests=share.max_requests,
                percent=share.percent,
            ),
        )


@dataclass(frozen=True, slots=True)
class Withdraw:
    pass


@dataclass(frozen=True, slots=True)
class Stop:
    instance_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Succeed:
    """The change is carried out: record the final state, then the work request."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The change cannot be carried out: go back to what served, and record why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The change was canceled in time: go back to what served."""


@dataclass(frozen=True, slots=True)
class EndHungKeeper:
    """End the keeper of an instance, which hangs: without it the copies go on serving."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class MarkNeedsAttention:
    reason: str


@dataclass(frozen=True, slots=True)
class MarkRecovered:
    pass


Action = (
    Prepare
    | Start
    | Verify
    | Publish
    | Withdraw
    | Stop
    | Succeed
    | Fail
    | Cancel
    | MarkNeedsAttention
    | MarkRecovered
    | EndHungKeeper
)


def _bound(target: DesiredRevision, instances: tuple[str, ...]) -> int:
    return target.requests_per_instance * len(instances)
