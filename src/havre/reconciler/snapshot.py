"""What the database holds of one deployment, read at once, and what is desired by it."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from havre.domain import workload
from havre.domain.deployment import DeploymentSpec
from havre.domain.errors import InvalidParameter
from havre.domain.instance import InstanceStatus
from havre.domain.latency import Latency
from havre.domain.rollout.planner_input import Desired, DesiredRevision
from havre.domain.rollout.policy import RolloutPolicy, read_policy
from havre.domain.rollout.queueing import max_in_flight
from havre.domain.states import BUSY, FINISHED, DeploymentState, Operation, WorkRequestState
from havre.domain.workload import Workload
from havre.settings import Settings
from havre.store.schema import Deployment, InstanceRecord, Revision, WorkRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreparedRevision:
    """What a revision is started from."""

    workload: Workload

    @property
    def is_there(self) -> bool:
        return self.workload.interpreter.exists() and self.workload.artifact.exists()


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

    @property
    def is_canceling(self) -> bool:
        return self.change is not None and self.change.is_canceling

    def spec_of(self, revision: str) -> DeploymentSpec:
        """The specification behind a revision that the planner named."""
        if self.serving_spec is not None and revision == self.serving_spec.revision:
            return self.serving_spec
        assert revision == self.spec.revision
        return self.spec


def load(session: Session, deployment_id: str) -> Snapshot | None:
    """None for a deployment that does not exist or is DELETED: there is nothing to do for it."""
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
        instances={record.id: record.revision for record in instances},
        revisions={
            record.revision: PreparedRevision(workload.from_json(record.workload))
            for record in revisions
        },
        current_instances=row.current_instances,
        tags=row.freeform_tags,
    )


def policy_of(snapshot: Snapshot, settings: Settings) -> RolloutPolicy:
    """The deployment's own, or the server's where it has none.

    Tags are checked when they are set; wrong ones are ignored here, where no client waits.
    """
    defaults = {"replay": settings.rollout_replay, "canary": settings.rollout_canary}
    try:
        return read_policy(snapshot.tags, **defaults)
    except InvalidParameter as error:
        logger.warning("%s: %s", snapshot.deployment_id, error.message)
        return read_policy({}, **defaults)


def desired_of(
    snapshot: Snapshot,
    policy: RolloutPolicy,
    settings: Settings,
    statuses: Iterable[InstanceStatus],
) -> Desired:
    """What is desired, for the planner. ``statuses`` have how long predictions take."""
    latencies: defaultdict[str, Latency] = defaultdict(Latency)
    for status in statuses:
        latencies[status.revision] = latencies[status.revision].plus(status.latency)
    serving = snapshot.serving_spec if snapshot.runs else None
    if serving is not None and serving.revision not in snapshot.revisions:
        serving = None  # it was served on another machine, by an earlier holder of the lease

    def desired_revision(spec: DeploymentSpec) -> DesiredRevision:
        revision = spec.revision
        return DesiredRevision(
            revision=revision,
            instances=spec.instance_count,
            requests_per_instance=max_in_flight(
                copies=spec.copies,
                mean_s=latencies[revision].mean_s,
                per_copy=settings.max_requests_per_copy,
                queue_limit=settings.min_instance_queue,
                wait_s=settings.max_queue_wait_s,
            ),
            bandwidth_mbps=spec.maximum_bandwidth_mbps or spec.bandwidth_mbps,
            is_idempotent=policy.is_idempotent,
        )

    return Desired(
        run=snapshot.runs,
        target=desired_revision(snapshot.spec),
        fallback=desired_revision(serving) if serving is not None else None,
        changing=snapshot.change is not None,
        canceling=snapshot.is_canceling,
        needs_attention=snapshot.state is DeploymentState.NEEDS_ATTENTION,
        canary=policy.canary,
    )


def _change(session: Session, row: Deployment) -> Change | None:
    # A change ends in the transaction in which its deployment stops being busy: no need to ask.
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
