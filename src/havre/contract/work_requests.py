"""Work requests on the wire."""

from havre.contract.base import Moment, ResponseModel


class WorkRequestResource(ResponseModel):
    action_type: str
    entity_type: str
    identifier: str
    entity_uri: str


class WorkRequest(ResponseModel):
    """The summary of a list has the same fields."""

    id: str
    operation_type: str
    status: str
    compartment_id: str
    percent_complete: float
    resources: list[WorkRequestResource]
    time_accepted: Moment
    time_started: Moment | None
    time_finished: Moment | None


class WorkRequestLogEntry(ResponseModel):
    message: str
    timestamp: Moment


class WorkRequestError(ResponseModel):
    code: str
    message: str
    timestamp: Moment
