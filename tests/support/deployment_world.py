"""What tests of deployments start from: a model, a request, a stand-in for the reconciler."""

from dataclasses import dataclass, field
from typing import Any

from havre.api.services import Services
from havre.domain.lease import Candidate
from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import DeploymentState, ModelState
from havre.reconciler.fence import Fence, FencedDatabase
from havre.reconciler.record import Recorder
from havre.reconciler.snapshot import Snapshot, load
from havre.store import leases, logs
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


def recorder_of(services: Services) -> Recorder:
    """What records the outcomes of changes, for the holder of the lease."""
    with services.database.write() as session:
        lease = leases.acquire(session, Candidate("home", "http://here", term_s=None))
    assert lease is not None
    fence = Fence(lease.token, until=float("inf"))
    return Recorder(FencedDatabase(services.database, fence), services.clock)


def settle(services: Services, deployment_id: str) -> None:
    """The change under way has succeeded."""
    snapshot = _snapshot(services, deployment_id)
    recorder = recorder_of(services)
    recorder.count_instances(snapshot, snapshot.spec.instance_count if snapshot.runs else 0)
    recorder.succeed(snapshot)


def set_state(services: Services, deployment_id: str, state: DeploymentState) -> None:
    """Put a deployment into a state, whatever leads there."""
    with services.database.write() as session:
        row = session.get_one(Deployment, deployment_id)
        row.lifecycle_state = state
        row.version += 1


def _snapshot(services: Services, deployment_id: str) -> Snapshot:
    with services.database.read() as session:
        snapshot = load(session, deployment_id)
    assert snapshot is not None
    return snapshot


@dataclass
class StandIn:
    """Carries changes out the moment it is woken, or when it is called while ``is_paused``."""

    services: Services | None = None
    is_paused: bool = False
    woken: list[str] = field(default_factory=list)

    def wake(self, deployment_id: str) -> None:
        self.woken.append(deployment_id)
        if not self.is_paused:
            self.reconcile(deployment_id)

    def reconcile(self, deployment_id: str) -> None:
        assert self.services is not None
        snapshot = _snapshot(self.services, deployment_id)
        if snapshot.is_canceling:
            recorder_of(self.services).cancel(snapshot)
        else:
            settle(self.services, deployment_id)

    def fail(self, deployment_id: str, reason: str) -> None:
        assert self.services is not None
        recorder_of(self.services).fail(_snapshot(self.services, deployment_id), reason)
