"""Models: what is recorded of them, and what may be done to one that is in use."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from havre.domain.errors import Conflict, InvalidParameter, NotFound, RelatedNotFound
from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import ModelState, VersionSetState
from havre.store.catalog import apply, generated_name, refuse_used
from havre.store.deployments import require_project
from havre.store.intents import deployments_of_model
from havre.store.model_artifacts import CUSTOM, DEFINED
from havre.store.schema import Artifact, Model, VersionSet

MAX_METADATA_BYTES = 32 * 1024
MAX_SCHEMA_BYTES = 32 * 1024


def create(session: Session, fields: Mapping[str, Any], *, created_by: str, now: datetime) -> Model:
    """``fields`` are columns. Raises RelatedNotFound, InvalidParameter (sizes)."""
    require_project(session, fields["project_id"])
    version_set_id = fields.get("version_set_id")
    version = next_version(session, version_set_id) if version_set_id else None
    model = Model(
        id=new_ocid(Kind.MODEL),
        created_by=created_by,
        time_created=now,
        version_id=version,
        **fields,
    )
    model.display_name = model.display_name or generated_name(Kind.MODEL, now)
    session.add(model)
    session.flush()
    _check_sizes(model)
    return model


def hold_version_set(session: Session, fields: Mapping[str, Any]) -> None:
    """Before an update that names a version set holds its model: deleting a set holds the set first
    and then its models, so that the two cannot wait for each other.
    """
    if version_set_id := fields.get("version_set_id"):
        session.get(VersionSet, version_set_id, with_for_update=True)


def update(session: Session, model: Model, fields: Mapping[str, Any]) -> None:
    """Raises RelatedNotFound, InvalidParameter (sizes)."""
    fields = dict(fields)
    if fields.get("version_set_id", model.version_set_id) != model.version_set_id:
        version_set_id = fields["version_set_id"]
        fields["version_id"] = next_version(session, version_set_id) if version_set_id else None
    apply(session, model, fields)
    _check_sizes(model)


def next_version(session: Session, version_set_id: str) -> int:
    """Counts from 1 within a set and never gives a number twice. Raises RelatedNotFound."""
    version_set = session.get(
        VersionSet, version_set_id, with_for_update=True, populate_existing=True
    )
    if version_set is None or version_set.lifecycle_state != VersionSetState.ACTIVE:
        raise RelatedNotFound(
            f"modelVersionSetId {version_set_id} does not name an ACTIVE model version set; "
            "list them with GET /20190101/modelVersionSets"
        )
    version_set.last_version += 1
    return version_set.last_version


def activate(session: Session, model: Model) -> None:
    """Activating what is ACTIVE changes nothing."""
    apply(session, model, {"lifecycle_state": ModelState.ACTIVE})


def deactivate(session: Session, model: Model) -> None:
    """Raises Conflict naming the deployments that use it."""
    _refuse_deployed(session, model)
    apply(session, model, {"lifecycle_state": ModelState.INACTIVE})


def delete(session: Session, model: Model) -> None:
    """The row stays as DELETED; its bytes go by `model_artifacts.release` afterwards.

    Raises Conflict naming the deployments that use it.
    """
    _refuse_deployed(session, model)
    apply(session, model, {"lifecycle_state": ModelState.DELETED})


def provenance_of(model: Model) -> dict[str, Any]:
    """Raises NotFound until it was set: so clients distinguish "never" from "empty"."""
    if model.provenance is None:
        raise NotFound(f"model {model.id} has no provenance yet")
    return model.provenance


def create_provenance(session: Session, model: Model, provenance: Mapping[str, Any]) -> None:
    """Raises Conflict when it was set before."""
    if model.provenance is not None:
        raise Conflict(f"model {model.id} has its provenance already; update it with PUT")
    apply(session, model, {"provenance": dict(provenance)})


def update_provenance(session: Session, model: Model, changed: Mapping[str, Any]) -> None:
    """Only what is named changes. Raises NotFound until it was created."""
    apply(session, model, {"provenance": {**provenance_of(model), **changed}})


def version_set_names(session: Session, models: Sequence[Model]) -> dict[str, str]:
    """Names by id, of the version sets that these models are in."""
    ids = {model.version_set_id for model in models if model.version_set_id}
    rows = session.execute(select(VersionSet.id, VersionSet.name).where(VersionSet.id.in_(ids)))
    return {row.id: row.name for row in rows}


def metadata_with_artifacts(session: Session, model: Model) -> tuple[set[str], set[str]]:
    """The keys of custom and of defined metadata that have an artifact."""
    if model.lifecycle_state == ModelState.DELETED:
        return set(), set()
    slots = session.scalars(select(Artifact.slot).where(Artifact.model_id == model.id)).all()
    custom = {slot.removeprefix(CUSTOM) for slot in slots if slot.startswith(CUSTOM)}
    defined = {slot.removeprefix(DEFINED) for slot in slots if slot.startswith(DEFINED)}
    return custom, defined


def _refuse_deployed(session: Session, model: Model) -> None:
    users = [deployment.id for deployment in deployments_of_model(session, model.id)]
    refuse_used(
        f"model {model.id} is used by deployments", users, "delete them or give them another model"
    )


def _check_sizes(model: Model) -> None:
    problems = []
    metadata = _json_bytes(model.custom_metadata) + _json_bytes(model.defined_metadata)
    if metadata > MAX_METADATA_BYTES:
        problems.append(
            f"customMetadataList and definedMetadataList take {metadata} bytes of JSON; "
            f"{MAX_METADATA_BYTES} is the most: put long texts into metadata artifacts"
        )
    schemas = len((model.input_schema or "").encode()) + len((model.output_schema or "").encode())
    if schemas > MAX_SCHEMA_BYTES:
        problems.append(
            f"inputSchema and outputSchema take {schemas} bytes; {MAX_SCHEMA_BYTES} is the most"
        )
    if problems:
        raise InvalidParameter(problems)


def _json_bytes(entries: list[Any]) -> int:
    return len(json.dumps(entries, ensure_ascii=False).encode()) if entries else 0
