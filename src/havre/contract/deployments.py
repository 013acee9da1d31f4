"""Model deployments on the wire, and the meaning of a partial update."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, field_validator
from pydantic_core import PydanticCustomError

from havre.contract.base import FreeformTags, Id, Named, RequestModel, ResourceBase, ResponseModel
from havre.contract.deployment_configuration import DeploymentConfiguration, gather_instances
from havre.domain.errors import InvalidParameter
from havre.domain.ocid import is_ocid
from havre.domain.rollout.policy import read_policy

REPLACED_WHOLE = frozenset({"environmentVariables", "freeformTags", "definedTags"})
CLEARED_BY_NULL = frozenset({"description", "maximumBandwidthMbps", "access", "predict"})


def _check_ocid(value: str) -> str:
    if not is_ocid(value):
        raise PydanticCustomError("ocid", "must be an OCID (ocid1.…)")
    return value


def _check_policy(tags: dict[str, str]) -> dict[str, str]:
    try:
        read_policy(tags)
    except InvalidParameter as error:
        raise ValueError(error.message) from error
    return tags


Ocid = Annotated[Id, AfterValidator(_check_ocid)]
DeploymentTags = Annotated[FreeformTags, AfterValidator(_check_policy)]
"""Some of a deployment's freeform tags control how it is rolled out."""


class LogDetails(RequestModel):
    log_id: Id
    log_group_id: Id


class CategoryLogDetails(RequestModel):
    access: LogDetails | None = None
    predict: LogDetails | None = None


class CreateModelDeploymentDetails(Named):
    project_id: Ocid
    compartment_id: Ocid
    model_deployment_configuration_details: DeploymentConfiguration
    category_log_details: CategoryLogDetails | None = None
    freeform_tags: DeploymentTags | None = None

    @property
    def configuration(self) -> dict[str, Any]:
        """As it is stored and echoed: discriminators and defaults in place."""
        return _as_stored(self.model_deployment_configuration_details)

    @property
    def logs(self) -> dict[str, Any] | None:
        """``categoryLogDetails`` as it is stored and echoed."""
        return None if self.category_log_details is None else _as_stored(self.category_log_details)


class UpdateModelDeploymentDetails(RequestModel):
    """Any part of what can change. Its fields are checked once they are merged: see merged()."""

    display_name: Any = None
    description: Any = None
    model_deployment_configuration_details: Any = None
    category_log_details: Any = None
    freeform_tags: Any = None
    defined_tags: Any = None

    @field_validator("model_deployment_configuration_details")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        return gather_instances(value)


def merged(stored: Mapping[str, Any], update: UpdateModelDeploymentDetails) -> dict[str, Any]:
    """A create request for what the deployment will be; yet to be checked as one.

    ``stored`` has the keys of CreateModelDeploymentDetails, in camelCase. An absent key leaves what
    is stored, null too except where it clears (CLEARED_BY_NULL); objects merge key by key, but
    variables and tags are replaced as a whole.
    """
    return _merge(stored, update.model_dump(by_alias=True, exclude_unset=True))


class ModelDeploymentSystemData(ResponseModel):
    system_infra_type: str = "INSTANCE_POOL"
    model_type: str = "MANAGED_MODEL"
    current_instance_count: int


class ModelDeploymentSummary(ResourceBase):
    display_name: str
    description: str | None
    project_id: str
    created_by: str
    model_deployment_configuration_details: dict[str, Any]
    category_log_details: dict[str, Any]
    model_deployment_url: str
    model_deployment_system_data: ModelDeploymentSystemData
    lifecycle_state: str


class ModelDeployment(ModelDeploymentSummary):
    lifecycle_details: str | None


def _as_stored(part: RequestModel) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)


def _merge(stored: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(stored)
    for key, value in change.items():
        before = result.get(key)
        if value is None:
            if key in CLEARED_BY_NULL:
                result.pop(key, None)
        elif (
            isinstance(value, Mapping) and isinstance(before, Mapping) and key not in REPLACED_WHOLE
        ):
            result[key] = _merge(before, value)
        else:
            result[key] = value
    return result
