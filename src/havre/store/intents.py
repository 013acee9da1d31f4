"""What may be requested of a deployment, and how the request is recorded.

One function per call of the API. Each checks the state, writes the desired specification, the state
and the work request in the caller's transaction, and returns the work request. The reconciler
carries it out, later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from havre.domain.deployment import DeploymentSpec
from havre.domain.errors import Conflict, IncorrectState
from havre.domain.states import (
    BUSY,
    FINISHED,
    SERVING,
    USES_MODEL,
    DeploymentState,
    Operation,
    WorkRequestState,
    transition,
)
from havre.store import work_requests
from havre.store.schema import Deployment, WorkRequest

RESOURCE_KIND = "data-science-model-deployment"


@dataclass(frozen=True, slots=True)
class DeploymentChange:
    """A validated update, merged with what is stored. Only differing fields are in ``fields``
    (display_name, description, freeform_tags, defined_tags, category_log_details).
    """

    spec: DeploymentSpec
    configuration: Mapping[str, Any]
    fields: Mapping[str, Any] = field(default_factory=dict)


def create(session: Session, deployment: Deployment, *, now: datetime) -> WorkRequest:
    """Add a deployment whose other columns the caller has filled."""
    deployment.lifecycle_state = DeploymentState.CREATING
    deployment.target_state = DeploymentState.ACTIVE
    session.add(deployment)
    session.flush()
    return _accept(session, deployment, Operation.MODEL_DEPLOYMENT_CREATE, now)


def update(
    session: Session, deployment: Deployment, change: DeploymentChange, *, now: datetime
) -> WorkRequest:
    """Raises IncorrectState while another change runs, Conflict when it cannot be updated."""
    _refuse_busy(deployment)
    state = DeploymentState(deployment.lifecycle_state)
    if state not in {
        DeploymentState.ACTIVE,
        DeploymentState.NEEDS_ATTENTION,
        DeploymentState.INACTIVE,
    }:
        raise Conflict(f"a deployment that is {state} cannot be updated; delete it, create another")
    for name, value in change.fields.items():
        setattr(deployment, name, value)
    deployment.spec = change.spec.to_json()
    deployment.model_id = change.spec.model_id
    deployment.configuration = dict(change.configuration)
    deployment.target_state = (
        DeploymentState.INACTIVE if state is DeploymentState.INACTIVE else DeploymentState.ACTIVE
    )
    _transition(deployment, DeploymentState.UPDATING)
    return _accept(session, deployment, Operation.MODEL_DEPLOYMENT_UPDATE, now)


def activate(
    session: Session, deployment: Deployment, spec: DeploymentSpec, *, now: datetime
) -> WorkRequest:
    """``spec`` is the stored one with the model's artifact checked again."""
    _refuse_busy(deployment)
    if deployment.lifecycle_state != DeploymentState.INACTIVE:
        raise Conflict(
            "only an INACTIVE deployment can be activated; "
            f"this one is {deployment.lifecycle_state}"
        )
    deployment.spec = spec.to_json()
    deployment.target_state = DeploymentState.ACTIVE
    _transition(deployment, DeploymentState.UPDATING)
    return _accept(session, deployment, Operation.MODEL_DEPLOYMENT_ACTIVATE, now)


def deactivate(session: Session, deployment: Deployment, *, now: datetime) -> WorkRequest:
    _refuse_busy(deployment)
    if deployment.lifecycle_state not in {DeploymentState.ACTIVE, DeploymentState.NEEDS_ATTENTION}:
        raise Conflict(
            "only an ACTIVE deployment can be deactivated; "
            f"this one is {deployment.lifecycle_state}"
        )
    deployment.target_state = DeploymentState.INACTIVE
    _transition(deployment, DeploymentState.UPDATING)
    return _accept(session, deployment, Operation.MODEL_DEPLOYMENT_DEACTIVATE, now)


def delete(session: Session, deployment: Deployment, *, now: datetime) -> WorkRequest:
    """Always allowed, except twice: it ends a change that is under way."""
    if deployment.target_state == DeploymentState.DELETED:
        raise Conflict(f"the deployment is {deployment.lifecycle_state} already")
    if deployment.work_request_id is not None:
        running = session.get(WorkRequest, deployment.work_request_id)
        if running is not None and WorkRequestState(running.status) not in FINISHED:
            work_requests.end_canceled(
                session, running.id, "Canceled: the deployment is being deleted.", now=now
            )
    deployment.target_state = DeploymentState.DELETED
    _transition(deployment, DeploymentState.DELETING)
    return _accept(session, deployment, Operation.MODEL_DEPLOYMENT_DELETE, now)


def cancel(session: Session, request: WorkRequest) -> None:
    """Ask the reconciler to end a change; it may still win the race and succeed.

    Raises Conflict for a finished work request and for one that cannot be undone.
    """
    if WorkRequestState(request.status) in FINISHED:
        raise Conflict(f"the work request is {request.status} already")
    cancelable = {
        Operation.MODEL_DEPLOYMENT_CREATE,
        Operation.MODEL_DEPLOYMENT_UPDATE,
        Operation.MODEL_DEPLOYMENT_ACTIVATE,
    }
    if Operation(request.operation) not in cancelable:
        raise Conflict(f"{request.operation} cannot be canceled")
    work_requests.cancel(session, request.id)


def deployments_of_model(session: Session, model_id: str) -> list[Deployment]:
    """Deployments that need the model to stay as it is; for refusals that name them.

    One that is changing to another model may yet return to the one it serves.
    """
    serves = and_(
        Deployment.serving_spec["model_id"].as_string() == model_id,
        Deployment.lifecycle_state.in_(SERVING),
    )
    rows = session.scalars(select(Deployment).where(or_(Deployment.model_id == model_id, serves)))
    return [row for row in rows if DeploymentState(row.lifecycle_state) in USES_MODEL]


def _refuse_busy(deployment: Deployment) -> None:
    if DeploymentState(deployment.lifecycle_state) in BUSY:
        raise IncorrectState(
            f"the deployment is {deployment.lifecycle_state} "
            f"(work request {deployment.work_request_id}); try again when that has finished"
        )


def _transition(deployment: Deployment, to: DeploymentState) -> None:
    deployment.lifecycle_state = transition(DeploymentState(deployment.lifecycle_state), to)
    deployment.lifecycle_details = None
    deployment.version += 1


def _accept(
    session: Session, deployment: Deployment, operation: Operation, now: datetime
) -> WorkRequest:
    request = work_requests.accept(
        session,
        operation,
        resource_id=deployment.id,
        resource_kind=RESOURCE_KIND,
        resource_uri=f"/20190101/modelDeployments/{deployment.id}",
        compartment_id=deployment.compartment_id,
        now=now,
    )
    deployment.work_request_id = request.id
    return request
