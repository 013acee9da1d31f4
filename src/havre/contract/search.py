"""Search over resources: structured queries and free text."""

from typing import Annotated, Literal

from pydantic import StringConstraints, model_validator

from havre.contract.base import Moment, RequestModel, ResponseModel

MAX_TEXT_LENGTH = 1000


class SearchDetails(RequestModel):
    type: Literal["Structured", "FreeText"]
    query: Annotated[str, StringConstraints(max_length=50_000)] | None = None
    text: Annotated[str, StringConstraints(max_length=MAX_TEXT_LENGTH)] | None = None
    matching_context_type: Literal["NONE", "HIGHLIGHTS"] | None = None

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> "SearchDetails":
        needed = "query" if self.type == "Structured" else "text"
        if not (getattr(self, needed) or "").strip():
            raise ValueError(f"{needed} is needed where type is {self.type}")
        return self


class SearchContext(ResponseModel):
    highlights: dict[str, list[str]]


class ResourceSummary(ResponseModel):
    resource_type: str
    identifier: str
    compartment_id: str
    time_created: Moment
    display_name: str
    lifecycle_state: str
    freeform_tags: dict[str, str]
    defined_tags: dict[str, dict[str, object]]
    search_context: SearchContext | None = None
    additional_details: dict[str, str | Moment | None]


class ResourceSummaryCollection(ResponseModel):
    items: list[ResourceSummary]


class QueryableField(ResponseModel):
    """``objectProperties`` are the parts of an object, such as a tag's key and value."""

    field_type: str
    field_name: str
    is_array: bool = False
    object_properties: list["QueryableField"] | None = None


class ResourceType(ResponseModel):
    name: str
    fields: list[QueryableField]
