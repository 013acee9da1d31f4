"""What a standby does with instances and routes from the time when it held the lease.

In the order of a rollout: a deployment is served here until the holder serves it, or until it is
not to be served any more; then its route goes, its requests are finished, its instances stop.
"""

import logging
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from havre.balancer.base import Balancer
from havre.domain.rollout.planner import SETTLE_S
from havre.domain.states import SERVING, DeploymentState
from havre.engines.base import Engine
from havre.store.schema import Deployment

logger = logging.getLogger(__name__)


class StandbyDrain:
    """Of one period as a standby. ``clock`` is in seconds and only goes forward. Requests get
    ``drain_timeout_s`` to finish, an instance with nothing but streams ``stream_total_s``.
    """

    def __init__(
        self,
        engine: Engine,
        balancer: Balancer,
        *,
        drain_timeout_s: float,
        stream_total_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._balancer = balancer
        self._drain_timeout_s = drain_timeout_s
        self._stream_total_s = max(drain_timeout_s, stream_total_s)
        self._clock = clock
        self._unrouted_since: dict[str, float] = {}
        self.is_over = False
        """Nothing is left here; a standby starts nothing."""

    def step(self, not_yet_served: set[str]) -> None:
        """Stop what may stop now; deployments that are ``not_yet_served`` stay. Safe to repeat.

        Raises HavreError when engine or load balancer do not let it.
        """
        for deployment_id in self._balancer.deployments() - not_yet_served:
            logger.info("%s: the holder of the lease serves it from now on", deployment_id)
            self._balancer.withdraw(deployment_id)
        kept = self._balancer.deployments()
        left = {status.id: status.deployment_id for status in self._engine.instances()}
        unrouted = [instance_id for instance_id, owner in left.items() if owner not in kept]
        active = self._balancer.active_requests(unrouted) if unrouted else {}
        for instance_id in unrouted:
            if self._is_drained(instance_id, active.get(instance_id, 0)):
                deployment_id = left.pop(instance_id)
                self._engine.stop(instance_id)
                alive = [other for other, owner in left.items() if owner == deployment_id]
                self._balancer.retire(deployment_id, alive=alive)
        self.is_over = not left and not kept

    def _is_drained(self, instance_id: str, active: int) -> bool:
        """Never at once: the balancer's threads take a changed route over one by one."""
        now = self._clock()
        waited_s = now - self._unrouted_since.setdefault(instance_id, now)
        status = self._engine.inspect(instance_id)
        if active == 0 and status.copies_busy == 0:
            return waited_s >= SETTLE_S
        limit_s = self._stream_total_s if status.is_streaming else self._drain_timeout_s
        return waited_s >= limit_s


def not_yet_served_by_holder(session: Session) -> set[str]:
    """Deployments that are to serve, and of which no instance of the holder answers yet."""
    return set(
        session.scalars(
            select(Deployment.id).where(
                Deployment.lifecycle_state.in_(SERVING),
                Deployment.target_state == DeploymentState.ACTIVE,
                Deployment.current_instances == 0,
            )
        )
    )
