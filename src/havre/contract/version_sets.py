"""Model version sets: models that are versions of one another."""

from typing import Literal

from havre.contract.base import Described, DisplayName, Id, Moment, ResourceBase
from havre.domain.states import VersionSetState


class CreateModelVersionSetDetails(Described):
    compartment_id: Id
    project_id: Id
    name: DisplayName


class UpdateModelVersionSetDetails(Described):
    pass


class ModelVersionSet(ResourceBase):
    """Also the summary in lists, which has the same fields."""

    project_id: str
    name: str
    description: str | None
    lifecycle_state: VersionSetState
    time_updated: Moment
    created_by: str
    category: Literal["USER"] = "USER"
