"""What tests of deployments start from: a model, a request, a stand-in for the reconciler."""

from typing import Any

from havre.api.services import Services
from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import DeploymentState, ModelState
from havre.store import logs, work_requests
from havre.store.schema import Artifact, Deployment, Model

CONFIGURATION = "modelDeploymentConfigurationDetails"


def digest_of(model_id: str) -> str:
    return model_id[-32:] * 2


def add_model(
    services: Services, *, has_artifact: bool = True, state: ModelState = ModelState.ACTIVE
) -> str:
    """A model row and, if wanted, its artifact's; no bytes are needed before it is run."""
    model_id = new_ocid(Kind.MODEL)
    with services.database.write() as session:
        session.add(
            Model(
                id=model_id,
                compartment_id=services.identity.tenancy_ocid,
                created_by=services.identity.user_ocid,
                time_created=services.clock(),
                project_id=services.identity.project_ocid,
                display_name="iris",
                lifecycle_state=state,
            )
        )
        session.flush()
        if has_artifact:
            session.add(
                Artifact(
                    model_id=model_id,
                    slot="model",
                    digest=digest_of(model_id),
                    size=1,
                    md5="x",
                    file_name="a.zip",
                    time_created=services.clock(),
                )
            )
    return model_id


def add_log(services: Services, name: str = "mine") -> dict[str, str]:
    """A log in a log group of its own, as ``categoryLogDetails`` names it."""
    owned = {"created_by": services.identity.user_ocid, "now": services.clock()}
    with services.database.write() as session:
        fields = {"compartment_id": services.identity.tenancy_ocid, "display_name": name}
        made = logs.create_group(session, fields, **owned)
        group = logs.find_group(session, made.resource_id)
        log = logs.create_log(session, group, {"display_name": name}, **owned)
        return {"logId": log.resource_id, "logGroupId": group.id}


def create_request(
    services: Services, model_id: str, *, variables: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """The body of a create call as oracle-ads sends it."""
    model = {
        "modelId": model_id,
        "instanceConfiguration": {
            "instanceShapeName": "VM.Standard.E4.Flex",
            "modelDeploymentInstanceShapeConfigDetails": {"ocpus": 1.0, "memoryInGBs": 16.0},
        },
        "scalingPolicy": {"policyType": "FIXED_SIZE", "instanceCount": 1},
        "bandwidthMbps": 10,
    }
    return {
        "projectId": services.identity.project_ocid,
        "compartmentId": services.identity.tenancy_ocid,
        "displayName": "iris",
        CONFIGURATION: {
            "deploymentType": "SINGLE_MODEL",
            "modelConfigurationDetails": model,
            "environmentConfigurationDetails": {
                "environmentConfigurationType": "DEFAULT",
                "environmentVariables": variables or {},
            },
        },
        **fields,
    }


def settle(services: Services, deployment_id: str, state: DeploymentState | None = None) -> None:
    """What the reconciler does when a change has become true: state first, then the receipt.

    ``state`` is what is wanted unless stated.
    """
    with services.database.write() as session:
        row = session.get_one(Deployment, deployment_id)
        assert row.work_request_id is not None
        row.lifecycle_state = state or row.target_state
        is_up = row.lifecycle_state == DeploymentState.ACTIVE
        row.current_instances = row.spec["instance_count"] if is_up else 0
        row.serving_spec = row.spec if is_up else None
        row.serving_configuration = row.configuration if is_up else None
        row.version += 1
        work_requests.succeed(session, row.work_request_id, "Done.", now=services.clock())
