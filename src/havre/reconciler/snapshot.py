"""What the database says of one deployment, read in one go, and what follows for the planner."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from havre.domain.deployment import DeploymentSpec
from havre.domain.errors import InvalidParameter
from havre.domain.instance import InstanceStatus
from havre.domain.latency import Latency
from havre.domain.observed import Goal, Wanted
from havre.domain.policy import RolloutPolicy, read_policy
from havre.domain.queueing import most_requests
from havre.domain.states import BUSY, FINISHED, DeploymentState, Operation, WorkRequestState
from havre.settings import Settings
from havre.store.schema import Deployment, InstanceRecord, Revision, WorkRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreparedRevision:
    """What a revision is started from."""

    interpreter: Path
    python_version: str
    artifact_folder: Path

    @property
    def is_there(self) -> bool:
        return self.interpreter.exists() and self.artifact_folder.exists()


@dataclass(frozen=True, slots=True)
class Change:
    """The work request under way."""

    id: str
    operation: Operation
    is_started: bool
    is_canceling: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    deployment_id: str
    display_name: str
    version: int
    state: DeploymentState
    target: DeploymentState
    spec: DeploymentSpec
    serving_spec: DeploymentSpec | None
    change: Change | None
    instances: Mapping[str, str]  # id -> revision
    revisions: Mapping[str, PreparedRevision]
    current_instances: int
    tags: Mapping[str, str]

    @property
    def runs(self) -> bool:
        return self.target is DeploymentState.ACTIVE and self.state is not DeploymentState.FAILED

    def spec_of(self, revision: str) -> DeploymentSpec:
        """The specification behind a revision that the planner named."""
        if self.serving_spec is not None and revision == self.serving_spec.revision:
            return self.serving_spec
        assert revision == self.spec.revision
        return self.spec


def load(session: Session, deployment_id: str) -> Snapshot | None:
    """None for a deployment that does not exist or is DELETED: nothing is to be done for it."""
    row = session.get(Deployment, deployment_id)
    if row is None or row.lifecycle_state == DeploymentState.DELETED:
        return None
    instances = session.scalars(
        select(InstanceRecord).where(InstanceRecord.deployment_id == deployment_id)
    )
    revisions = session.scalars(select(Revision).where(Revision.deployment_id == deployment_id))
    return Snapshot(
        deployment_id=row.id,
        display_name=row.display_name,
        version=row.version,
        state=DeploymentState(row.lifecycle_state),
        target=DeploymentState(row.target_state),
        spec=DeploymentSpec.from_json(row.spec),
        serving_spec=DeploymentSpec.from_json(row.serving_spec) if row.serving_spec else None,
        change=_change(session, row),
        instances={each.id: each.revision for each in instances},
        revisions={
            each.revision: PreparedRevision(
                Path(each.interpreter), each.python_version, Path(each.artifact_folder)
            )
            for each in revisions
        },
        current_instances=row.current_instances,
        tags=row.freeform_tags,
    )


def policy_of(snapshot: Snapshot, settings: Settings) -> RolloutPolicy:
    """The deployment's own, or the server's where it has none.

    Tags that an earlier version let pass are ignored: nobody waits for an answer here.
    """
    defaults = {"replay": settings.rollout_replay, "canary": settings.rollout_canary}
    try:
        return read_policy(snapshot.tags, **defaults)
    except InvalidParameter as error:
        logger.warning("%s: %s", snapshot.deployment_id, error.message)
        return read_policy({}, **defaults)


def wanted(
    snapshot: Snapshot,
    policy: RolloutPolicy,
    settings: Settings,
    statuses: Iterable[InstanceStatus],
) -> Wanted:
    """The planner's wish. ``statuses`` tell how long predictions take."""
    latencies: defaultdict[str, Latency] = defaultdict(Latency)
    for status in statuses:
        latencies[status.revision] = latencies[status.revision].plus(status.latency)
    serving = snapshot.serving_spec if snapshot.runs else None
    if serving is not None and serving.revision not in snapshot.revisions:
        serving = None  # it was served elsewhere, by an earlier holder of the lease

    def goal(spec: DeploymentSpec) -> Goal:
        revision = spec.revision
        return Goal(
            revision=revision,
            instances=spec.instance_count,
            requests_per_instance=most_requests(
                copies=spec.copies,
                mean_s=latencies[revision].mean_s,
                per_copy=settings.queue_per_copy,
                at_least=settings.queue_at_least,
                wait_s=settings.queue_wait_s,
            ),
            bandwidth_mbps=spec.maximum_bandwidth_mbps or spec.bandwidth_mbps,
            is_idempotent=policy.is_idempotent,
        )

    return Wanted(
        run=snapshot.runs,
        goal=goal(snapshot.spec),
        fallback=goal(serving) if serving is not None else None,
        changing=snapshot.change is not None,
        canceling=snapshot.change is not None and snapshot.change.is_canceling,
        needs_attention=snapshot.state is DeploymentState.NEEDS_ATTENTION,
        canary=policy.canary,
    )


def _change(session: Session, row: Deployment) -> Change | None:
    # In one transaction a change ends and its deployment is not busy any more: nothing to ask for.
    if row.work_request_id is None or DeploymentState(row.lifecycle_state) not in BUSY:
        return None
    request = session.get(WorkRequest, row.work_request_id)
    if request is None or WorkRequestState(request.status) in FINISHED:
        return None
    return Change(
        id=request.id,
        operation=Operation(request.operation),
        is_started=request.status != WorkRequestState.ACCEPTED,
        is_canceling=request.status == WorkRequestState.CANCELING,
    )
