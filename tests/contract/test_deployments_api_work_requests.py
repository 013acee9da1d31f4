"""Work requests over the API, on both databases."""

import pytest
from tests.support.deployment_api import (
    DEPLOYMENTS,
    REQUESTS,
    create,
    refused,
    request_of,
)
from tests.support.deployment_world import add_model, settle

from havre.domain.errors import NotFound
from havre.domain.states import WorkRequestState
from havre.store import work_requests
from havre.store.schema import WorkRequest


@pytest.fixture
def model_id(api) -> str:
    return add_model(api.services)


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
        work_requests.start(session, request_id, "step 0", now=api.clock())
        work_requests.start(session, request_id, "once only", now=api.clock())
        for step, percent in ((1, 100.0), (2, 50.0)):
            work_requests.log(session, request_id, f"step {step}", percent=percent, now=api.clock())
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


def test_an_id_that_names_nothing_is_told_shortened(api):
    long = "ocid1." + "x" * 1500
    for path in (DEPLOYMENTS, REQUESTS):
        answer = api.client.get(f"{path}/{long}")
        refused(answer, 404, "NotAuthorizedOrNotFound", f"{long[:255]} does not exist")
    with pytest.raises(NotFound, match=f"{long[:255]} does not exist"), api.database.write() as it:
        work_requests.start(it, long, "never", now=api.clock())
