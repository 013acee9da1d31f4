"""What keeps a control plane from acting for others once it does not hold the lease any more.

The database is shared: what is recorded asks for the lease's token in its own transaction, so that
not even a process that slept through its end between two instructions writes a word. Engine and
load balancer are of this machine alone: before each act the clock is asked, and what slips through
in between is cleared away by the standby that this control plane then becomes.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.orm import Session

from havre.balancer.base import Balancer
from havre.domain.errors import LeaseLost
from havre.domain.instance import (
    CheckAnswer,
    CheckRequest,
    InstanceSpec,
    InstanceStatus,
    RecordedRequest,
)
from havre.domain.policy import Capture
from havre.domain.route import Route
from havre.engines.base import Engine
from havre.store import leases
from havre.store.database import Database


def clock_s() -> float:
    """Seconds that go on while the process, or the whole machine, is asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """One holding of the lease: its token, and until when it may be acted upon.

    ``clock`` is in seconds and only goes forward.
    """

    def __init__(self, token: int, *, until: float, clock: Callable[[], float] = clock_s) -> None:
        self.token = token
        self._until = until
        self._clock = clock

    def extend(self, until: float) -> None:
        self._until = until

    def close(self) -> None:
        """For good: somebody else has the lease."""
        self._until = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether it is sure that nobody else holds the lease."""
        return self._clock() < self._until

    def check(self) -> None:
        """Raises LeaseLost when it is not."""
        if not self.is_open:
            raise LeaseLost(
                "this control plane has not been able to renew the lease and changes nothing until "
                "it can"
            )


class FencedDatabase:
    """Transactions for the holder alone."""

    def __init__(self, database: Database, fence: Fence) -> None:
        self._database = database
        self._fence = fence

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, as `Database.write`. Raises LeaseLost if it is not the holder's."""
        self._fence.check()
        with self._database.write() as session:
            leases.require(session, self._fence.token)
            yield session


class FencedEngine:
    """An `Engine` that asks the fence before it acts; looking is free."""

    def __init__(self, engine: Engine, fence: Fence) -> None:
        self._engine = engine
        self._fence = fence

    def start(self, spec: InstanceSpec) -> None:
        self._fence.check()
        self._engine.start(spec)

    def stop(self, instance_id: str) -> None:
        self._fence.check()
        self._engine.stop(instance_id)

    def check(self, instance_id: str, requests: Sequence[CheckRequest]) -> list[CheckAnswer]:
        self._fence.check()
        return self._engine.check(instance_id, requests)

    def record(self, instance_id: str, most: int) -> None:
        self._fence.check()
        self._engine.record(instance_id, most)

    def capture(self, instance_id: str, wanted: Capture) -> None:
        self._fence.check()
        self._engine.capture(instance_id, wanted)

    def inspect(self, instance_id: str) -> InstanceStatus:
        return self._engine.inspect(instance_id)

    def instances(self) -> list[InstanceStatus]:
        return self._engine.instances()

    def sample(self, instance_id: str) -> CheckRequest | None:
        return self._engine.sample(instance_id)

    def recorded(self, instance_id: str) -> list[RecordedRequest]:
        return self._engine.recorded(instance_id)

    def changes(self) -> Iterator[str]:
        return self._engine.changes()


class FencedBalancer:
    """A `Balancer` that asks the fence before it acts; looking is free."""

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

    def active_requests(self, instance_id: str) -> int:
        return self._balancer.active_requests(instance_id)
