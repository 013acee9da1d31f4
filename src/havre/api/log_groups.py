"""Log groups and logs over HTTP, as OCI's Logging Management has them.

Nothing of it takes time; each change has a work request, because clients wait for one.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy import false, select
from sqlalchemy.orm import Session

from havre.api.conditions import IfMatch, RetryToken, created, require_match
from havre.api.fields import columns_of
from havre.api.listing import CompartmentId, Pages, apply_filters, page_response
from havre.api.responses import make_response
from havre.api.services import Deps, Services
from havre.contract import logs as contract
from havre.contract.base import ChangeCompartment, RequestModel
from havre.store import logs
from havre.store.paging import read_page
from havre.store.retry_tokens import Receipt
from havre.store.schema import Log, LogGroup

GROUP_SORTS = {"timeCreated": LogGroup.time_created, "displayName": LogGroup.display_name}
LOG_SORTS = {"timeCreated": Log.time_created, "displayName": Log.display_name}

SortBy = Annotated[Literal["timeCreated", "displayName"], Query(alias="sortBy")]
DisplayName = Annotated[str | None, Query(alias="displayName")]

router = APIRouter(prefix="/20200531/logGroups", tags=["log groups and logs"])


@router.post("", status_code=202)
def create_log_group(
    body: contract.CreateLogGroupDetails, here: Deps, token: RetryToken
) -> Response:
    def act(session: Session, now: datetime) -> Receipt:
        created_by = here.identity.user_ocid
        request = logs.create_group(session, columns_of(body), created_by=created_by, now=now)
        return Receipt(request.resource_id, request.id)

    with created(here, token, body, "create_log_group", act) as (_, receipt):
        return make_response(status=202, work_request_id=receipt.work_request_id)


@router.get("", response_model=list[contract.LogGroup])
def list_log_groups(
    here: Deps,
    paging: Pages,
    compartment_id: CompartmentId,
    is_whole_tree: Annotated[bool, Query(alias="isCompartmentIdInSubtree")] = False,
    display_name: DisplayName = None,
    sort_by: SortBy = "timeCreated",
) -> Response:
    """The tenancy is the one compartment that is known to contain others: all of them."""
    is_everything = is_whole_tree and compartment_id == here.identity.tenancy_ocid
    statement = apply_filters(
        select(LogGroup),
        {
            LogGroup.compartment_id: None if is_everything else compartment_id,
            LogGroup.display_name: display_name,
        },
    )
    order = paging.order(sort_by, GROUP_SORTS, tie=LogGroup.id)
    with here.database.read() as session:
        page = read_page(session, statement, order, limit=paging.limit, token=paging.page)
    return page_response(page, [contract.LogGroup.model_validate(row) for row in page.rows])


@router.get("/{log_group_id}", response_model=contract.LogGroup)
def get_log_group(log_group_id: str, here: Deps) -> Response:
    with here.database.read() as session:
        row = logs.find_group(session, log_group_id)
        return make_response(contract.LogGroup.model_validate(row), row=row)


@router.put("/{log_group_id}", status_code=202)
def update_log_group(
    log_group_id: str, body: contract.UpdateLogGroupDetails, here: Deps, if_match: IfMatch = None
) -> Response:
    with here.database.write() as session:
        row = logs.find_group(session, log_group_id, for_change=True)
        require_match(if_match, row)
        request = logs.update_group(session, row, columns_of(body), now=here.clock())
    return make_response(status=202, row=row, work_request_id=request.id)


@router.delete("/{log_group_id}", status_code=202)
def delete_log_group(log_group_id: str, here: Deps, if_match: IfMatch = None) -> Response:
    with here.database.write() as session:
        row = logs.find_group(session, log_group_id, for_change=True)
        require_match(if_match, row)
        request = logs.delete_group(
            session, row, tenancy=here.identity.tenancy_ocid, now=here.clock()
        )
    return make_response(status=202, work_request_id=request.id)


@router.post("/{log_group_id}/actions/changeCompartment", status_code=202)
def change_log_group_compartment(
    log_group_id: str, body: ChangeCompartment, here: Deps, if_match: IfMatch = None
) -> Response:
    with here.database.write() as session:
        row = logs.find_group(session, log_group_id, for_change=True)
        require_match(if_match, row)
        tenancy = here.identity.tenancy_ocid
        request = logs.move_group(
            session, row, body.compartment_id, tenancy=tenancy, now=here.clock()
        )
    return make_response(status=202, row=row, work_request_id=request.id)


@router.post("/{log_group_id}/logs", status_code=202)
def create_log(
    log_group_id: str, body: contract.CreateLogDetails, here: Deps, token: RetryToken
) -> Response:
    def act(session: Session, now: datetime) -> Receipt:
        # Held, so that it is not deleted meanwhile.
        group = logs.find_group(session, log_group_id, for_change=True)
        created_by = here.identity.user_ocid
        request = logs.create_log(session, group, _columns(body), created_by=created_by, now=now)
        return Receipt(request.resource_id, request.id)

    with created(here, token, body, "create_log", act, log_group_id) as (_, receipt):
        return make_response(status=202, work_request_id=receipt.work_request_id)


@router.get("/{log_group_id}/logs", response_model=list[contract.Log])
def list_logs(
    log_group_id: str,
    here: Deps,
    paging: Pages,
    log_type: Annotated[Literal["CUSTOM", "SERVICE"] | None, Query(alias="logType")] = None,
    source_service: Annotated[str | None, Query(alias="sourceService")] = None,
    source_resource: Annotated[str | None, Query(alias="sourceResource")] = None,
    display_name: DisplayName = None,
    lifecycle_state: Annotated[
        Literal["CREATING", "ACTIVE", "UPDATING", "INACTIVE", "DELETING", "FAILED"] | None,
        Query(alias="lifecycleState"),
    ] = None,
    sort_by: SortBy = "timeCreated",
) -> Response:
    statement = apply_filters(
        select(Log), {Log.log_group_id: log_group_id, Log.display_name: display_name}
    )
    # Every log here is CUSTOM, which has no source, and ACTIVE.
    is_none = log_type == "SERVICE" or lifecycle_state not in (None, "ACTIVE")
    if is_none or source_service is not None or source_resource is not None:
        statement = statement.where(false())
    order = paging.order(sort_by, LOG_SORTS, tie=Log.id)
    with here.database.read() as session:
        group = logs.find_group(session, log_group_id)
        page = read_page(session, statement, order, limit=paging.limit, token=paging.page)
    return page_response(page, [_body(row, group, here) for row in page.rows])


@router.get("/{log_group_id}/logs/{log_id}", response_model=contract.Log)
def get_log(log_group_id: str, log_id: str, here: Deps) -> Response:
    with here.database.read() as session:
        row = logs.find_log(session, log_group_id, log_id)
        group = logs.find_group(session, log_group_id)
    return make_response(_body(row, group, here), row=row)


@router.put("/{log_group_id}/logs/{log_id}", status_code=202)
def update_log(
    log_group_id: str,
    log_id: str,
    body: contract.UpdateLogDetails,
    here: Deps,
    if_match: IfMatch = None,
) -> Response:
    with here.database.write() as session:
        row = logs.find_log(session, log_group_id, log_id, for_change=True)
        require_match(if_match, row)
        request = logs.update_log(session, row, _columns(body), now=here.clock())
    return make_response(status=202, row=row, work_request_id=request.id)


@router.delete("/{log_group_id}/logs/{log_id}", status_code=202)
def delete_log(log_group_id: str, log_id: str, here: Deps, if_match: IfMatch = None) -> Response:
    with here.database.write() as session:
        row = logs.find_log(session, log_group_id, log_id, for_change=True)
        require_match(if_match, row)
        request = logs.delete_log(
            session, row, tenancy=here.identity.tenancy_ocid, now=here.clock()
        )
    return make_response(status=202, work_request_id=request.id)


@router.post("/{log_group_id}/logs/{log_id}/actions/changeLogGroup", status_code=202)
def change_log_log_group(
    log_group_id: str,
    log_id: str,
    body: contract.ChangeLogLogGroupDetails,
    here: Deps,
    if_match: IfMatch = None,
) -> Response:
    with here.database.write() as session:
        row = logs.find_log(session, log_group_id, log_id, for_change=True)
        require_match(if_match, row)
        target = logs.find_group(session, body.target_log_group_id, for_change=True)
        tenancy = here.identity.tenancy_ocid
        request = logs.move_log(session, row, target, tenancy=tenancy, now=here.clock())
    return make_response(status=202, row=row, work_request_id=request.id)


def _columns(body: RequestModel) -> dict[str, Any]:
    columns = columns_of(body)
    for name in ("log_type", "is_enabled", "configuration"):
        columns.pop(name, None)  # they can have one value only
    return columns


def _body(row: Log, group: LogGroup, here: Services) -> contract.Log:
    return contract.Log(
        id=row.id,
        tenancy_id=here.identity.tenancy_ocid,
        compartment_id=group.compartment_id,
        log_group_id=group.id,
        display_name=row.display_name,
        retention_duration=row.retention_days or here.settings.log_retention_days,
        time_created=row.time_created,
        time_last_modified=row.time_last_modified,
        freeform_tags=row.freeform_tags,
        defined_tags=row.defined_tags,
    )
