"""Search over resources, as far as clients of model deployments use it."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from havre.contract.base import Moment, RequestModel, ResponseModel


class SearchDetails(RequestModel):
    type: Literal["Structured", "FreeText"]
    query: Annotated[str, StringConstraints(max_length=50_000)] | None = None


class ResourceSummary(ResponseModel):
    resource_type: str
    identifier: str
    compartment_id: str
    time_created: Moment
    display_name: str
    lifecycle_state: str
    freeform_tags: dict[str, str]
    defined_tags: dict[str, dict[str, object]]


class ResourceSummaryCollection(ResponseModel):
    items: list[ResourceSummary]
