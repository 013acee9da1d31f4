"""Model deployments over HTTP: read the request, check it, write the intent, respond at once."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.orm import Session

from havre.api.conditions import (
    IfMatch,
    IfNoneMatch,
    RetryToken,
    claims_name,
    created,
    require_match,
)
from havre.api.listing import CompartmentId, Pages, apply_filters, page_response
from havre.api.responses import make_response
from havre.api.room import with_room
from havre.api.services import Deps, Services
from havre.contract.base import ChangeCompartment
from havre.contract.deployments import (
    CreateModelDeploymentDetails,
    ModelDeployment,
    ModelDeploymentSummary,
    ModelDeploymentSystemData,
    UpdateModelDeploymentDetails,
    merged,
)
from havre.domain.capacity import admit, demand_of
from havre.domain.deployment import DeploymentSpec
from havre.domain.errors import Conflict
from havre.domain.logs import all_categories
from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import DeploymentState
from havre.store import intents, logs
from havre.store.catalog import generated_name
from havre.store.deployments import (
    claim_name,
    find,
    find_for_change,
    listed,
    require_artifact,
    require_project,
    used_by_others,
)
from havre.store.paging import read_page
from havre.store.retry_tokens import Receipt
from havre.store.schema import Deployment

PATH = "/20190101/modelDeployments"
SORTS = {"timeCreated": Deployment.time_created, "displayName": Deployment.display_name}

router = APIRouter(prefix=PATH, tags=["model deployments"])


@router.post("")
def create_model_deployment(
    body: CreateModelDeploymentDetails,
    here: Deps,
    token: RetryToken,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """``if-none-match: *``: only if no deployment of that name is there."""
    is_claim = claims_name(if_none_match)

    def act(session: Session, now: datetime) -> Receipt:
        return _create(session, here, body, now, is_claim=is_claim)

    with created(here, token, body, "create_model_deployment", act) as (session, receipt):
        row = find(session, receipt.resource_id)
    here.wake(row.id)
    return make_response(
        _full(row, here), status=202, row=row, work_request_id=receipt.work_request_id
    )


@router.get("")
def list_model_deployments(
    here: Deps,
    paging: Pages,
    compartment_id: CompartmentId,
    deployment_id: Annotated[str | None, Query(alias="id")] = None,
    project_id: Annotated[str | None, Query(alias="projectId")] = None,
    display_name: Annotated[str | None, Query(alias="displayName")] = None,
    lifecycle_state: Annotated[DeploymentState | None, Query(alias="lifecycleState")] = None,
    created_by: Annotated[str | None, Query(alias="createdBy")] = None,
    sort_by: Annotated[
        Literal["timeCreated", "displayName"], Query(alias="sortBy")
    ] = "timeCreated",
) -> Response:
    statement = apply_filters(
        listed(),
        {
            Deployment.compartment_id: compartment_id,
            Deployment.id: deployment_id,
            Deployment.project_id: project_id,
            Deployment.display_name: display_name,
            Deployment.lifecycle_state: lifecycle_state,
            Deployment.created_by: created_by,
        },
    )
    order = paging.order(sort_by, SORTS, tie=Deployment.id)
    with here.database.read() as session:
        page = read_page(session, statement, order, limit=paging.limit, token=paging.page)
    base_url = here.base_url()
    return page_response(page, [_summary(row, here, base_url) for row in page.rows])


@router.get("/{deployment_id}")
def get_model_deployment(deployment_id: str, here: Deps) -> Response:
    with here.database.read() as session:
        row = find(session, deployment_id)
    return make_response(_full(row, here), row=row)


@router.put("/{deployment_id}")
def update_model_deployment(
    deployment_id: str, body: UpdateModelDeploymentDetails, here: Deps, if_match: IfMatch = None
) -> Response:
    with here.database.write() as session:
        row = find_for_change(session, deployment_id)
        require_match(if_match, row)
        change = _change(session, here, row, body)
        request = intents.update(session, row, change, now=here.clock())
    return _accepted(here, row, request.id)


@router.delete("/{deployment_id}")
def delete_model_deployment(deployment_id: str, here: Deps, if_match: IfMatch = None) -> Response:
    def act() -> Response:
        with here.database.write() as session:
            row = find_for_change(session, deployment_id)
            require_match(if_match, row)
            request = intents.delete(session, row, now=here.clock())
        return _accepted(here, row, request.id)

    return with_room(here, act)


@router.post("/{deployment_id}/actions/activate")
def activate_model_deployment(deployment_id: str, here: Deps, if_match: IfMatch = None) -> Response:
    with here.database.write() as session:
        row = find_for_change(session, deployment_id)
        require_match(if_match, row)
        artifact = require_artifact(session, row.model_id)
        spec = replace(DeploymentSpec.from_json(row.spec), artifact_digest=artifact.digest)
        _admit(session, here, spec, deployment_id=row.id)
        request = intents.activate(session, row, spec, now=here.clock())
    return _accepted(here, row, request.id)


@router.post("/{deployment_id}/actions/deactivate")
def deactivate_model_deployment(
    deployment_id: str, here: Deps, if_match: IfMatch = None
) -> Response:
    def act() -> Response:
        with here.database.write() as session:
            row = find_for_change(session, deployment_id)
            require_match(if_match, row)
            request = intents.deactivate(session, row, now=here.clock())
        return _accepted(here, row, request.id)

    return with_room(here, act)


@router.post("/{deployment_id}/actions/changeCompartment")
def change_model_deployment_compartment(
    deployment_id: str, body: ChangeCompartment, here: Deps, if_match: IfMatch = None
) -> Response:
    """Nothing that runs is touched. Work requests stay in the compartment they were made in."""
    with here.database.write() as session:
        row = find_for_change(session, deployment_id)
        require_match(if_match, row)
        if row.lifecycle_state == DeploymentState.DELETED:
            raise Conflict("a deleted deployment cannot be moved")
        if row.compartment_id != body.compartment_id:
            row.compartment_id = body.compartment_id
            row.version += 1
    return make_response(status=204, row=row)


def _create(
    session: Session,
    here: Services,
    body: CreateModelDeploymentDetails,
    now: datetime,
    *,
    is_claim: bool,
) -> Receipt:
    if is_claim and body.display_name:
        claim_name(session, compartment_id=body.compartment_id, display_name=body.display_name)
    require_project(session, body.project_id)
    configuration = body.model_deployment_configuration_details
    artifact = require_artifact(session, configuration.model_configuration_details.model_id)
    logs.require_logs(session, body.logs)
    spec = configuration.to_spec(artifact_digest=artifact.digest)
    _admit(session, here, spec, deployment_id=None)
    row = Deployment(
        id=new_ocid(Kind.DEPLOYMENT),
        compartment_id=body.compartment_id,
        created_by=here.identity.user_ocid,
        time_created=now,
        freeform_tags=body.freeform_tags or {},
        defined_tags=body.defined_tags or {},
        project_id=body.project_id,
        display_name=body.display_name or generated_name(Kind.DEPLOYMENT, now),
        description=body.description,
        configuration=body.configuration,
        category_log_details=body.logs,
        model_id=spec.model_id,
        spec=spec.to_json(),
    )
    request = intents.create(session, row, now=now)
    return Receipt(row.id, request.id)


def _change(
    session: Session, here: Services, row: Deployment, body: UpdateModelDeploymentDetails
) -> intents.DeploymentChange:
    """The update merged with what is stored, and checked as a create of the result would be."""
    desired = _checked(merged(_as_request(row), body))
    logs.require_logs(session, desired.logs, kept=row.category_log_details)
    spec = before = DeploymentSpec.from_json(row.spec)
    if desired.configuration != row.configuration:
        details = desired.model_deployment_configuration_details
        artifact = require_artifact(session, details.model_configuration_details.model_id)
        spec = details.to_spec(artifact_digest=artifact.digest)
        is_idle = row.lifecycle_state == DeploymentState.INACTIVE  # checked when it is activated
        if not is_idle and demand_of(spec).exceeds(demand_of(before)):
            _admit(session, here, spec, deployment_id=row.id)
    fields = {
        "display_name": desired.display_name or row.display_name,
        "description": desired.description,
        "freeform_tags": desired.freeform_tags or {},
        "defined_tags": desired.defined_tags or {},
        "category_log_details": desired.logs,
    }
    return intents.DeploymentChange(
        spec=spec,
        configuration=desired.configuration,
        fields={name: value for name, value in fields.items() if value != getattr(row, name)},
    )


def _checked(request: dict[str, Any]) -> CreateModelDeploymentDetails:
    try:
        return CreateModelDeploymentDetails.model_validate(request)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise RequestValidationError(
            [{**problem, "loc": ("body", *problem["loc"])} for problem in problems]
        ) from error


def _as_request(row: Deployment) -> dict[str, Any]:
    return {
        "displayName": row.display_name,
        "description": row.description,
        "projectId": row.project_id,
        "compartmentId": row.compartment_id,
        "modelDeploymentConfigurationDetails": row.configuration,
        "categoryLogDetails": row.category_log_details,
        "freeformTags": row.freeform_tags,
        "definedTags": row.defined_tags,
    }


def _admit(
    session: Session, here: Services, spec: DeploymentSpec, *, deployment_id: str | None
) -> None:
    admit(
        demand_of(spec),
        used=used_by_others(session, deployment_id),
        machine=here.machine,
        strict=here.settings.capacity == "strict",
        overcommit_factor=here.settings.overcommit_factor,
    )


def _accepted(here: Services, row: Deployment, work_request_id: str) -> Response:
    here.wake(row.id)
    return make_response(status=202, row=row, work_request_id=work_request_id)


def _summary(row: Deployment, here: Services, base_url: str) -> ModelDeploymentSummary:
    return ModelDeploymentSummary(**_shared(row, here, base_url))


def _full(row: Deployment, here: Services) -> ModelDeployment:
    shared = _shared(row, here, here.base_url())
    return ModelDeployment(**shared, lifecycle_details=row.lifecycle_details)


def _shared(row: Deployment, here: Services, base_url: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "time_created": row.time_created,
        "display_name": row.display_name,
        "description": row.description,
        "project_id": row.project_id,
        "compartment_id": row.compartment_id,
        "created_by": row.created_by,
        "model_deployment_configuration_details": row.configuration,
        "category_log_details": all_categories(
            row.category_log_details, here.identity.tenancy_ocid
        ),
        "model_deployment_url": f"{base_url}/{row.id}",
        "model_deployment_system_data": ModelDeploymentSystemData(
            current_instance_count=row.current_instances
        ),
        "lifecycle_state": row.lifecycle_state,
        "freeform_tags": row.freeform_tags,
        "defined_tags": row.defined_tags,
    }
