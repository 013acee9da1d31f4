"""Projects: what contains models and deployments."""

from havre.contract.base import Id, Named, ResourceBase
from havre.domain.states import ProjectState


class CreateProjectDetails(Named):
    compartment_id: Id


class UpdateProjectDetails(Named):
    pass


class Project(ResourceBase):
    """Also the summary in lists, which has the same fields."""

    display_name: str
    description: str | None
    created_by: str
    lifecycle_state: ProjectState
