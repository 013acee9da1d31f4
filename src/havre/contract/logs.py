"""Log groups, logs and searches on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from havre.contract.base import (
    Described,
    DisplayName,
    Id,
    Moment,
    RequestModel,
    ResourceBase,
    ResponseModel,
    Tagged,
)

MIN_RETENTION_DAYS, MAX_RETENTION_DAYS = 30, 180


class CreateLogGroupDetails(Described):
    compartment_id: Id
    display_name: DisplayName


class UpdateLogGroupDetails(Described):
    display_name: DisplayName | None = None


class LogGroup(ResourceBase):
    """Also the summary in lists, which has the same fields."""

    display_name: str
    description: str | None
    lifecycle_state: Literal["ACTIVE"] = "ACTIVE"
    time_last_modified: Moment


class _LogDetails(Tagged):
    """What a log is made with and can be changed to."""

    is_enabled: bool | None = None
    retention_duration: (
        Annotated[int, Field(ge=MIN_RETENTION_DAYS, le=MAX_RETENTION_DAYS, multiple_of=30)] | None
    ) = None
    configuration: Any = None

    @field_validator("is_enabled")
    @classmethod
    def _refuse_disabled(cls, value: bool | None) -> bool | None:
        if value is False:
            raise ValueError(
                "a log cannot be disabled here; to keep less, set its retentionDuration or the "
                "settings log_retention_days and log_max_mb"
            )
        return value

    @field_validator("configuration")
    @classmethod
    def _refuse_configuration(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError(
                "is for logs of OCI's services; leave it out, and name the log in the "
                "categoryLogDetails of a deployment"
            )
        return value


class CreateLogDetails(_LogDetails):
    display_name: DisplayName
    log_type: str

    @field_validator("log_type")
    @classmethod
    def _refuse_service(cls, value: str) -> str:
        if value != "CUSTOM":
            raise ValueError(
                "must be CUSTOM: name the log in the categoryLogDetails of a deployment, and it "
                "takes the deployment's entries"
            )
        return value


class UpdateLogDetails(_LogDetails):
    display_name: DisplayName | None = None


class ChangeLogLogGroupDetails(RequestModel):
    target_log_group_id: Id


class Log(ResourceBase):
    """Also the summary in lists. ``retention_duration`` is in days."""

    tenancy_id: str
    log_group_id: str
    display_name: str
    log_type: Literal["CUSTOM"] = "CUSTOM"
    is_enabled: Literal[True] = True
    lifecycle_state: Literal["ACTIVE"] = "ACTIVE"
    retention_duration: int
    configuration: None = None
    time_last_modified: Moment


class SearchLogsDetails(RequestModel):
    time_start: datetime
    time_end: datetime
    search_query: Annotated[str, StringConstraints(min_length=1)]
    is_return_field_info: bool | None = None


class SearchResult(ResponseModel):
    data: dict[str, Any]


class FieldInfo(ResponseModel):
    field_name: str
    field_type: str


class SearchResultSummary(ResponseModel):
    result_count: int
    field_count: int


class SearchResponse(ResponseModel):
    results: list[SearchResult]
    fields: list[FieldInfo] | None
    summary: SearchResultSummary
