"""Keeps a control plane that does not hold the lease any more from acting as if it did.

The database is shared: every transaction requires the lease's token, so that not even a process
that slept through the end of its lease between two instructions writes anything. Engine and load
balancer are of this machine alone: the clock is checked before each act, and what slips through in
between is stopped by the standby that this control plane then becomes.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.orm import Session

from havre.balancer.base import Balancer
from havre.domain.errors import LeaseLost
from havre.domain.instance import (
    CheckRequest,
    CheckResponse,
    InstanceSpec,
    InstanceStatus,
    RecordedRequest,
)
from havre.domain.rollout.policy import Capture
from havre.domain.route import Route
from havre.engines.base import Engine
from havre.engines.model_channel import ModelChannel, always
from havre.store import leases
from havre.store.database import Database


def clock_s() -> float:
    """Seconds that go on while the process, or the whole machine, is asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """One period as the holder: the lease's token, and until when the holder may act.

    ``clock`` is in seconds and only goes forward.
    """

    def __init__(self, token: int, *, until: float, clock: Callable[[], float] = clock_s) -> None:
        self.token = token
        self._until = until
        self._clock = clock

    def extend(self, until: float) -> None:
        self._until = until

    def close(self) -> None:
        """For good: another control plane has the lease."""
        self._until = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether it is certain that no other control plane holds the lease."""
        return self._clock() < self._until

    def check(self) -> None:
        """Raises LeaseLost when it is not."""
        if not self.is_open:
            raise LeaseLost(
                "this control plane has not been able to renew the lease and changes nothing until "
                "it can"
            )


class FencedDatabase:
    """Transactions of the holder alone."""

    def __init__(self, database: Database, fence: Fence) -> None:
        self._database = database
        self._fence = fence

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, as `Database.write`. Raises LeaseLost if we are not the holder."""
        self._fence.check()
        with self._database.write() as session:
            leases.require(session, self._fence.token)
            yield session


class FencedEngine:
    """An `Engine` that checks the fence before it acts; observing is free."""

    def __init__(self, engine: Engine, fence: Fence) -> None:
        self._engine = engine
        self._fence = fence

    def start(self, spec: InstanceSpec) -> None:
        self._fence.check()
        self._engine.start(spec)

    def stop(self, instance_id: str) -> None:
        self._fence.check()
        self._engine.stop(instance_id)

    def channel(self, instance_id: str) -> "FencedChannel | None":
        channel = self._engine.channel(instance_id)
        return None if channel is None else FencedChannel(channel, self._fence)

    def inspect(self, instance_id: str) -> InstanceStatus:
        return self._engine.inspect(instance_id)

    def instances(self) -> list[InstanceStatus]:
        return self._engine.instances()

    def changes(self) -> Iterator[str]:
        return self._engine.changes()


class FencedChannel:
    """A `ModelChannel` that asks the fence before it acts; looking is free."""

    def __init__(self, channel: ModelChannel, fence: Fence) -> None:
        self._channel = channel
        self._fence = fence

    def check(
        self, requests: Sequence[CheckRequest], *, should_continue: Callable[[], bool] = always
    ) -> Iterator[CheckResponse]:
        self._fence.check()
        return self._channel.check(requests, should_continue=should_continue)

    def record(self, limit: int) -> None:
        self._fence.check()
        self._channel.record(limit)

    def capture(self, policy: Capture) -> None:
        self._fence.check()
        self._channel.capture(policy)

    def end_keeper(self) -> None:
        self._fence.check()
        self._channel.end_keeper()

    def sample(self) -> CheckRequest | None:
        return self._channel.sample()

    def recorded(
        self, limit: int, *, should_continue: Callable[[], bool] = always
    ) -> list[RecordedRequest]:
        return self._channel.recorded(limit, should_continue=should_continue)


class FencedBalancer:
    """A `Balancer` that checks the fence before it acts; observing is free."""

    def __init__(self, balancer: Balancer, fence: Fence) -> None:
        self._balancer = balancer
        self._fence = fence

    def publish(self, route: Route) -> None:
        self._fence.check()
        self._balancer.publish(route)

    def withdraw(self, deployment_id: str) -> None:
        self._fence.check()
        self._balancer.withdraw(deployment_id)

    def retire(self, deployment_id: str, *, alive: Collection[str]) -> None:
        self._fence.check()
        self._balancer.retire(deployment_id, alive=alive)

    def current(self, deployment_id: str) -> Route | None:
        return self._balancer.current(deployment_id)

    def is_settled(self, deployment_id: str) -> bool:
        return self._balancer.is_settled(deployment_id)

    def deployments(self) -> set[str]:
        return self._balancer.deployments()

    def active_requests(self, instance_ids: Collection[str]) -> dict[str, int]:
        return self._balancer.active_requests(instance_ids)
