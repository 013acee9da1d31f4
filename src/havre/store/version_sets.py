"""Model version sets."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from havre.domain.errors import Conflict
from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import ModelState, Operation, VersionSetState
from havre.store import models, work_requests
from havre.store.catalog import apply, refuse_used
from havre.store.deployments import require_project
from havre.store.locks import hold
from havre.store.schema import Model, VersionSet, WorkRequest


def create(
    session: Session, fields: Mapping[str, Any], *, created_by: str, now: datetime
) -> VersionSet:
    """Raises RelatedNotFound for the project, Conflict for a name that is taken."""
    require_project(session, fields["project_id"])
    hold(session, f"version set {fields['name']}")
    taken = session.scalars(
        select(VersionSet.id).where(
            VersionSet.compartment_id == fields["compartment_id"],
            VersionSet.name == fields["name"],
            VersionSet.lifecycle_state != VersionSetState.DELETED,
        )
    ).first()
    if taken is not None:
        raise Conflict(
            f"model version set {taken} of this compartment has the name {fields['name']!r}; "
            "choose another name"
        )
    version_set = VersionSet(
        id=new_ocid(Kind.VERSION_SET),
        created_by=created_by,
        time_created=now,
        time_updated=now,
        **fields,
    )
    session.add(version_set)
    session.flush()
    return version_set


def update(
    session: Session, version_set: VersionSet, fields: Mapping[str, Any], *, now: datetime
) -> None:
    before = version_set.version
    apply(session, version_set, fields)
    if version_set.version != before:
        version_set.time_updated = now


def delete(
    session: Session, version_set: VersionSet, *, with_models: bool, now: datetime
) -> WorkRequest:
    """Raises Conflict while it has models, or when one of them is used by a deployment."""
    remaining = session.scalars(
        select(Model)
        .where(Model.version_set_id == version_set.id, Model.lifecycle_state != ModelState.DELETED)
        .order_by(Model.id)
        .with_for_update()
    ).all()
    if not with_models:
        refuse_used(
            "the model version set contains models",
            [model.id for model in remaining],
            "delete them first, or set isDeleteRelatedModels=true",
        )
    for model in remaining:
        models.delete(session, model)
    apply(session, version_set, {"lifecycle_state": VersionSetState.DELETED, "time_updated": now})
    return work_requests.finish_at_once(
        session,
        Operation.MODELVERSIONSET_DELETE,
        "Deleted.",
        resource_id=version_set.id,
        resource_kind="data-science-model-version-set",
        resource_uri=f"/20190101/modelVersionSets/{version_set.id}",
        compartment_id=version_set.compartment_id,
        now=now,
    )
