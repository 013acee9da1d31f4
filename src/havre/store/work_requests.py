"""Work requests: the receipt of a long operation. Every change of one goes through here.

Each function works inside the caller's transaction, so that a state and its log line are recorded
together or not at all. The moment is an argument.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from havre.domain.errors import NotFound
from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import FINISHED, OF_LOGGING, Operation, WorkRequestState, transition
from havre.store.schema import WorkRequest, WorkRequestError, WorkRequestLog

STARTED = 5.0
"""Percent, of one that has started."""
ALMOST_DONE = 99.0
"""Clients stop waiting at 100, so only a finished work request may have it."""


def accept(
    session: Session,
    operation: Operation,
    *,
    resource_id: str,
    resource_kind: str,
    resource_uri: str,
    compartment_id: str,
    now: datetime,
) -> WorkRequest:
    """A new work request, ACCEPTED, with its first log line."""
    request = WorkRequest(
        id=new_ocid(Kind.LOG_WORK_REQUEST if operation in OF_LOGGING else Kind.WORK_REQUEST),
        compartment_id=compartment_id,
        operation=operation,
        status=WorkRequestState.ACCEPTED,
        percent_complete=0.0,
        resource_id=resource_id,
        resource_kind=resource_kind,
        resource_uri=resource_uri,
        time_accepted=now,
    )
    session.add(request)
    session.flush()
    _log(session, request, "Accepted.", now)
    return request


def finish_at_once(
    session: Session,
    operation: Operation,
    message: str,
    *,
    resource_id: str,
    resource_kind: str,
    resource_uri: str,
    compartment_id: str,
    now: datetime,
) -> WorkRequest:
    """A finished work request, for clients that wait for one, of what takes no time."""
    request = accept(
        session,
        operation,
        resource_id=resource_id,
        resource_kind=resource_kind,
        resource_uri=resource_uri,
        compartment_id=compartment_id,
        now=now,
    )
    succeed(session, request.id, message, now=now)
    return request


def log(
    session: Session, work_request_id: str, message: str, *, percent: float = 0.0, now: datetime
) -> None:
    """Log a step. Of a finished work request the last line stays: clients show that one.

    ``percent`` raises the progress; it never falls and reaches 100 only when finished.
    """
    request = _get(session, work_request_id)
    if WorkRequestState(request.status) not in FINISHED:
        _log(session, request, message, now)
        request.percent_complete = max(request.percent_complete, min(percent, ALMOST_DONE))


def start(session: Session, work_request_id: str, first_step: str, *, now: datetime) -> None:
    """ACCEPTED becomes IN_PROGRESS, with its first step in the log; any later state stays."""
    request = _get(session, work_request_id)
    if request.status == WorkRequestState.ACCEPTED:
        _start(session, request, first_step, now)


def cancel(session: Session, work_request_id: str) -> None:
    """Ask for the end of an unfinished work request: CANCELING."""
    _transition(_get(session, work_request_id), WorkRequestState.CANCELING)


def succeed(session: Session, work_request_id: str, message: str, *, now: datetime) -> None:
    request = _get(session, work_request_id)
    if request.status == WorkRequestState.ACCEPTED:
        _start(session, request, "", now)
    _finish(session, request, WorkRequestState.SUCCEEDED, message, now)


def end_canceled(session: Session, work_request_id: str, message: str, *, now: datetime) -> None:
    _finish(session, _get(session, work_request_id), WorkRequestState.CANCELED, message, now)


def fail(session: Session, work_request_id: str, code: str, reason: str, *, now: datetime) -> None:
    """FAILED, with the reason as its last log line (clients show that) and as an error entry."""
    session.add(
        WorkRequestError(work_request_id=work_request_id, code=code, message=reason, timestamp=now)
    )
    _finish(session, _get(session, work_request_id), WorkRequestState.FAILED, reason, now)


def _start(session: Session, request: WorkRequest, first_step: str, now: datetime) -> None:
    _transition(request, WorkRequestState.IN_PROGRESS)
    request.time_started = now
    request.percent_complete = STARTED
    if first_step:
        _log(session, request, first_step, now)


def _finish(
    session: Session, request: WorkRequest, state: WorkRequestState, message: str, now: datetime
) -> None:
    _transition(request, state)
    request.time_started = request.time_started or now
    request.time_finished = now
    if state is WorkRequestState.SUCCEEDED:
        request.percent_complete = 100.0
    _log(session, request, message, now)


def _log(session: Session, request: WorkRequest, message: str, now: datetime) -> None:
    session.add(WorkRequestLog(work_request_id=request.id, message=message, timestamp=now))


def _transition(request: WorkRequest, to: WorkRequestState) -> None:
    request.status = transition(WorkRequestState(request.status), to)
    request.version += 1


def _get(session: Session, work_request_id: str) -> WorkRequest:
    """Locked until the transaction ends: a deletion and the reconciler may both want to end it."""
    request = session.get(
        WorkRequest, work_request_id, with_for_update=True, populate_existing=True
    )
    if request is None:
        raise NotFound(f"work request {work_request_id[:255]} does not exist")
    return request
