"""Models over HTTP: everything but their bytes."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Response
from sqlalchemy import false, select
from sqlalchemy.orm import Session

from havre.api.conditions import IfMatch, RetryToken, created, require_match
from havre.api.fields import columns_of
from havre.api.listing import CompartmentId, Pages, apply_filters, page_response
from havre.api.responses import make_response
from havre.api.room import with_room
from havre.api.services import Deps, Services
from havre.api.uploads import release_bytes
from havre.contract import models as contract
from havre.contract.base import ChangeCompartment
from havre.domain.states import ModelState
from havre.store import catalog, models
from havre.store.paging import read_page
from havre.store.retry_tokens import Receipt
from havre.store.schema import Model, VersionSet

SORTS = {
    "timeCreated": Model.time_created,
    "displayName": Model.display_name,
    "lifecycleState": Model.lifecycle_state,
}

Setting = TypeVar("Setting", contract.RetentionSetting, contract.BackupSetting)

router = APIRouter(prefix="/20190101/models", tags=["models"])


@router.post("", response_model=contract.Model)
def create_model(body: contract.CreateModelDetails, here: Deps, token: RetryToken) -> Response:
    def act(session: Session, now: datetime) -> Receipt:
        created_by = here.identity.user_ocid
        return Receipt(models.create(session, columns_of(body), created_by=created_by, now=now).id)

    with created(here, token, body, "create_model", act) as (session, receipt):
        return _model_response(session, catalog.find(session, Model, receipt.resource_id))


@router.get("", response_model=list[contract.ModelSummary])
def list_models(
    here: Deps,
    paging: Pages,
    compartment_id: CompartmentId,
    model_id: Annotated[str | None, Query(alias="id")] = None,
    project_id: Annotated[str | None, Query(alias="projectId")] = None,
    display_name: Annotated[str | None, Query(alias="displayName")] = None,
    lifecycle_state: Annotated[ModelState | None, Query(alias="lifecycleState")] = None,
    created_by: Annotated[str | None, Query(alias="createdBy")] = None,
    version_set_name: Annotated[str | None, Query(alias="modelVersionSetName")] = None,
    version_label: Annotated[str | None, Query(alias="versionLabel")] = None,
    category: Literal["USER", "SERVICE"] = "USER",
    sort_by: Annotated[
        Literal["timeCreated", "displayName", "lifecycleState"], Query(alias="sortBy")
    ] = "timeCreated",
) -> Response:
    statement = apply_filters(
        select(Model),
        {
            Model.compartment_id: compartment_id,
            Model.id: model_id,
            Model.project_id: project_id,
            Model.display_name: display_name,
            Model.lifecycle_state: lifecycle_state,
            Model.created_by: created_by,
            Model.version_label: version_label,
        },
    )
    if version_set_name is not None:
        named = select(VersionSet.id).where(VersionSet.name == version_set_name)
        statement = statement.where(Model.version_set_id.in_(named))
    if category == "SERVICE":
        statement = statement.where(false())
    order = paging.order(sort_by, SORTS, tie=Model.id)
    with here.database.read() as session:
        page = read_page(session, statement, order, limit=paging.limit, token=paging.page)
        names = models.version_set_names(session, page.rows)
        items = [contract.ModelSummary(**_summary(row, names)) for row in page.rows]
        return page_response(page, items)


@router.get("/{model_id}", response_model=contract.Model)
def get_model(model_id: str, here: Deps) -> Response:
    with here.database.read() as session:
        return _model_response(session, catalog.find(session, Model, model_id))


@router.put("/{model_id}", response_model=contract.Model)
def update_model(
    model_id: str, body: contract.UpdateModelDetails, here: Deps, if_match: IfMatch = None
) -> Response:
    fields = columns_of(body)
    with here.database.write() as session:
        models.hold_version_set(session, fields)
        row = catalog.find_for_change(session, Model, model_id)
        require_match(if_match, row)
        models.update(session, row, fields)
        return _model_response(session, row)


@router.post("/{model_id}/actions/activate", response_model=contract.Model)
def activate_model(model_id: str, here: Deps, if_match: IfMatch = None) -> Response:
    return _change(here, model_id, if_match, models.activate)


@router.post("/{model_id}/actions/deactivate", response_model=contract.Model)
def deactivate_model(model_id: str, here: Deps, if_match: IfMatch = None) -> Response:
    return _change(here, model_id, if_match, models.deactivate)


@router.delete("/{model_id}", status_code=204)
def delete_model(model_id: str, here: Deps, if_match: IfMatch = None) -> Response:
    def act() -> None:
        with here.database.write() as session:
            row = catalog.find_for_change(session, Model, model_id)
            require_match(if_match, row)
            models.delete(session, row)

    with_room(here, act)
    release_bytes(here)
    return make_response(status=204)


@router.post("/{model_id}/actions/changeCompartment", status_code=204)
def change_model_compartment(
    model_id: str, body: ChangeCompartment, here: Deps, if_match: IfMatch = None
) -> Response:
    with here.database.write() as session:
        row = catalog.find_for_change(session, Model, model_id)
        require_match(if_match, row)
        catalog.change_compartment(session, row, body.compartment_id)
        return make_response(status=204, row=row)


@router.post("/{model_id}/provenance", response_model=contract.ModelProvenance)
def create_model_provenance(
    model_id: str, body: contract.ModelProvenanceDetails, here: Deps, token: RetryToken
) -> Response:
    def act(session: Session, _: datetime) -> Receipt:
        row = catalog.find_for_change(session, Model, model_id)
        models.create_provenance(session, row, body.given())
        return Receipt(row.id)

    with created(here, token, body, "create_model_provenance", act, model_id) as (session, _):
        return _provenance_response(catalog.find(session, Model, model_id))


@router.get("/{model_id}/provenance", response_model=contract.ModelProvenance)
def get_model_provenance(model_id: str, here: Deps) -> Response:
    with here.database.read() as session:
        return _provenance_response(catalog.find(session, Model, model_id))


@router.put("/{model_id}/provenance", response_model=contract.ModelProvenance)
def update_model_provenance(
    model_id: str, body: contract.ModelProvenanceDetails, here: Deps, if_match: IfMatch = None
) -> Response:
    with here.database.write() as session:
        row = catalog.find_for_change(session, Model, model_id)
        require_match(if_match, row)
        models.update_provenance(session, row, body.given())
        return _provenance_response(row)


def _change(
    here: Services, model_id: str, if_match: str | None, act: Callable[[Session, Model], None]
) -> Response:
    with here.database.write() as session:
        row = catalog.find_for_change(session, Model, model_id)
        require_match(if_match, row)
        act(session, row)
        return _model_response(session, row)


def _model_response(session: Session, row: Model) -> Response:
    names = models.version_set_names(session, [row])
    custom, defined = models.metadata_with_artifacts(session, row)
    body = contract.Model(
        **_summary(row, names),
        description=row.description,
        custom_metadata_list=_metadata(row.custom_metadata, custom),
        defined_metadata_list=_metadata(row.defined_metadata, defined),
        input_schema=row.input_schema,
        output_schema=row.output_schema,
        retention_setting=_setting(contract.RetentionSetting, row.retention_setting),
        backup_setting=_setting(contract.BackupSetting, row.backup_setting),
    )
    return make_response(body, row=row)


def _provenance_response(row: Model) -> Response:
    return make_response(contract.ModelProvenance(**models.provenance_of(row)), row=row)


def _summary(row: Model, version_set_names: dict[str, str]) -> dict[str, Any]:
    return {
        "id": row.id,
        "compartment_id": row.compartment_id,
        "project_id": row.project_id,
        "display_name": row.display_name,
        "created_by": row.created_by,
        "time_created": row.time_created,
        "lifecycle_state": row.lifecycle_state,
        "lifecycle_details": row.lifecycle_details,
        "model_version_set_id": row.version_set_id,
        "model_version_set_name": version_set_names.get(row.version_set_id or ""),
        "version_id": row.version_id,
        "version_label": row.version_label,
        "freeform_tags": row.freeform_tags,
        "defined_tags": row.defined_tags,
    }


def _setting(kind: type[Setting], stored: dict[str, Any] | None) -> Setting | None:
    return None if stored is None else kind(**stored)


def _metadata(entries: list[Any], with_artifact: set[str]) -> list[contract.Metadata]:
    """An artifact may come before its entry: then the entry is made up, with the key alone."""
    shown = [
        contract.Metadata(**{**entry, "has_artifact": entry["key"] in with_artifact})
        for entry in entries
    ]
    missing = with_artifact - {entry["key"] for entry in entries}
    return shown + [contract.Metadata(key=key, has_artifact=True) for key in sorted(missing)]
