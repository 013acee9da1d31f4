"""Model deployments over the API, on both databases; the reconciler is played by hand."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from tests.deployment_world import CONFIGURATION, add_model, create_request, digest_of, settle

from havre.api.app import create_app
from havre.domain.capacity import Machine
from havre.domain.ocid import Kind, new_ocid
from havre.domain.shape import GIB, SHAPES
from havre.domain.states import DeploymentState, ModelState, ProjectState, WorkRequestState
from havre.store import work_requests
from havre.store.schema import Deployment, Model, Project, WorkRequest

DEPLOYMENTS = "/20190101/modelDeployments"
REQUESTS = "/20190101/workRequests"


@pytest.fixture
def model_id(api) -> str:
    return add_model(api.services)


def create(api, model_id, **fields) -> str:
    answer = api.client.post(DEPLOYMENTS, json=create_request(api.services, model_id, **fields))
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def active(api, model_id, **fields) -> str:
    deployment_id = create(api, model_id, **fields)
    settle(api.services, deployment_id)
    return deployment_id


def get(api, deployment_id):
    answer = api.client.get(f"{DEPLOYMENTS}/{deployment_id}")
    assert answer.status_code == 200
    return answer.json()


def refused(answer, status, code, *words):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    for word in words:
        assert word in answer.json()["message"]


def test_create_answers_at_once_and_names_its_work_request(api, model_id):
    answer = api.client.post(DEPLOYMENTS, json=create_request(api.services, model_id))
    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["etag"]
    assert body["lifecycleState"] == "CREATING"
    assert body["id"].startswith("ocid1.datasciencemodeldeployment.")
    assert body["modelDeploymentUrl"] == f"http://127.0.0.1:8080/{body['id']}"
    assert body["createdBy"] == api.services.identity.user_ocid
    assert body["timeCreated"].endswith("Z")
    assert body["modelDeploymentSystemData"] == {
        "systemInfraType": "INSTANCE_POOL",
        "modelType": "MANAGED_MODEL",
        "currentInstanceCount": 0,
    }
    assert api.woken == [body["id"]]
    assert get(api, body["id"]) == body
    request = api.client.get(f"{REQUESTS}/{answer.headers['opc-work-request-id']}").json()
    assert request["operationType"] == "MODEL_DEPLOYMENT_CREATE"
    assert request["resources"] == [
        {
            "actionType": "IN_PROGRESS",
            "entityType": "data-science-model-deployment",
            "identifier": body["id"],
            "entityUri": f"{DEPLOYMENTS}/{body['id']}",
        }
    ]


def test_the_echo_has_defaults_and_discriminators(api, model_id):
    body = create_request(api.services, model_id)
    del body["displayName"]
    details = body[CONFIGURATION]
    del details["environmentConfigurationDetails"]
    del details["modelConfigurationDetails"]["scalingPolicy"]
    del details["modelConfigurationDetails"]["bandwidthMbps"]
    answer = api.client.post(DEPLOYMENTS, json=body).json()
    assert answer["displayName"].startswith("datasciencemodeldeployment2026")
    assert answer[CONFIGURATION]["environmentConfigurationDetails"] == {
        "environmentConfigurationType": "DEFAULT",
        "environmentVariables": {},
    }
    model = answer[CONFIGURATION]["modelConfigurationDetails"]
    assert model["scalingPolicy"] == {"policyType": "FIXED_SIZE", "instanceCount": 1}
    assert model["bandwidthMbps"] == 10


def test_create_in_a_project_that_is_not_there(api, model_id):
    body = create_request(api.services, model_id, projectId=new_ocid(Kind.PROJECT))
    refused(api.client.post(DEPLOYMENTS, json=body), 400, "RelatedResourceNotAuthorizedOrNotFound")
    with api.database.write() as session:
        session.get_one(Project, api.project_id).lifecycle_state = ProjectState.DELETED
    refused(
        api.client.post(DEPLOYMENTS, json=create_request(api.services, model_id)),
        400,
        "RelatedResourceNotAuthorizedOrNotFound",
        "projectId",
    )
    assert api.woken == []


@pytest.mark.parametrize(
    ("model", "code", "word"),
    [
        ({"state": ModelState.DELETED}, "RelatedResourceNotAuthorizedOrNotFound", "name a model"),
        ({"state": ModelState.INACTIVE}, "InvalidParameter", "activate"),
        ({"has_artifact": False}, "InvalidParameter", "artifact"),
        (None, "RelatedResourceNotAuthorizedOrNotFound", "name a model"),
    ],
)
def test_a_model_that_cannot_be_deployed_is_refused_everywhere(api, model_id, model, code, word):
    unfit = new_ocid(Kind.MODEL) if model is None else add_model(api.services, **model)
    refused(api.client.post(DEPLOYMENTS, json=create_request(api.services, unfit)), 400, code, word)
    deployment_id = active(api, model_id)
    update = {CONFIGURATION: {"modelConfigurationDetails": {"modelId": unfit}}}
    refused(api.client.put(f"{DEPLOYMENTS}/{deployment_id}", json=update), 400, code, word)
    with api.database.write() as session:
        row = session.get_one(Deployment, deployment_id)
        row.lifecycle_state, row.model_id = DeploymentState.INACTIVE, unfit
    path = f"{DEPLOYMENTS}/{deployment_id}/actions/activate"
    refused(api.client.post(path), 400, code, word)


def test_all_problems_of_a_request_come_in_one_message(api, model_id):
    body = create_request(
        api.services, model_id, displayName="x" * 256, variables={"TENANCY_OCID": "x"}
    )
    model = body[CONFIGURATION]["modelConfigurationDetails"]
    model["bandwidthMbps"] = 9
    model["scalingPolicy"] = {"policyType": "AUTOSCALING"}
    model["instanceConfiguration"]["subnetId"] = "ocid1.subnet.oc1.iad.x"
    model["instanceConfiguration"]["instanceShapeName"] = "VM.Nowhere"
    refused(
        api.client.post(DEPLOYMENTS, json=body),
        400,
        "InvalidParameter",
        "displayName",
        "TENANCY_OCID",
        "bandwidthMbps",
        "AUTOSCALING",
        "subnetId",
        "VM.Nowhere",
    )


def test_an_update_is_partial_and_leaves_the_rest(api, model_id):
    deployment_id = active(api, model_id, variables={"COLOUR": "red"}, description="old")
    before = get(api, deployment_id)
    other = add_model(api.services)
    answer = api.client.put(
        f"{DEPLOYMENTS}/{deployment_id}",
        json={
            "displayName": "renamed",
            CONFIGURATION: {
                "deploymentType": "SINGLE_MODEL",
                "modelConfigurationDetails": {"modelId": other, "maximumBandwidthMbps": "20"},
            },
        },
    )
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["opc-work-request-id"]
    after = get(api, deployment_id)
    expected = dict(before, displayName="renamed", lifecycleState="UPDATING")
    model = dict(
        before[CONFIGURATION]["modelConfigurationDetails"],
        modelId=other,
        maximumBandwidthMbps=20,
    )
    expected[CONFIGURATION] = dict(before[CONFIGURATION], modelConfigurationDetails=model)
    assert after == expected
    with api.database.read() as session:
        row = session.get_one(Deployment, deployment_id)
        assert row.model_id == row.spec["model_id"] == other
        assert row.spec["artifact_digest"] == digest_of(other)
        assert row.spec["environment_variables"] == {"COLOUR": "red"}


def test_sending_everything_back_changes_nothing_but_is_accepted(api, model_id):
    logs = {"access": {"logId": "l", "logGroupId": "g"}}
    deployment_id = active(api, model_id, categoryLogDetails=logs, freeformTags={"a": "b"})
    echo = get(api, deployment_id)
    with api.database.read() as session:
        spec = session.get_one(Deployment, deployment_id).spec
    answer = api.client.put(f"{DEPLOYMENTS}/{deployment_id}", json=echo)
    assert (answer.status_code, "opc-work-request-id" in answer.headers) == (202, True)
    settle(api.services, deployment_id)
    assert get(api, deployment_id) == echo
    with api.database.read() as session:
        assert session.get_one(Deployment, deployment_id).spec == spec


def test_a_rename_needs_neither_a_usable_model_nor_room(api, model_id):
    deployment_id = active(api, model_id)
    with api.database.write() as session:
        session.get_one(Model, model_id).lifecycle_state = ModelState.INACTIVE
    with small(api, threads=0) as client:
        answer = client.put(f"{DEPLOYMENTS}/{deployment_id}", json={"displayName": "x"})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("update", "word"),
    [
        ({CONFIGURATION: {"deploymentType": "MODEL_GROUP"}}, "MODEL_GROUP"),
        ({CONFIGURATION: "x"}, CONFIGURATION),
        ({CONFIGURATION: {"modelConfigurationDetails": []}}, "modelConfigurationDetails"),
        (
            {
                CONFIGURATION: {
                    "infrastructureConfigurationDetails": {"infrastructureType": "MANAGED"}
                }
            },
            "infrastructureType",
        ),
        ({CONFIGURATION: {"modelConfigurationDetails": {"bandwidthMbps": 1}}}, "bandwidthMbps"),
        ({"displayName": 5}, "displayName"),
        ({"freeformTags": {"a": 1}}, "freeformTags"),
        ({"categoryLogDetails": {"access": {"logId": "l"}}}, "logGroupId"),
    ],
)
def test_an_update_is_checked_as_a_create_would_be(api, model_id, update, word):
    deployment_id = active(api, model_id)
    before = get(api, deployment_id)
    answer = api.client.put(f"{DEPLOYMENTS}/{deployment_id}", json=update)
    assert answer.json()["code"] in {"InvalidParameter", "MissingParameter"}
    refused(answer, 400, answer.json()["code"], word)
    assert get(api, deployment_id) == before


def test_an_update_of_an_inactive_deployment_waits_for_its_activation(api, model_id):
    deployment_id = active(api, model_id)
    path = f"{DEPLOYMENTS}/{deployment_id}"
    assert api.client.post(f"{path}/actions/deactivate").status_code == 202
    settle(api.services, deployment_id, DeploymentState.INACTIVE)
    scaling = {"scalingPolicy": {"policyType": "FIXED_SIZE", "instanceCount": 3}}
    update = {CONFIGURATION: {"modelConfigurationDetails": scaling}}
    with small(api, threads=0) as client:
        assert client.put(path, json=update).status_code == 202
    with api.database.read() as session:
        assert session.get_one(Deployment, deployment_id).target_state == DeploymentState.INACTIVE
    settle(api.services, deployment_id, DeploymentState.INACTIVE)
    with small(api, threads=0) as client:
        refused(client.post(f"{path}/actions/activate"), 400, "LimitExceeded", "6 asked")
    assert api.client.post(f"{path}/actions/activate").status_code == 202
    assert get(api, deployment_id)["lifecycleState"] == "UPDATING"


@pytest.mark.parametrize("call", ["PUT", "activate", "deactivate"])
def test_a_busy_deployment_takes_no_other_change(api, model_id, call):
    deployment_id = create(api, model_id)
    path = f"{DEPLOYMENTS}/{deployment_id}"
    answer = (
        api.client.put(path, json={"displayName": "x"})
        if call == "PUT"
        else api.client.post(f"{path}/actions/{call}")
    )
    refused(answer, 409, "IncorrectState", "CREATING")


def test_delete_wins_over_a_change_under_way_and_leaves_a_tombstone(api, model_id):
    deployment_id = create(api, model_id)
    path = f"{DEPLOYMENTS}/{deployment_id}"
    answer = api.client.delete(path)
    assert (answer.status_code, "opc-work-request-id" in answer.headers) == (202, True)
    assert get(api, deployment_id)["lifecycleState"] == "DELETING"
    settle(api.services, deployment_id, DeploymentState.DELETED)
    assert get(api, deployment_id)["lifecycleState"] == "DELETED"
    listed = api.client.get(DEPLOYMENTS, params={"compartmentId": api.compartment_id}).json()
    assert [row["id"] for row in listed] == [deployment_id]
    refused(api.client.delete(path), 409, "Conflict")
    refused(api.client.put(path, json={"displayName": "x"}), 409, "Conflict")
    move = api.client.post(f"{path}/actions/changeCompartment", json={"compartmentId": "c"})
    refused(move, 409, "Conflict")


@pytest.mark.parametrize("deployment_id", ["nonsense", new_ocid(Kind.DEPLOYMENT), "%F0%9F%90%B3"])
def test_what_is_not_there_is_not_found(api, deployment_id):
    path = f"{DEPLOYMENTS}/{deployment_id}"
    actions = ("activate", "deactivate", "changeCompartment")
    answers = [
        api.client.get(path),
        api.client.put(path, json={}),
        api.client.delete(path),
        api.client.get(f"{path}/models/modelState", params={"compartmentId": "x"}),
        api.client.get(f"{REQUESTS}/{deployment_id}"),
        api.client.get(f"{REQUESTS}/{deployment_id}/logs"),
        api.client.get(f"{REQUESTS}/{deployment_id}/errors"),
        api.client.delete(f"{REQUESTS}/{deployment_id}"),
        *(
            api.client.post(f"{path}/actions/{action}", json={"compartmentId": "x"})
            for action in actions
        ),
    ]
    for answer in answers:
        refused(answer, 404, "NotAuthorizedOrNotFound")


def test_a_stale_etag_changes_nothing(api, model_id):
    deployment_id = create(api, model_id)
    path = f"{DEPLOYMENTS}/{deployment_id}"
    stale = {"if-match": api.client.get(path).headers["etag"]}
    settle(api.services, deployment_id)
    before = get(api, deployment_id)
    for answer in (
        api.client.put(path, json={"displayName": "x"}, headers=stale),
        api.client.delete(path, headers=stale),
        api.client.post(f"{path}/actions/deactivate", headers=stale),
        api.client.post(
            f"{path}/actions/changeCompartment", json={"compartmentId": "c"}, headers=stale
        ),
    ):
        refused(answer, 412, "NoEtagMatch")
    assert get(api, deployment_id) == before
    fresh = {"if-match": api.client.get(path).headers["etag"]}
    assert api.client.delete(path, headers=fresh).status_code == 202


def test_moving_to_another_compartment(api, model_id):
    deployment_id = active(api, model_id)
    path = f"{DEPLOYMENTS}/{deployment_id}/actions/changeCompartment"
    compartment_id = new_ocid(Kind.TENANCY)
    assert api.client.post(path, json={"compartmentId": compartment_id}).status_code == 204
    assert get(api, deployment_id)["compartmentId"] == compartment_id
    assert api.client.get(DEPLOYMENTS, params={"compartmentId": api.compartment_id}).json() == []
    requests = api.client.get(REQUESTS, params={"compartmentId": api.compartment_id}).json()
    assert len(requests) == 1


def test_lists_filter_by_everything_at_once_sort_and_page(api, model_id):
    ids = [create(api, model_id, displayName=name) for name in ("b", "a", "a")]
    settle(api.services, ids[1])
    assert listed(api) == ids[::-1]
    assert listed(api, sortBy="displayName") == [*sorted(ids[1:]), ids[0]]
    assert listed(api, sortOrder="ASC") == ids
    assert listed(api, displayName="a", lifecycleState="ACTIVE") == [ids[1]]
    assert listed(api, displayName="b", lifecycleState="ACTIVE") == []
    assert listed(api, id=ids[0], projectId=api.project_id) == [ids[0]]
    assert listed(api, createdBy="someone else") == []
    assert listed(api, compartmentId="elsewhere") == []
    first = api.client.get(DEPLOYMENTS, params={"compartmentId": api.compartment_id, "limit": 2})
    rest = listed(api, limit=2, page=first.headers["opc-next-page"])
    assert [row["id"] for row in first.json()] + rest == ids[::-1]
    assert "lifecycleDetails" not in first.json()[0]


def listed(api, **query):
    answer = api.client.get(DEPLOYMENTS, params={"compartmentId": api.compartment_id, **query})
    assert answer.status_code == 200, answer.text
    assert "opc-next-page" not in answer.headers
    return [row["id"] for row in answer.json()]


def test_lists_need_a_compartment_and_known_states(api):
    for path in (DEPLOYMENTS, REQUESTS, "/20190101/modelDeploymentShapes"):
        refused(api.client.get(path), 400, "MissingParameter", "compartmentId")
    query = {"compartmentId": "c", "lifecycleState": "SLEEPING"}
    refused(api.client.get(DEPLOYMENTS, params=query), 400, "InvalidParameter", "lifecycleState")


def test_model_states_belong_to_groups(api, model_id):
    path = f"{DEPLOYMENTS}/{create(api, model_id)}/models/modelState"
    refused(api.client.get(path), 501, "MethodNotImplemented")


def small(api, *, threads, gpus=0, memory_gb=8, **settings) -> TestClient:
    """A client of the same API on a machine of this size."""
    services = replace(
        api.services,
        machine=Machine(threads=threads, memory_bytes=memory_gb * GIB, gpus=gpus),
        settings=replace(api.services.settings, **settings),
    )
    return TestClient(create_app(services))


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
        answer = client.post(
            DEPLOYMENTS,
            json=create_request(api.services, model_id, variables={"WEB_CONCURRENCY": "1"}),
        )
        assert answer.status_code == 202


def test_what_is_inactive_failed_or_deleted_takes_no_room(api, model_id):
    with small(api, threads=2, overcommit_factor=1.0) as client:
        for state in (DeploymentState.INACTIVE, DeploymentState.FAILED, DeploymentState.DELETED):
            answer = client.post(DEPLOYMENTS, json=create_request(api.services, model_id))
            assert answer.status_code == 202, answer.text
            settle(api.services, answer.json()["id"], state)
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


def at_once(*calls):
    """The answers of calls that start together."""
    barrier = threading.Barrier(len(calls))

    def call(action):
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_of_two_updates_at_once_one_is_taken(api, model_id):
    deployment_id = active(api, model_id)
    path = f"{DEPLOYMENTS}/{deployment_id}"
    answers = at_once(
        *(lambda n=n: api.client.put(path, json={"displayName": f"n{n}"}) for n in range(2))
    )
    assert sorted(answer.status_code for answer in answers) == [202, 409]
    loser = max(answers, key=lambda answer: answer.status_code)
    refused(loser, 409, "IncorrectState")


def test_a_retry_token_creates_once_even_at_once(api, model_id):
    body, headers = create_request(api.services, model_id), {"opc-retry-token": "t" * 30}
    answers = at_once(
        *(lambda: api.client.post(DEPLOYMENTS, json=body, headers=headers) for _ in range(3))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len({answer.headers["opc-work-request-id"] for answer in answers}) == 1
    assert len(listed(api)) == 1
    other = dict(body, displayName="other")
    refused(api.client.post(DEPLOYMENTS, json=other, headers=headers), 409, "InvalidatedRetryToken")


def test_the_last_place_is_given_once(api, model_id):
    with small(api, threads=2, overcommit_factor=1.0) as client:
        answers = at_once(
            *(
                lambda: client.post(DEPLOYMENTS, json=create_request(api.services, model_id))
                for _ in range(3)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [202, 400, 400]


def request_of(api, deployment_id) -> str:
    query = {"compartmentId": api.compartment_id, "resourceId": deployment_id}
    return api.client.get(REQUESTS, params=query).json()[0]["id"]


@pytest.mark.parametrize(
    ("finish", "status", "action"),
    [
        (work_requests.succeed, "SUCCEEDED", "CREATED"),
        (work_requests.end_canceled, "CANCELED", "RELATED"),
    ],
)
def test_a_work_request_tells_its_story(api, model_id, finish, status, action):
    request_id = request_of(api, create(api, model_id))
    with api.database.write() as session:
        work_requests.start(session, request_id, now=api.clock())
        work_requests.advance(session, request_id, 100.0)
        for step in range(3):
            work_requests.log(session, request_id, f"step {step}", now=api.clock())
    running = api.client.get(f"{REQUESTS}/{request_id}").json()
    assert (running["status"], running["percentComplete"]) == ("IN_PROGRESS", 99.0)
    assert running["timeStarted"]
    assert running["timeFinished"] is None
    with api.database.write() as session:
        finish(session, request_id, "The end.", now=api.clock())
    ended = api.client.get(f"{REQUESTS}/{request_id}").json()
    assert (ended["status"], ended["resources"][0]["actionType"]) == (status, action)
    assert ended["timeFinished"]
    path = f"{REQUESTS}/{request_id}/logs"
    first = api.client.get(path, params={"limit": 3})
    query = {"limit": 3, "page": first.headers["opc-next-page"]}
    messages = [row["message"] for row in first.json() + api.client.get(path, params=query).json()]
    assert messages == ["Accepted.", "step 0", "step 1", "step 2", "The end."]
    refused(api.client.delete(f"{REQUESTS}/{request_id}"), 409, "Conflict", status)


def test_a_failed_work_request_has_an_error_entry(api, model_id):
    request_id = request_of(api, create(api, model_id))
    assert api.client.get(f"{REQUESTS}/{request_id}/errors").json() == []
    with api.database.write() as session:
        work_requests.fail(session, request_id, "ModelLoadFailed", "no score.py", now=api.clock())
    (entry,) = api.client.get(f"{REQUESTS}/{request_id}/errors").json()
    assert (entry["code"], entry["message"]) == ("ModelLoadFailed", "no score.py")
    assert api.client.get(f"{REQUESTS}/{request_id}/logs").json()[-1]["message"] == "no score.py"


def test_canceling_asks_the_reconciler(api, model_id):
    deployment_id = create(api, model_id)
    request_id = request_of(api, deployment_id)
    api.woken.clear()
    stale = {"if-match": "another"}
    refused(api.client.delete(f"{REQUESTS}/{request_id}", headers=stale), 412, "NoEtagMatch")
    assert api.client.delete(f"{REQUESTS}/{request_id}").status_code == 202
    assert api.woken == [deployment_id]
    with api.database.read() as session:
        assert session.get_one(WorkRequest, request_id).status == WorkRequestState.CANCELING


def test_work_requests_filter_and_sort(api, model_id):
    first, second = create(api, model_id), create(api, model_id)
    settle(api.services, first)
    api.client.post(f"{DEPLOYMENTS}/{first}/actions/deactivate")

    def found(**query):
        query = {"compartmentId": api.compartment_id, **query}
        rows = api.client.get(REQUESTS, params=query).json()
        return [(row["resources"][0]["identifier"], row["operationType"][17:]) for row in rows]

    assert found() == [(first, "DEACTIVATE"), (second, "CREATE"), (first, "CREATE")]
    assert found(sortBy="operationType", sortOrder="DESC")[0] == (first, "DEACTIVATE")
    assert found(sortBy="status", sortOrder="DESC")[0] == (first, "CREATE")
    assert found(resourceId=first, status="SUCCEEDED") == [(first, "CREATE")]
    assert found(operationType="MODEL_DEPLOYMENT_DEACTIVATE") == [(first, "DEACTIVATE")]
    assert found(id=request_of(api, second)) == [(second, "CREATE")]
    assert found(compartmentId="elsewhere") == []
