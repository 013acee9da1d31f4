"""Model version sets: models that are versions of one another."""

from typing import Literal

from havre.contract.base import (
    DefinedTags,
    Description,
    DisplayName,
    FreeformTags,
    Id,
    Moment,
    RequestModel,
    ResponseModel,
)
from havre.domain.states import VersionSetState


class CreateModelVersionSetDetails(RequestModel):
    compartment_id: Id
    project_id: Id
    name: DisplayName
    description: Description | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: DefinedTags | None = None


class UpdateModelVersionSetDetails(RequestModel):
    description: Description | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: DefinedTags | None = None


class ModelVersionSet(ResponseModel):
    """Also the summary in lists, which has the same fields."""

    id: str
    compartment_id: str
    project_id: str
    name: str
    description: str | None
    lifecycle_state: VersionSetState
    time_created: Moment
    time_updated: Moment
    created_by: str
    category: Literal["USER"] = "USER"
    freeform_tags: dict[str, str]
    defined_tags: dict[str, dict[str, object]]
