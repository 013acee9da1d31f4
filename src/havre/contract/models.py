"""Models of the catalog: their metadata. Their bytes are not JSON and not here."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from havre.contract.base import (
    Description,
    DisplayName,
    Id,
    Named,
    RequestModel,
    ResourceBase,
    ResponseModel,
)
from havre.domain.states import ModelState

CATEGORIES = (
    "Performance",
    "Training Profile",
    "Training and Validation Datasets",
    "Training Environment",
    "Reports",
    "Readme",
    "other",
)
MAX_DAYS = 100_000


class Notification(StrEnum):
    NONE = "NONE"
    ALL = "ALL"
    ON_FAILURE = "ON_FAILURE"
    ON_SUCCESS = "ON_SUCCESS"


def _check_category(category: str) -> str:
    """Clients differ in case, and send nothing at all as an empty text."""
    if category and category.lower() not in {known.lower() for known in CATEGORIES}:
        raise ValueError(f"category must be one of {', '.join(CATEGORIES)}")
    return category


MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Category = Annotated[str, AfterValidator(_check_category)]


class SetMetadata(RequestModel):
    """An entry as a client sends it. Entries without a value are common: it comes later."""

    key: MetadataKey
    value: str | None = None
    description: Description | None = None
    category: Category | None = None
    keywords: list[str] | None = None


class Metadata(ResponseModel):
    key: str
    value: str | None = None
    description: str | None = None
    category: str | None = None
    keywords: list[str] | None = None
    has_artifact: bool = False


class RetentionSetting(RequestModel):
    archive_after_days: Annotated[int, Field(ge=1, le=MAX_DAYS)]
    delete_after_days: Annotated[int, Field(ge=1, le=MAX_DAYS)] | None = None
    customer_notification_type: Notification = Notification.NONE


class BackupSetting(RequestModel):
    is_backup_enabled: bool
    backup_region: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    customer_notification_type: Notification = Notification.NONE


class _ModelDetails(Named):
    """What a model is made with and can be changed to."""

    custom_metadata_list: list[SetMetadata] | None = None
    defined_metadata_list: list[SetMetadata] | None = None
    model_version_set_id: Id | None = None
    version_label: DisplayName | None = None
    retention_setting: RetentionSetting | None = None
    backup_setting: BackupSetting | None = None


class CreateModelDetails(_ModelDetails):
    compartment_id: Id
    project_id: Id
    input_schema: str | None = None
    output_schema: str | None = None


class UpdateModelDetails(_ModelDetails):
    """Schemas are not here: they are given at creation only."""


class ModelProvenance(ResponseModel):
    repository_url: str | None = None
    git_branch: str | None = None
    git_commit: str | None = None
    script_dir: str | None = None
    training_script: str | None = None
    training_id: str | None = None


class ModelProvenanceDetails(RequestModel):
    """All optional: training outside of version control has no provenance, and sends ``{}``."""

    repository_url: Description | None = None
    git_branch: Description | None = None
    git_commit: Description | None = None
    script_dir: Description | None = None
    training_script: Description | None = None
    training_id: Description | None = None


class ModelSummary(ResourceBase):
    project_id: str
    display_name: str
    created_by: str
    lifecycle_state: ModelState
    lifecycle_details: str | None
    model_version_set_id: str | None
    model_version_set_name: str | None
    version_id: int | None
    version_label: str | None
    category: Literal["USER"] = "USER"
    is_model_by_reference: bool = False


class Model(ModelSummary):
    description: str | None
    custom_metadata_list: list[Metadata]
    defined_metadata_list: list[Metadata]
    input_schema: str | None
    output_schema: str | None
    retention_setting: RetentionSetting | None
    backup_setting: BackupSetting | None
