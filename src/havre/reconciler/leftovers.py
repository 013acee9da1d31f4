"""Clears away what no record knows, when a control plane becomes the holder."""

import logging

from sqlalchemy import select

from havre.domain.states import DeploymentState
from havre.reconciler.deps import Deps
from havre.store.database import Database
from havre.store.schema import Deployment, InstanceRecord

logger = logging.getLogger(__name__)


def clear_leftovers(deps: Deps) -> None:
    """Instances and routes that no record knows: left by a crash, or by a deleted database.

    The world is listed before the records are read: what is started meanwhile has a record.
    """
    running = [status.id for status in deps.engine.instances()]
    routed = deps.balancer.deployments()
    with deps.database.read() as session:
        known = set(session.scalars(select(InstanceRecord.id)))
    deployments = existing_deployments(deps.database)
    for instance_id in set(running) - known:
        logger.warning("stopping instance %s, which no record knows", instance_id)
        deps.engine.stop(instance_id)
    for deployment_id in routed - deployments:
        deps.balancer.withdraw(deployment_id)
        deps.balancer.retire(deployment_id, alive=())


def existing_deployments(database: Database) -> set[str]:
    """The ids of all that are not DELETED."""
    with database.read() as session:
        rows = select(Deployment.id).where(Deployment.lifecycle_state != DeploymentState.DELETED)
        return set(session.scalars(rows))
