"""Projects over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from havre.api.conditions import IfMatch, RetryToken, created, require_match
from havre.api.fields import columns_of
from havre.api.listing import CompartmentId, Pages, apply_filters, page_response
from havre.api.responses import make_response
from havre.api.services import Deps
from havre.contract import projects as contract
from havre.contract.base import ChangeCompartment
from havre.domain.states import ProjectState
from havre.store import catalog
from havre.store.paging import read_page
from havre.store.retry_tokens import Receipt
from havre.store.schema import Project

SORTS = {"timeCreated": Project.time_created, "displayName": Project.display_name}

router = APIRouter(prefix="/20190101/projects", tags=["projects"])


@router.post("", response_model=contract.Project)
def create_project(body: contract.CreateProjectDetails, here: Deps, token: RetryToken) -> Response:
    def act(session: Session, now: datetime) -> Receipt:
        created_by = here.identity.user_ocid
        row = catalog.create_project(session, columns_of(body), created_by=created_by, now=now)
        return Receipt(row.id)

    with created(here, token, body, "create_project", act) as (session, receipt):
        row = catalog.find(session, Project, receipt.resource_id)
        return make_response(contract.Project.model_validate(row), row=row)


@router.get("", response_model=list[contract.Project])
def list_projects(
    here: Deps,
    paging: Pages,
    compartment_id: CompartmentId,
    project_id: Annotated[str | None, Query(alias="id")] = None,
    display_name: Annotated[str | None, Query(alias="displayName")] = None,
    lifecycle_state: Annotated[ProjectState | None, Query(alias="lifecycleState")] = None,
    created_by: Annotated[str | None, Query(alias="createdBy")] = None,
    sort_by: Annotated[
        Literal["timeCreated", "displayName"], Query(alias="sortBy")
    ] = "timeCreated",
) -> Response:
    statement = apply_filters(
        select(Project),
        {
            Project.compartment_id: compartment_id,
            Project.id: project_id,
            Project.display_name: display_name,
            Project.lifecycle_state: lifecycle_state,
            Project.created_by: created_by,
        },
    )
    order = paging.order(sort_by, SORTS, tie=Project.id)
    with here.database.read() as session:
        page = read_page(session, statement, order, limit=paging.limit, token=paging.page)
        return page_response(page, [contract.Project.model_validate(row) for row in page.rows])


@router.get("/{project_id}", response_model=contract.Project)
def get_project(project_id: str, here: Deps) -> Response:
    with here.database.read() as session:
        row = catalog.find(session, Project, project_id)
        return make_response(contract.Project.model_validate(row), row=row)


@router.put("/{project_id}", response_model=contract.Project)
def update_project(
    project_id: str, body: contract.UpdateProjectDetails, here: Deps, if_match: IfMatch = None
) -> Response:
    with here.database.write() as session:
        row = catalog.find_for_change(session, Project, project_id)
        require_match(if_match, row)
        catalog.apply(session, row, columns_of(body))
        return make_response(contract.Project.model_validate(row), row=row)


@router.delete("/{project_id}", status_code=202)
def delete_project(project_id: str, here: Deps, if_match: IfMatch = None) -> Response:
    with here.database.write() as session:
        row = catalog.find_for_change(session, Project, project_id)
        require_match(if_match, row)
        request = catalog.delete_project(session, row, now=here.clock())
        return make_response(status=202, work_request_id=request.id)


@router.post("/{project_id}/actions/changeCompartment", status_code=204)
def change_project_compartment(
    project_id: str, body: ChangeCompartment, here: Deps, if_match: IfMatch = None
) -> Response:
    with here.database.write() as session:
        row = catalog.find_for_change(session, Project, project_id)
        require_match(if_match, row)
        catalog.change_compartment(session, row, body.compartment_id)
        return make_response(status=204, row=row)
