"""Model deployments over the API, on both databases; the reconciler is played by hand."""

import pytest
from tests.support.deployment_api import (
    DEPLOYMENTS,
    REQUESTS,
    active,
    at_once,
    create,
    get,
    listed,
    refused,
)
from tests.support.deployment_world import (
    CONFIGURATION,
    add_log,
    add_model,
    create_request,
    digest_of,
    settle,
)

from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import DeploymentState, ModelState, ProjectState
from havre.store.schema import Deployment, Project


@pytest.fixture
def model_id(api) -> str:
    return add_model(api.services)


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


@pytest.mark.parametrize("name", ["", None])
def test_an_empty_name_is_made_up_and_changes_none(api, model_id, name):
    body = create_request(api.services, model_id) | {"displayName": name}
    answer = api.client.post(DEPLOYMENTS, json=body).json()
    assert answer["displayName"].startswith("datasciencemodeldeployment2026")
    deployment_id = active(api, model_id)
    before = get(api, deployment_id)["displayName"]
    path = f"{DEPLOYMENTS}/{deployment_id}"
    assert api.client.put(path, json={"displayName": name, "description": "d"}).status_code == 202
    assert get(api, deployment_id)["displayName"] == before


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
    logs = {"access": add_log(api.services)}
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
        ({"freeformTags": {"havre-replay": "much"}}, 'like "50"'),
        ({"freeformTags": {"havre-canary": "5%"}}, 'like "5%/30s 25%/5m"'),
        ({"freeformTags": {"havre-capture": "5%"}}, 'like "5" or "0.1"'),
        ({"freeformTags": {"havre-capture-redact": "a,,b"}}, 'like "name, email"'),
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
    settle(api.services, deployment_id)
    assert get(api, deployment_id)["lifecycleState"] == "DELETED"
    listed = api.client.get(DEPLOYMENTS, params={"compartmentId": api.compartment_id}).json()
    assert [row["id"] for row in listed] == [deployment_id]
    refused(api.client.delete(path), 409, "Conflict")
    refused(api.client.put(path, json={"displayName": "x"}), 409, "Conflict")
    move = api.client.post(f"{path}/actions/changeCompartment", json={"compartmentId": "c"})
    refused(move, 409, "Conflict")


@pytest.mark.parametrize(
    "deployment_id", ["nonsense", "ocid1.datasciencemodeldeployment.oc1.iad.a", "%F0%9F%90%B3"]
)
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


def test_lists_need_a_compartment_and_known_states(api):
    for path in (DEPLOYMENTS, REQUESTS, "/20190101/modelDeploymentShapes"):
        refused(api.client.get(path), 400, "MissingParameter", "compartmentId")
    query = {"compartmentId": "c", "lifecycleState": "SLEEPING"}
    refused(api.client.get(DEPLOYMENTS, params=query), 400, "InvalidParameter", "lifecycleState")


def test_model_states_belong_to_groups(api, model_id):
    path = f"{DEPLOYMENTS}/{create(api, model_id)}/models/modelState"
    refused(api.client.get(path), 501, "MethodNotImplemented")


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
