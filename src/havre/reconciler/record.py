"""What the reconciler records: outcomes, progress, instances.

Every function is one transaction, of the lease's holder alone. Outcomes are recorded only if what
is desired is still what was planned for; if it has changed (to a deletion, say) the next pass
decides again.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.orm import Session

from havre.domain import workload
from havre.domain.bandwidth import in_bytes
from havre.domain.errors import ModelFault
from havre.domain.reported import shorten
from havre.domain.states import DeploymentState, Operation, transition
from havre.reconciler.fence import FencedDatabase
from havre.reconciler.snapshot import PreparedRevision, Snapshot
from havre.store import work_requests
from havre.store.schema import Deployment, InstanceRecord, Revision

logger = logging.getLogger(__name__)

FIRST_STEP = {
    Operation.MODEL_DEPLOYMENT_CREATE: "Creating compute resource configuration.",
    Operation.MODEL_DEPLOYMENT_ACTIVATE: "Creating compute resource configuration.",
    Operation.MODEL_DEPLOYMENT_UPDATE: "Comparing the configuration with what is running.",
    Operation.MODEL_DEPLOYMENT_DEACTIVATE: "Taking the deployment out of the load balancer.",
    Operation.MODEL_DEPLOYMENT_DELETE: "Taking the deployment out of the load balancer.",
}
LAST_STEP = {
    Operation.MODEL_DEPLOYMENT_CREATE: "The model deployment is ACTIVE.",
    Operation.MODEL_DEPLOYMENT_ACTIVATE: "The model deployment is ACTIVE.",
    Operation.MODEL_DEPLOYMENT_UPDATE: "The model deployment is updated.",
    Operation.MODEL_DEPLOYMENT_DEACTIVATE: "The model deployment is INACTIVE.",
    Operation.MODEL_DEPLOYMENT_DELETE: "The model deployment is deleted.",
}


class Recorder:
    """``fit`` makes a message short enough to be read."""

    def __init__(
        self,
        database: FencedDatabase,
        clock: Callable[[], datetime],
        fit: Callable[[str], str] = shorten,
    ) -> None:
        self._database = database
        self._clock = clock
        self._fit = fit

    def begin(self, snapshot: Snapshot) -> None:
        """The change begins: its work request is IN_PROGRESS."""
        assert snapshot.change is not None
        with self._database.write() as session:
            first = FIRST_STEP[snapshot.change.operation]
            work_requests.start(session, snapshot.change.id, first, now=self._clock())

    def note(self, snapshot: Snapshot, message: str, *, percent: float = 0) -> None:
        """Log a step, in the work request's log and in the server's."""
        message = self._fit(message)
        logger.info("%s: %s", snapshot.deployment_id, message)
        if snapshot.change is None:
            return
        with self._database.write() as session:
            work_requests.log(
                session, snapshot.change.id, message, percent=percent, now=self._clock()
            )

    def add_instance(self, snapshot: Snapshot, instance_id: str, revision: str) -> None:
        with self._database.write() as session:
            session.add(
                InstanceRecord(
                    id=instance_id,
                    deployment_id=snapshot.deployment_id,
                    revision=revision,
                    time_created=self._clock(),
                )
            )

    def remove_instance(self, instance_id: str) -> None:
        with self._database.write() as session:
            session.execute(delete(InstanceRecord).where(InstanceRecord.id == instance_id))

    def add_revision(
        self, snapshot: Snapshot, prepared: PreparedRevision, environment: str
    ) -> None:
        """What the target revision is started from; replaces an earlier record."""
        with self._database.write() as session:
            _forget_revision(session, snapshot.deployment_id, snapshot.spec.revision)
            session.add(
                Revision(
                    deployment_id=snapshot.deployment_id,
                    revision=snapshot.spec.revision,
                    spec=snapshot.spec.to_json(),
                    environment=environment,
                    workload=workload.to_json(prepared.workload),
                    time_created=self._clock(),
                )
            )

    def count_instances(self, snapshot: Snapshot, count: int) -> None:
        """``currentInstanceCount``, written when it differs."""
        if count == snapshot.current_instances:
            return
        with self._database.write() as session:
            row = session.get(Deployment, snapshot.deployment_id)
            if row is not None:
                row.current_instances = count

    def succeed(self, snapshot: Snapshot) -> None:
        """The deployment reaches its final state, and only then its work request SUCCEEDED.

        A change that has not begun, as there was nothing else to do, begins in the same
        transaction: every transaction makes others wait.
        """
        with self._database.write() as session:
            row = _still_desired(session, snapshot)
            if row is None or snapshot.change is None:
                return
            _transition(row, snapshot.target)
            row.lifecycle_details = None
            is_active = snapshot.target is DeploymentState.ACTIVE
            row.serving_spec = row.spec if is_active else None
            row.serving_configuration = row.configuration if is_active else None
            _forget_revisions_but(session, row.id, snapshot.spec.revision if is_active else None)
            change, now = snapshot.change, self._clock()
            work_requests.start(session, change.id, FIRST_STEP[change.operation], now=now)
            for line in _bandwidth_notes(snapshot):
                work_requests.log(session, change.id, line, now=now)
            work_requests.succeed(session, change.id, LAST_STEP[change.operation], now=now)

    def fail(self, snapshot: Snapshot, reason: str) -> None:
        """The change has failed: back to what served, if anything did."""
        reason = self._fit(reason)
        with self._database.write() as session:
            row = _still_desired(session, snapshot)
            if row is None or snapshot.change is None:
                return
            _revert(session, row, snapshot, reason)
            work_requests.fail(
                session, snapshot.change.id, ModelFault.code, reason, now=self._clock()
            )

    def cancel(self, snapshot: Snapshot) -> None:
        with self._database.write() as session:
            row = _still_desired(session, snapshot)
            if row is None or snapshot.change is None:
                return
            _revert(session, row, snapshot, "The change was canceled.")
            work_requests.end_canceled(session, snapshot.change.id, "Canceled.", now=self._clock())

    def need_attention(self, snapshot: Snapshot, reason: str) -> None:
        self._set_state(snapshot, DeploymentState.NEEDS_ATTENTION, self._fit(reason))

    def recover(self, snapshot: Snapshot) -> None:
        self._set_state(snapshot, DeploymentState.ACTIVE, None)

    def _set_state(self, snapshot: Snapshot, state: DeploymentState, details: str | None) -> None:
        with self._database.write() as session:
            row = _still_desired(session, snapshot)
            if row is not None:
                _transition(row, state)
                row.lifecycle_details = details


def _bandwidth_notes(snapshot: Snapshot) -> list[str]:
    """What a new bandwidth means, where no check of a new revision has logged that."""
    before, after = snapshot.serving_spec, snapshot.spec
    if before is None or before.revision != after.revision:
        return []
    is_same = before.bandwidth_mbps == after.bandwidth_mbps
    return [] if is_same else in_bytes(after.bandwidth_mbps)


def _still_desired(session: Session, snapshot: Snapshot) -> Deployment | None:
    """The deployment's row, unless something else is desired of it by now."""
    row = session.get(Deployment, snapshot.deployment_id, with_for_update=True)
    if row is None or row.version != snapshot.version:
        return None
    return row


def _revert(session: Session, row: Deployment, snapshot: Snapshot, reason: str) -> None:
    assert snapshot.change is not None
    serving = snapshot.serving_spec
    if serving is None or serving.revision != snapshot.spec.revision:
        _forget_revision(session, row.id, snapshot.spec.revision)
    row.lifecycle_details = reason
    if row.serving_spec is not None and row.serving_configuration is not None:
        row.spec = row.serving_spec
        row.configuration = row.serving_configuration
        row.model_id = row.serving_spec["model_id"]
        _transition(row, DeploymentState.ACTIVE)
    elif snapshot.change.operation is Operation.MODEL_DEPLOYMENT_CREATE:
        _transition(row, DeploymentState.FAILED)
    else:
        # Nothing was serving: it can be corrected and activated again.
        row.target_state = DeploymentState.INACTIVE
        _transition(row, DeploymentState.INACTIVE)


def _transition(row: Deployment, to: DeploymentState) -> None:
    row.lifecycle_state = transition(DeploymentState(row.lifecycle_state), to)
    row.version += 1


def _forget_revision(session: Session, deployment_id: str, revision: str) -> None:
    session.execute(
        delete(Revision).where(
            Revision.deployment_id == deployment_id, Revision.revision == revision
        )
    )


def _forget_revisions_but(session: Session, deployment_id: str, kept: str | None) -> None:
    statement = delete(Revision).where(Revision.deployment_id == deployment_id)
    if kept is not None:
        statement = statement.where(Revision.revision != kept)
    session.execute(statement)
