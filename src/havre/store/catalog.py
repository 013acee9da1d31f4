"""Resources of the catalog in general, and projects.

Every function works inside the caller's transaction; the moment is an argument.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from havre.domain.errors import Conflict, NotFound
from havre.domain.ocid import Kind, is_ocid, new_ocid
from havre.domain.states import DeploymentState, ModelState, Operation, ProjectState
from havre.store import work_requests
from havre.store.schema import (
    Deployment,
    Log,
    LogGroup,
    Model,
    Project,
    VersionSet,
    WorkRequest,
)

DELETED = "DELETED"
MAX_NAMED = 5
_KINDS: dict[type, tuple[Kind, str]] = {
    Project: (Kind.PROJECT, "project"),
    Model: (Kind.MODEL, "model"),
    VersionSet: (Kind.VERSION_SET, "model version set"),
}

R = TypeVar("R", Project, Model, VersionSet)


def find(session: Session, kind: type[R], resource_id: str) -> R:
    """Raises NotFound. What was deleted is found: it stays readable."""
    ocid_kind, noun = _KINDS[kind]
    row = session.get(kind, resource_id) if is_ocid(resource_id, ocid_kind) else None
    if row is None:
        raise NotFound(f"{noun} {resource_id[:255]} does not exist, or you may not see it")
    return row


def find_for_change(session: Session, kind: type[R], resource_id: str) -> R:
    """The same, locked until the transaction ends. Raises Conflict for what was deleted."""
    find(session, kind, resource_id)
    row = session.get_one(kind, resource_id, with_for_update=True, populate_existing=True)
    refuse_deleted(row)
    return row


def refuse_deleted(row: Project | Model | VersionSet) -> None:
    """Raises Conflict."""
    if row.lifecycle_state == DELETED:
        raise Conflict(f"the {_KINDS[type(row)][1]} is DELETED; it can only be read")


def apply(session: Session, row: R | LogGroup | Log, fields: Mapping[str, Any]) -> None:
    """Set columns; the etag changes only if one of them did."""
    for name, value in fields.items():
        setattr(row, name, value)
    if session.is_modified(row):
        row.version += 1


def change_compartment(session: Session, row: R, compartment_id: str) -> None:
    apply(session, row, {"compartment_id": compartment_id})


def generated_name(kind: Kind, now: datetime) -> str:
    """The display name of a resource that was given none."""
    return f"{kind}{now:%Y%m%d%H%M%S}"


def refuse_used(what: str, users: list[str], how: str) -> None:
    """Raises Conflict naming the users, if there are any."""
    if users:
        named = ", ".join(users[:MAX_NAMED])
        if len(users) > MAX_NAMED:
            named += f" and {len(users) - MAX_NAMED} more"
        raise Conflict(f"{what}: {named}; {how}")


def create_project(
    session: Session, fields: Mapping[str, Any], *, created_by: str, now: datetime
) -> Project:
    project = Project(id=new_ocid(Kind.PROJECT), created_by=created_by, time_created=now, **fields)
    project.display_name = project.display_name or generated_name(Kind.PROJECT, now)
    session.add(project)
    session.flush()
    return project


def delete_project(session: Session, project: Project, *, now: datetime) -> WorkRequest:
    """The project becomes DELETED and its work request SUCCEEDED at once: nothing takes time.

    Raises Conflict while it contains models or deployments.
    """
    models = session.scalars(
        select(Model.id).where(
            Model.project_id == project.id, Model.lifecycle_state != ModelState.DELETED
        )
    )
    refuse_used("the project contains models", list(models), "delete them first")
    deployments = session.scalars(
        select(Deployment.id).where(
            Deployment.project_id == project.id,
            Deployment.lifecycle_state != DeploymentState.DELETED,
        )
    )
    refuse_used("the project contains deployments", list(deployments), "delete them first")
    apply(session, project, {"lifecycle_state": ProjectState.DELETED})
    return work_requests.finish_at_once(
        session,
        Operation.PROJECT_DELETE,
        "Deleted.",
        resource_id=project.id,
        resource_kind="data-science-project",
        resource_uri=f"/20190101/projects/{project.id}",
        compartment_id=project.compartment_id,
        now=now,
    )
