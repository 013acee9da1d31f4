"""What the rollout planner answers: the next things to do."""

from dataclasses import dataclass, field

from havre.domain.observed import Goal, SeenCanary, SeenRoute


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the environment and unpack the artifact of the wanted revision."""


@dataclass(frozen=True, slots=True)
class Start:
    revision: str
    instances: int


@dataclass(frozen=True, slots=True)
class Verify:
    """Ask this instance what the new revision must answer before it gets traffic."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Share:
    """So many percent of the traffic are for these instances of another revision."""

    goal: Goal
    instances: tuple[str, ...]
    percent: int

    @property
    def max_requests(self) -> int:
        return _bound(self.goal, self.instances)


@dataclass(frozen=True, slots=True)
class Publish:
    """``notes`` are for the work request's log, once it is live."""

    goal: Goal
    instances: tuple[str, ...]
    canary: Share | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def max_requests(self) -> int:
        return _bound(self.goal, self.instances)

    @property
    def as_seen(self) -> SeenRoute:
        """The route as the planner sees it once it is confirmed."""
        share = self.canary
        return SeenRoute(
            revision=self.goal.revision,
            instances=frozenset(self.instances),
            max_requests=self.max_requests,
            bandwidth_mbps=self.goal.bandwidth_mbps,
            is_idempotent=self.goal.is_idempotent,
            canary=None
            if share is None
            else SeenCanary(
                revision=share.goal.revision,
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
    Prepare
    | Start
    | Verify
    | Publish
    | Withdraw
    | Stop
    | Succeed
    | Fail
    | Cancel
    | NeedAttention
    | Recover
)


def _bound(goal: Goal, instances: tuple[str, ...]) -> int:
    return goal.requests_per_instance * len(instances)
