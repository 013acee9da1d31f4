"""Resources of each type, as searches see them."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from havre.domain.resources import Resource
from havre.store.schema import Deployment, Log, LogGroup, Model, Project, VersionSet

ACTIVE = "ACTIVE"
"""The state of types without states: what exists is active."""

_Columns = dict[str, InstrumentedAttribute[Any]]

_OF_TYPE: dict[str, tuple[type[Any], InstrumentedAttribute[str], _Columns]] = {
    "DataScienceProject": (
        Project,
        Project.display_name,
        {"description": Project.description, "createdBy": Project.created_by},
    ),
    "DataScienceModel": (
        Model,
        Model.display_name,
        {
            "description": Model.description,
            "createdBy": Model.created_by,
            "projectId": Model.project_id,
            "lifecycleDetails": Model.lifecycle_details,
            "modelVersionSetId": Model.version_set_id,
            "versionLabel": Model.version_label,
        },
    ),
    "DataScienceModelVersionSet": (
        VersionSet,
        VersionSet.name,
        {
            "description": VersionSet.description,
            "createdBy": VersionSet.created_by,
            "projectId": VersionSet.project_id,
            "timeUpdated": VersionSet.time_updated,
        },
    ),
    "DataScienceModelDeployment": (
        Deployment,
        Deployment.display_name,
        {
            "description": Deployment.description,
            "createdBy": Deployment.created_by,
            "projectId": Deployment.project_id,
            "lifecycleDetails": Deployment.lifecycle_details,
            "modelId": Deployment.model_id,
        },
    ),
    "LogGroup": (
        LogGroup,
        LogGroup.display_name,
        {
            "description": LogGroup.description,
            "createdBy": LogGroup.created_by,
            "timeLastModified": LogGroup.time_last_modified,
        },
    ),
    "Log": (
        Log,
        Log.display_name,
        {
            "createdBy": Log.created_by,
            "logGroupId": Log.log_group_id,
            "timeLastModified": Log.time_last_modified,
        },
    ),
}


def read_resources(session: Session, types: Sequence[str]) -> Iterator[Resource]:
    """All resources of some types, including deleted ones that the API still shows."""
    for resource_type in types:
        table, name, fields = _OF_TYPE[resource_type]
        shared = [table.id, table.time_created, name, table.freeform_tags, table.defined_tags]
        if table is Log:
            statement = select(*shared, LogGroup.compartment_id, *fields.values()).join(
                LogGroup, Log.log_group_id == LogGroup.id
            )
        else:
            statement = select(*shared, table.compartment_id, *fields.values())
        has_state = hasattr(table, "lifecycle_state")
        if has_state:
            statement = statement.add_columns(table.lifecycle_state)
        for row in session.execute(statement):
            identifier, created, called, freeform, defined, compartment, *others = row
            state = others.pop() if has_state else ACTIVE
            yield Resource(
                resource_type=resource_type,
                identifier=identifier,
                compartment_id=compartment,
                time_created=created,
                display_name=called,
                lifecycle_state=state,
                freeform_tags=freeform,
                defined_tags=defined,
                fields=dict(zip(fields, others, strict=True)),
            )
