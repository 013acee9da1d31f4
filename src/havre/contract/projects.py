"""Projects: what contains models and deployments."""

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
from havre.domain.states import ProjectState


class CreateProjectDetails(RequestModel):
    compartment_id: Id
    display_name: DisplayName | None = None
    description: Description | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: DefinedTags | None = None


class UpdateProjectDetails(RequestModel):
    display_name: DisplayName | None = None
    description: Description | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: DefinedTags | None = None


class Project(ResponseModel):
    """Also the summary in lists, which has the same fields."""

    id: str
    time_created: Moment
    display_name: str
    description: str | None
    compartment_id: str
    created_by: str
    lifecycle_state: ProjectState
    freeform_tags: dict[str, str]
    defined_tags: dict[str, dict[str, object]]
