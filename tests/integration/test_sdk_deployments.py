"""The unmodified `oci` SDK against the API behind uvicorn; a stand-in plays the reconciler."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import oci
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from oci.data_science import models as sdk
from tests.support.api_server import Clock, make_services, serving
from tests.support.databases import migrated_sqlite
from tests.support.deployment_world import StandIn, add_log, add_model

from havre.api.services import Services
from havre.domain.ocid import Kind, new_ocid

WAIT = {"max_interval_seconds": 1, "max_wait_seconds": 60}


@dataclass
class World:
    """A server, its stand-in reconciler, and the SDK's clients of it."""

    services: Services
    reconciler: StandIn
    client: oci.data_science.DataScienceClient
    model_id: str

    @property
    def composite(self) -> oci.data_science.DataScienceClientCompositeOperations:
        return oci.data_science.DataScienceClientCompositeOperations(self.client)

    def details(self, **fields) -> sdk.CreateModelDeploymentDetails:
        return sdk.CreateModelDeploymentDetails(
            project_id=self.services.identity.project_ocid,
            compartment_id=self.services.identity.tenancy_ocid,
            display_name="iris",
            model_deployment_configuration_details=sdk.SingleModelDeploymentConfigurationDetails(
                model_configuration_details=sdk.ModelConfigurationDetails(
                    model_id=self.model_id,
                    bandwidth_mbps=10,
                    instance_configuration=sdk.InstanceConfiguration(
                        instance_shape_name="VM.Standard.E4.Flex",
                        model_deployment_instance_shape_config_details=(
                            sdk.ModelDeploymentInstanceShapeConfigDetails(
                                ocpus=1.0, memory_in_gbs=16.0
                            )
                        ),
                    ),
                    scaling_policy=sdk.FixedSizeScalingPolicy(instance_count=2),
                ),
                environment_configuration_details=(
                    sdk.DefaultModelDeploymentEnvironmentConfigurationDetails(
                        environment_variables={"WEB_CONCURRENCY": "1"}
                    )
                ),
            ),
            **fields,
        )


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A configuration with a key of its own, as a user's ~/.oci/config has."""
    path = tmp_path_factory.mktemp("oci") / "key.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    return {
        "tenancy": new_ocid(Kind.TENANCY),
        "user": new_ocid(Kind.USER),
        "fingerprint": ":".join(["00"] * 16),
        "key_file": str(path),
        "region": "us-ashburn-1",
    }


@pytest.fixture
def world(configuration: dict[str, str], tmp_path: Path) -> Iterator[World]:
    database = migrated_sqlite(tmp_path / "havre.sqlite3")
    reconciler = StandIn()
    made = make_services(database, tmp_path / "home", clock=Clock(), woken=[])
    services = reconciler.services = replace(made, wake=reconciler.wake)
    with serving(services) as url:
        client = oci.data_science.DataScienceClient(
            configuration,
            service_endpoint=url,
            # The default breaker is shared by all clients of the process, other tests' too.
            circuit_breaker_strategy=oci.circuit_breaker.NoCircuitBreakerStrategy(),
            retry_strategy=oci.retry.NoneRetryStrategy(),
        )
        yield World(services, reconciler, client, add_model(services))
        client.base_client.session.close()
    database.close()


def test_a_deployment_lives_and_dies_through_the_composite_calls(world):
    request = world.composite.create_model_deployment_and_wait_for_state(
        world.details(), ["SUCCEEDED", "FAILED"], waiter_kwargs=WAIT
    ).data
    assert (request.status, request.percent_complete) == ("SUCCEEDED", 100.0)
    assert request.operation_type == "MODEL_DEPLOYMENT_CREATE"
    deployment_id = request.resources[0].identifier
    assert request.resources[0].action_type == "CREATED"

    deployment = world.client.get_model_deployment(deployment_id).data
    assert deployment.lifecycle_state == "ACTIVE"
    assert deployment.model_deployment_system_data.current_instance_count == 2
    assert deployment.model_deployment_url.endswith(f"/{deployment_id}")
    assert deployment.time_created.tzinfo is not None

    for call, state, action in (
        (world.composite.deactivate_model_deployment_and_wait_for_state, "INACTIVE", "UPDATED"),
        (world.composite.activate_model_deployment_and_wait_for_state, "ACTIVE", "UPDATED"),
        (world.composite.delete_model_deployment_and_wait_for_state, "DELETED", "DELETED"),
    ):
        request = call(deployment_id, ["SUCCEEDED", "FAILED"], waiter_kwargs=WAIT).data
        assert (request.status, request.resources[0].action_type) == ("SUCCEEDED", action)
        assert world.client.get_model_deployment(deployment_id).data.lifecycle_state == state


def test_the_waiter_waits_for_a_change_that_takes_time(world):
    world.reconciler.is_paused = True
    deployment_id = world.client.create_model_deployment(world.details()).data.id
    is_polled = threading.Event()

    def become_true() -> None:
        assert is_polled.wait(30)
        world.reconciler.reconcile(deployment_id)

    thread = threading.Thread(target=become_true)
    thread.start()
    waited = oci.wait_until(
        world.client,
        world.client.get_model_deployment(deployment_id),
        "lifecycle_state",
        "ACTIVE",
        wait_callback=lambda times, response: is_polled.set(),
        **WAIT,
    )
    thread.join()
    assert waited.data.lifecycle_state == "ACTIVE"
    assert is_polled.is_set()


def test_the_sdk_reads_back_what_it_sent(world):
    access, predict = (add_log(world.services, name) for name in ("access", "predict"))
    logs = sdk.CategoryLogDetails(
        access=sdk.LogDetails(log_id=access["logId"], log_group_id=access["logGroupId"]),
        predict=sdk.LogDetails(log_id=predict["logId"], log_group_id=predict["logGroupId"]),
    )
    sent = world.details(category_log_details=logs, freeform_tags={"a": "b"}, description="d")
    read = world.client.create_model_deployment(sent).data
    assert read.lifecycle_state == "CREATING"
    got = read.model_deployment_configuration_details
    assert isinstance(got, sdk.SingleModelDeploymentConfigurationDetails)
    model = got.model_configuration_details
    assert isinstance(model.scaling_policy, sdk.FixedSizeScalingPolicy)
    figures = model.instance_configuration.model_deployment_instance_shape_config_details
    assert (figures.ocpus, figures.memory_in_gbs) == (1.0, 16.0)
    assert got.environment_configuration_details.environment_variables == {"WEB_CONCURRENCY": "1"}
    assert read.category_log_details == logs
    assert (read.freeform_tags, read.description) == ({"a": "b"}, "d")


def test_an_update_with_the_sdks_objects_is_partial(world):
    deployment_id = world.client.create_model_deployment(world.details()).data.id
    other = add_model(world.services)
    update = sdk.UpdateModelDeploymentDetails(
        model_deployment_configuration_details=(
            sdk.UpdateSingleModelDeploymentConfigurationDetails(
                model_configuration_details=sdk.UpdateModelConfigurationDetails(model_id=other)
            )
        )
    )
    request = world.composite.update_model_deployment_and_wait_for_state(
        deployment_id, update, ["SUCCEEDED"], waiter_kwargs=WAIT
    ).data
    assert request.operation_type == "MODEL_DEPLOYMENT_UPDATE"
    deployment = world.client.get_model_deployment(deployment_id).data
    model = deployment.model_deployment_configuration_details.model_configuration_details
    assert (model.model_id, model.scaling_policy.instance_count) == (other, 2)
    assert deployment.display_name == "iris"
    answer = world.client.update_model_deployment(
        deployment_id, sdk.UpdateModelDeploymentDetails(display_name="renamed")
    )
    assert answer.status == 202
    assert answer.headers["opc-work-request-id"].startswith("ocid1.datascienceworkrequest.")
    assert world.client.get_model_deployment(deployment_id).data.display_name == "renamed"


def test_lists_through_the_sdks_pagination(world):
    created = [world.client.create_model_deployment(world.details()).data.id for _ in range(5)]
    compartment_id = world.services.identity.tenancy_ocid
    found = oci.pagination.list_call_get_all_results(
        world.client.list_model_deployments, compartment_id, limit=2
    ).data
    assert [row.id for row in found] == created[::-1]
    assert all(isinstance(row, sdk.ModelDeploymentSummary) for row in found)
    filtered = world.client.list_model_deployments(
        compartment_id, lifecycle_state="ACTIVE", sort_by="displayName", sort_order="ASC"
    ).data
    assert {row.id for row in filtered} == set(created)
    requests = oci.pagination.list_call_get_all_results(
        world.client.list_work_requests, compartment_id, limit=2, resource_id=created[0]
    ).data
    assert [row.operation_type for row in requests] == ["MODEL_DEPLOYMENT_CREATE"]
    shapes = world.client.list_model_deployment_shapes(compartment_id).data
    flexible = next(shape for shape in shapes if shape.name == "VM.Standard.E4.Flex")
    assert (flexible.core_count, flexible.memory_in_gbs) == (64, 1024)
    assert flexible.shape_series == "AMD_ROME"


def test_a_failure_is_told_in_the_log_the_errors_and_the_deployment(world):
    world.reconciler.is_paused = True
    answer = world.client.create_model_deployment(world.details())
    request_id = answer.headers["opc-work-request-id"]
    assert world.client.get_work_request(request_id).data.status == "ACCEPTED"
    world.reconciler.fail(answer.data.id, "ImportError: no module named iris")
    assert world.client.get_work_request(request_id).data.status == "FAILED"
    logs = world.client.list_work_request_logs(request_id).data
    (error,) = world.client.list_work_request_errors(request_id).data
    assert logs[-1].message == error.message == "ImportError: no module named iris"
    deployment = world.client.get_model_deployment(answer.data.id).data
    assert deployment.lifecycle_state == "FAILED"
    assert deployment.lifecycle_details == "ImportError: no module named iris"


def test_canceling(world):
    world.reconciler.is_paused = True
    answer = world.client.create_model_deployment(world.details())
    request_id = answer.headers["opc-work-request-id"]
    world.client.cancel_work_request(request_id)
    assert world.client.get_work_request(request_id).data.status == "CANCELING"
    world.reconciler.reconcile(world.reconciler.woken[-1])
    assert world.client.get_work_request(request_id).data.status == "CANCELED"
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        world.client.cancel_work_request(request_id)
    assert (caught.value.status, caught.value.code) == (409, "Conflict")


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        (lambda w: w.client.get_model_deployment("nothing"), 404, "NotAuthorizedOrNotFound"),
        (lambda w: w.client.get_work_request("nothing"), 404, "NotAuthorizedOrNotFound"),
        (
            lambda w: w.client.create_model_deployment(
                w.details(description="x", freeform_tags={"": "x"})
            ),
            400,
            "InvalidParameter",
        ),
        (
            lambda w: w.client.create_model_deployment(sdk.CreateModelDeploymentDetails()),
            400,
            "MissingParameter",
        ),
        (
            lambda w: w.client.list_model_deployment_model_states(
                w.client.create_model_deployment(w.details()).data.id,
                w.services.identity.tenancy_ocid,
            ),
            501,
            "MethodNotImplemented",
        ),
        (
            lambda w: w.client.activate_model_deployment(
                w.client.create_model_deployment(w.details()).data.id
            ),
            409,
            "Conflict",
        ),
        (
            lambda w: w.client.delete_model_deployment(
                w.client.create_model_deployment(w.details()).data.id, if_match="stale"
            ),
            412,
            "NoEtagMatch",
        ),
    ],
)
def test_refusals_are_service_errors(world, call, status, code):
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        call(world)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.request_id


def test_a_retried_create_does_not_create_twice(world):
    ids = {
        world.client.create_model_deployment(world.details(), opc_retry_token="t").data.id
        for _ in range(2)
    }
    assert len(ids) == 1
    listed = world.client.list_model_deployments(world.services.identity.tenancy_ocid).data
    assert [row.id for row in listed] == list(ids)


def test_moving_to_another_compartment(world):
    deployment_id = world.client.create_model_deployment(world.details()).data.id
    compartment_id = new_ocid(Kind.TENANCY)
    details = sdk.ChangeModelDeploymentCompartmentDetails(compartment_id=compartment_id)
    world.client.change_model_deployment_compartment(deployment_id, details)
    (row,) = world.client.list_model_deployments(compartment_id).data
    assert row.id == deployment_id
