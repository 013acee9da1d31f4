"""What a machine takes and lists over the API, on both databases."""

import pytest
from tests.support.deployment_api import (
    DEPLOYMENTS,
    active,
    at_once,
    get,
    refused,
    small,
)
from tests.support.deployment_world import (
    CONFIGURATION,
    add_model,
    create_request,
    set_state,
    settle,
)

from havre.domain.shape import SHAPES
from havre.domain.states import DeploymentState, ModelState
from havre.store.schema import Deployment, Model


@pytest.fixture
def model_id(api) -> str:
    return add_model(api.services)


def test_a_rename_needs_neither_a_usable_model_nor_room(api, model_id):
    deployment_id = active(api, model_id)
    with api.database.write() as session:
        session.get_one(Model, model_id).lifecycle_state = ModelState.INACTIVE
    with small(api, threads=0) as client:
        answer = client.put(f"{DEPLOYMENTS}/{deployment_id}", json={"displayName": "x"})
    assert answer.status_code == 202


def test_an_update_of_an_inactive_deployment_waits_for_its_activation(api, model_id):
    deployment_id = active(api, model_id)
    path = f"{DEPLOYMENTS}/{deployment_id}"
    assert api.client.post(f"{path}/actions/deactivate").status_code == 202
    settle(api.services, deployment_id)
    scaling = {"scalingPolicy": {"policyType": "FIXED_SIZE", "instanceCount": 3}}
    update = {CONFIGURATION: {"modelConfigurationDetails": scaling}}
    with small(api, threads=0) as client:
        assert client.put(path, json=update).status_code == 202
    with api.database.read() as session:
        assert session.get_one(Deployment, deployment_id).target_state == DeploymentState.INACTIVE
    settle(api.services, deployment_id)
    with small(api, threads=0) as client:
        refused(client.post(f"{path}/actions/activate"), 400, "LimitExceeded", "6 asked")
    assert api.client.post(f"{path}/actions/activate").status_code == 202
    assert get(api, deployment_id)["lifecycleState"] == "UPDATING"


def test_copies_are_admitted_up_to_the_stated_factor(api, model_id):
    with small(api, threads=2, overcommit_factor=3.0) as client:
        ids = [
            client.post(DEPLOYMENTS, json=create_request(api.services, model_id)).json()["id"]
            for _ in range(3)
        ]
        answer = client.post(DEPLOYMENTS, json=create_request(api.services, model_id))
        refused(answer, 400, "LimitExceeded", "2 asked", "6 used", "takes 6")
        settle(api.services, ids[0])
        update = {
            CONFIGURATION: {
                "environmentConfigurationDetails": {"environmentVariables": {"WEB_CONCURRENCY": 3}}
            }
        }
        path = f"{DEPLOYMENTS}/{ids[0]}"
        refused(client.put(path, json=update), 400, "LimitExceeded", "3 asked", "4 used")
        update[CONFIGURATION]["environmentConfigurationDetails"]["environmentVariables"] = {
            "WEB_CONCURRENCY": 1
        }
        assert client.put(path, json=update).status_code == 202
        smallest = create_request(api.services, model_id, variables={"WEB_CONCURRENCY": "1"})
        # Should the update fail, it serves on as it did: until then that place is not free.
        refused(client.post(DEPLOYMENTS, json=smallest), 400, "LimitExceeded", "6 used")
        settle(api.services, ids[0])
        assert client.post(DEPLOYMENTS, json=smallest).status_code == 202


def test_what_is_inactive_failed_or_deleted_takes_no_room(api, model_id):
    with small(api, threads=2, overcommit_factor=1.0) as client:
        for state in (DeploymentState.INACTIVE, DeploymentState.FAILED, DeploymentState.DELETED):
            answer = client.post(DEPLOYMENTS, json=create_request(api.services, model_id))
            assert answer.status_code == 202, answer.text
            set_state(api.services, answer.json()["id"], state)
        assert (
            client.post(DEPLOYMENTS, json=create_request(api.services, model_id)).status_code == 202
        )
        refused(
            client.post(DEPLOYMENTS, json=create_request(api.services, model_id)),
            400,
            "LimitExceeded",
        )


def test_strict_capacity_reserves_what_a_shape_says(api, model_id):
    with small(api, threads=4, memory_gb=16, capacity="strict") as client:
        assert (
            client.post(DEPLOYMENTS, json=create_request(api.services, model_id)).status_code == 202
        )
        answer = client.post(DEPLOYMENTS, json=create_request(api.services, model_id))
        refused(answer, 400, "LimitExceeded", "16.0 GB asked, 16.0 GB used")


def test_a_gpu_shape_needs_a_gpu(api, model_id):
    body = create_request(api.services, model_id)
    model = body[CONFIGURATION]["modelConfigurationDetails"]
    model["instanceConfiguration"] = {"instanceShapeName": "VM.GPU.A10.1"}
    with small(api, threads=64) as client:
        answer = client.post(DEPLOYMENTS, json=body)
        refused(answer, 400, "LimitExceeded", "1 asked", "this machine has 0")
    with small(api, threads=64, gpus=1) as client:
        assert client.post(DEPLOYMENTS, json=body).status_code == 202


def test_shapes_are_listed_in_pages_without_what_the_machine_lacks(api):
    path, query = "/20190101/modelDeploymentShapes", {"compartmentId": "c", "limit": 7}
    with small(api, threads=1) as client:
        shapes = [*(first := client.get(path, params=query)).json()]
        query["page"] = first.headers["opc-next-page"]
        last = client.get(path, params=query)
        shapes += last.json()
        assert "opc-next-page" not in last.headers
        assert [shape["name"] for shape in shapes] == [s.name for s in SHAPES if not s.is_gpu]
        assert shapes[1] == {
            "name": "VM.Standard.E4.Flex",
            "coreCount": 64,
            "memoryInGBs": 1024,
            "shapeSeries": "AMD_ROME",
        }
        refused(client.get(path, params={**query, "page": "x"}), 400, "InvalidParameter")
    with small(api, threads=1, gpus=1) as client:
        names = [shape["name"] for shape in client.get(path, params={"compartmentId": "c"}).json()]
    assert "VM.GPU.A10.1" in names
    assert "VM.GPU.A10.2" not in names


def test_the_last_place_is_given_once(api, model_id):
    with small(api, threads=2, overcommit_factor=1.0) as client:
        answers = at_once(
            *(
                lambda: client.post(DEPLOYMENTS, json=create_request(api.services, model_id))
                for _ in range(3)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [202, 400, 400]
