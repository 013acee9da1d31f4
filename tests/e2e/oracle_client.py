"""The OCI SDK as a user holds it: its own clients, its own defaults, one endpoint of ours."""

from typing import Any

import oci
from oci.data_science import models as sdk
from oci.model_deployment import ModelDeploymentClient
from tests.e2e.havre_server import HavreServer

WAIT = {"max_interval_seconds": 1, "max_wait_seconds": 120}
ENDED = ["SUCCEEDED", "FAILED"]


class OracleClient:
    """The three clients, and the few calls that every test makes."""

    def __init__(self, server: HavreServer) -> None:
        self.server = server
        self.config = oci.config.from_file(server.profile["file"], server.profile["profile"])
        self.compartment_id = server.profile["compartment"]
        self.project_id = server.profile["project"]
        self.data_science = oci.data_science.DataScienceClient(
            self.config, service_endpoint=server.url
        )
        self.composite = oci.data_science.DataScienceClientCompositeOperations(self.data_science)
        self.predictions = ModelDeploymentClient(self.config, service_endpoint=server.url)
        # For calls that are meant to fail: neither repeated for a minute and a half, nor held
        # against the other clients of this process, which share one circuit breaker.
        self.once = ModelDeploymentClient(
            self.config,
            service_endpoint=server.url,
            retry_strategy=oci.retry.NoneRetryStrategy(),
            circuit_breaker_strategy=oci.circuit_breaker.NoCircuitBreakerStrategy(),
        )

    def close(self) -> None:
        for client in (self.data_science, self.predictions, self.once):
            client.base_client.session.close()

    def save(self, archive: bytes | None, name: str = "model") -> str:
        """A model in the catalog, with its artifact unless that is None; its OCID."""
        details = sdk.CreateModelDetails(
            compartment_id=self.compartment_id, project_id=self.project_id, display_name=name
        )
        model_id: str = self.data_science.create_model(details).data.id
        if archive is not None:
            self.data_science.create_model_artifact(
                model_id, archive, content_disposition='attachment; filename="artifact.zip"'
            )
        return model_id

    def details(self, model_id: str, **choices: Any) -> sdk.CreateModelDeploymentDetails:
        """What a create sends. A choice that is not made is the usual."""
        variables = dict(choices.get("variables", {}))
        if "copies" in choices:
            variables["WEB_CONCURRENCY"] = str(choices["copies"])
        figures = choices.get("figures", {"ocpus": 1.0, "memory_in_gbs": 16.0})
        return sdk.CreateModelDeploymentDetails(
            display_name=choices.get("name", "deployment"),
            compartment_id=self.compartment_id,
            project_id=choices.get("project_id", self.project_id),
            model_deployment_configuration_details=sdk.SingleModelDeploymentConfigurationDetails(
                model_configuration_details=sdk.ModelConfigurationDetails(
                    model_id=model_id,
                    instance_configuration=sdk.InstanceConfiguration(
                        instance_shape_name=choices.get("shape", "VM.Standard.E4.Flex"),
                        model_deployment_instance_shape_config_details=figures
                        and sdk.ModelDeploymentInstanceShapeConfigDetails(**figures),
                    ),
                    scaling_policy=sdk.FixedSizeScalingPolicy(
                        instance_count=choices.get("instances", 1)
                    ),
                    bandwidth_mbps=10,
                ),
                environment_configuration_details=(
                    sdk.DefaultModelDeploymentEnvironmentConfigurationDetails(
                        environment_variables=variables
                    )
                ),
            ),
        )

    def deploy(self, model_id: str, **choices: Any) -> str:
        """An ACTIVE deployment's OCID."""
        request = self.create(model_id, **choices)
        assert request.status == "SUCCEEDED", (
            self.log_lines(request.id),
            self.server.tell_logs(),
        )
        return str(request.resources[0].identifier)

    def create(self, model_id: str, **choices: Any) -> sdk.WorkRequest:
        """The work request of a create, ended one way or the other."""
        return self.composite.create_model_deployment_and_wait_for_state(
            self.details(model_id, **choices), ENDED, waiter_kwargs=WAIT
        ).data

    def update(self, deployment_id: str, **fields: Any) -> sdk.WorkRequest:
        """The work request of an update, ended one way or the other."""
        return self.composite.update_model_deployment_and_wait_for_state(
            deployment_id,
            sdk.UpdateModelDeploymentDetails(**fields),
            ENDED,
            waiter_kwargs=WAIT,
        ).data

    def delete(self, deployment_id: str) -> None:
        request = self.composite.delete_model_deployment_and_wait_for_state(
            deployment_id, ENDED, waiter_kwargs=WAIT
        ).data
        assert request.status == "SUCCEEDED", self.log_lines(request.id)

    def state(self, deployment_id: str) -> str:
        return str(self.data_science.get_model_deployment(deployment_id).data.lifecycle_state)

    def log_lines(self, work_request_id: str) -> list[str]:
        rows = oci.pagination.list_call_get_all_results(
            self.data_science.list_work_request_logs, work_request_id
        ).data
        return [row.message for row in rows]


def new_model(model_id: str) -> dict[str, Any]:
    """The fields of an update to another model."""
    return {
        "model_deployment_configuration_details": (
            sdk.UpdateSingleModelDeploymentConfigurationDetails(
                model_configuration_details=sdk.UpdateModelConfigurationDetails(model_id=model_id)
            )
        )
    }
