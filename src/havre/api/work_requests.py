"""Work requests over HTTP: how clients follow, and end, a long operation."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from havre.api.conditions import IfMatch, require_match
from havre.api.listing import CompartmentId, Pages, apply_filters, page_response
from havre.api.responses import make_response
from havre.api.room import with_room
from havre.api.services import Deps
from havre.contract import work_requests as contract
from havre.domain.errors import NotFound
from havre.domain.ocid import Kind, is_ocid
from havre.domain.states import FINISHED, OF_LOGGING, Operation, WorkRequestState
from havre.store import intents
from havre.store.paging import Order, read_page
from havre.store.schema import WorkRequest, WorkRequestError, WorkRequestLog

Operations = frozenset[Operation]

SORTS = {
    "operationType": WorkRequest.operation,
    "status": WorkRequest.status,
    "timeAccepted": WorkRequest.time_accepted,
}

OUTCOMES = {
    Operation.MODEL_DEPLOYMENT_CREATE: "CREATED",
    Operation.MODEL_DEPLOYMENT_DELETE: "DELETED",
    Operation.PROJECT_DELETE: "DELETED",
    Operation.MODELVERSIONSET_DELETE: "DELETED",
    Operation.CREATE_LOG_GROUP: "CREATED",
    Operation.DELETE_LOG_GROUP: "DELETED",
    Operation.CREATE_LOG: "CREATED",
    Operation.DELETE_LOG: "DELETED",
}
"""What a succeeded operation did to its resource; UPDATED where not listed."""

router = APIRouter(prefix="/20190101/workRequests", tags=["work requests"])
of_logging = APIRouter(prefix="/20200531/workRequests", tags=["work requests of log groups"])
"""The same of log groups and logs, whose API they have a version of."""


async def _operations(request: Request) -> Operations:
    is_of_logging = request.url.path.startswith(of_logging.prefix)
    return OF_LOGGING if is_of_logging else frozenset(Operation) - OF_LOGGING


OfThisApi = Annotated[Operations, Depends(_operations)]


@of_logging.get("")
@router.get("")
def list_work_requests(
    here: Deps,
    paging: Pages,
    operations: OfThisApi,
    compartment_id: CompartmentId,
    work_request_id: Annotated[str | None, Query(alias="id")] = None,
    resource_id: Annotated[str | None, Query(alias="resourceId")] = None,
    operation_type: Annotated[str | None, Query(alias="operationType")] = None,
    status: WorkRequestState | None = None,
    sort_by: Annotated[
        Literal["operationType", "status", "timeAccepted"], Query(alias="sortBy")
    ] = "timeAccepted",
) -> Response:
    statement = apply_filters(
        select(WorkRequest).where(WorkRequest.operation.in_(operations)),
        {
            WorkRequest.compartment_id: compartment_id,
            WorkRequest.id: work_request_id,
            WorkRequest.resource_id: resource_id,
            WorkRequest.operation: operation_type,
            WorkRequest.status: status,
        },
    )
    order = paging.order(sort_by, SORTS, tie=WorkRequest.id)
    with here.database.read() as session:
        page = read_page(session, statement, order, limit=paging.limit, token=paging.page)
    return page_response(page, [_body(row) for row in page.rows])


@of_logging.get("/{work_request_id}")
@router.get("/{work_request_id}")
def get_work_request(work_request_id: str, here: Deps) -> Response:
    with here.database.read() as session:
        row = _find(session, work_request_id)
    return make_response(_body(row), row=row)


@of_logging.get("/{work_request_id}/logs")
@router.get("/{work_request_id}/logs")
def list_work_request_logs(work_request_id: str, here: Deps, paging: Pages) -> Response:
    """Oldest first: clients show the last entry as the current step."""
    statement = select(WorkRequestLog).where(WorkRequestLog.work_request_id == work_request_id)
    order = Order("time", WorkRequestLog.id, WorkRequestLog.id)
    with here.database.read() as session:
        _find(session, work_request_id)
        page = read_page(session, statement, order, limit=paging.limit, token=paging.page)
    return page_response(
        page, [contract.WorkRequestLogEntry.model_validate(row) for row in page.rows]
    )


@of_logging.get("/{work_request_id}/errors")
@router.get("/{work_request_id}/errors")
def list_work_request_errors(work_request_id: str, here: Deps, paging: Pages) -> Response:
    statement = select(WorkRequestError).where(WorkRequestError.work_request_id == work_request_id)
    order = Order("time", WorkRequestError.id, WorkRequestError.id)
    with here.database.read() as session:
        _find(session, work_request_id)
        page = read_page(session, statement, order, limit=paging.limit, token=paging.page)
    return page_response(page, [contract.WorkRequestError.model_validate(row) for row in page.rows])


@of_logging.delete("/{work_request_id}")
@router.delete("/{work_request_id}")
def cancel_work_request(work_request_id: str, here: Deps, if_match: IfMatch = None) -> Response:
    """The request is CANCELING until the reconciler has put things back."""

    def act() -> Response:
        with here.database.write() as session:
            row = _find(session, work_request_id, for_change=True)
            require_match(if_match, row)
            intents.cancel(session, row)
        here.wake(row.resource_id)
        return make_response(status=202, row=row)

    return with_room(here, act)


def _find(session: Session, work_request_id: str, *, for_change: bool = False) -> WorkRequest:
    row = None
    if any(is_ocid(work_request_id, kind) for kind in (Kind.WORK_REQUEST, Kind.LOG_WORK_REQUEST)):
        row = session.get(WorkRequest, work_request_id, with_for_update=for_change or None)
    if row is None:
        raise NotFound(
            f"work request {work_request_id[:255]} does not exist, or you may not see it"
        )
    return row


def _body(row: WorkRequest) -> contract.WorkRequest:
    return contract.WorkRequest(
        id=row.id,
        operation_type=row.operation,
        status=row.status,
        compartment_id=row.compartment_id,
        percent_complete=row.percent_complete,
        resources=[
            contract.WorkRequestResource(
                action_type=_action(row),
                entity_type=row.resource_kind,
                identifier=row.resource_id,
                entity_uri=row.resource_uri,
            )
        ],
        time_accepted=row.time_accepted,
        time_started=row.time_started,
        time_finished=row.time_finished,
    )


def _action(row: WorkRequest) -> str:
    status = WorkRequestState(row.status)
    if status not in FINISHED:
        return "IN_PROGRESS"
    if status is not WorkRequestState.SUCCEEDED:
        return "RELATED"  # what it set out to do did not come about
    return OUTCOMES.get(Operation(row.operation), "UPDATED")
