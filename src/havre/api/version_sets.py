"""Model version sets over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy import false, select
from sqlalchemy.orm import Session

from havre.api.conditions import IfMatch, RetryToken, created, require_match
from havre.api.fields import columns_of
from havre.api.listing import CompartmentId, Pages, apply_filters, page_response
from havre.api.responses import make_response
from havre.api.services import Deps
from havre.api.uploads import release_bytes
from havre.contract import version_sets as contract
from havre.contract.base import ChangeCompartment
from havre.domain.states import VersionSetState
from havre.store import catalog, version_sets
from havre.store.paging import read_page
from havre.store.retry_tokens import Receipt
from havre.store.schema import VersionSet

SORTS = {
    "timeCreated": VersionSet.time_created,
    "name": VersionSet.name,
    "lifecycleState": VersionSet.lifecycle_state,
}

router = APIRouter(prefix="/20190101/modelVersionSets", tags=["model version sets"])


@router.post("", response_model=contract.ModelVersionSet)
def create_model_version_set(
    body: contract.CreateModelVersionSetDetails, here: Deps, token: RetryToken
) -> Response:
    def act(session: Session, now: datetime) -> Receipt:
        created_by = here.identity.user_ocid
        row = version_sets.create(session, columns_of(body), created_by=created_by, now=now)
        return Receipt(row.id)

    with created(here, token, body, "create_model_version_set", act) as (session, receipt):
        row = catalog.find(session, VersionSet, receipt.resource_id)
        return make_response(contract.ModelVersionSet.model_validate(row), row=row)


@router.get("", response_model=list[contract.ModelVersionSet])
def list_model_version_sets(
    here: Deps,
    paging: Pages,
    compartment_id: CompartmentId,
    version_set_id: Annotated[str | None, Query(alias="id")] = None,
    project_id: Annotated[str | None, Query(alias="projectId")] = None,
    name: str | None = None,
    category: Literal["USER", "SERVICE"] = "USER",
    lifecycle_state: Annotated[VersionSetState | None, Query(alias="lifecycleState")] = None,
    created_by: Annotated[str | None, Query(alias="createdBy")] = None,
    sort_by: Annotated[
        Literal["timeCreated", "name", "lifecycleState"], Query(alias="sortBy")
    ] = "timeCreated",
) -> Response:
    statement = apply_filters(
        select(VersionSet),
        {
            VersionSet.compartment_id: compartment_id,
            VersionSet.id: version_set_id,
            VersionSet.project_id: project_id,
            VersionSet.name: name,
            VersionSet.lifecycle_state: lifecycle_state,
            VersionSet.created_by: created_by,
        },
    )
    if category == "SERVICE":
        statement = statement.where(false())
    order = paging.order(sort_by, SORTS, tie=VersionSet.id)
    with here.database.read() as session:
        page = read_page(session, statement, order, limit=paging.limit, token=paging.page)
        items = [contract.ModelVersionSet.model_validate(row) for row in page.rows]
        return page_response(page, items)


@router.get("/{version_set_id}", response_model=contract.ModelVersionSet)
def get_model_version_set(version_set_id: str, here: Deps) -> Response:
    with here.database.read() as session:
        row = catalog.find(session, VersionSet, version_set_id)
        return make_response(contract.ModelVersionSet.model_validate(row), row=row)


@router.put("/{version_set_id}", response_model=contract.ModelVersionSet)
def update_model_version_set(
    version_set_id: str,
    body: contract.UpdateModelVersionSetDetails,
    here: Deps,
    if_match: IfMatch = None,
) -> Response:
    with here.database.write() as session:
        row = catalog.find_for_change(session, VersionSet, version_set_id)
        require_match(if_match, row)
        version_sets.update(session, row, columns_of(body), now=here.clock())
        return make_response(contract.ModelVersionSet.model_validate(row), row=row)


@router.delete("/{version_set_id}", status_code=202)
def delete_model_version_set(
    version_set_id: str,
    here: Deps,
    if_match: IfMatch = None,
    with_models: Annotated[bool, Query(alias="isDeleteRelatedModels")] = False,
) -> Response:
    with here.database.write() as session:
        row = catalog.find_for_change(session, VersionSet, version_set_id)
        require_match(if_match, row)
        request = version_sets.delete(session, row, with_models=with_models, now=here.clock())
    release_bytes(here)
    return make_response(status=202, work_request_id=request.id)


@router.post("/{version_set_id}/actions/changeCompartment", status_code=204)
def change_model_version_set_compartment(
    version_set_id: str, body: ChangeCompartment, here: Deps, if_match: IfMatch = None
) -> Response:
    with here.database.write() as session:
        row = catalog.find_for_change(session, VersionSet, version_set_id)
        require_match(if_match, row)
        catalog.change_compartment(session, row, body.compartment_id)
        return make_response(status=204, row=row)
