"""The OCI SDK, unpatched and with its defaults, drives the whole life of models and deployments."""

import time
import uuid

import oci
import pytest
from oci.data_science import models as sdk
from tests.e2e.artifacts import (
    DOUBLE,
    EXAMPLES,
    IRIS_ANSWER,
    IRIS_ROWS,
    STREAM,
    TRIPLE,
    packed,
    scored,
)
from tests.e2e.oracle_client import ENDED, WAIT, new_model
from tests.support.slowness import slowness

BROKEN = scored("raise RuntimeError('no model today')")


@pytest.fixture(scope="module")
def doubling(oracle):
    """An ACTIVE deployment for tests that do not change it."""
    deployment_id = oracle.deploy(oracle.save(scored(DOUBLE)), copies=1, name="doubling")
    yield deployment_id
    oracle.delete(deployment_id)


def test_a_deployment_from_its_first_day_to_its_last(oracle):
    first, second = oracle.save(scored(DOUBLE)), oracle.save(scored(TRIPLE))
    request = oracle.create(first, name="life")
    assert (request.status, request.percent_complete) == ("SUCCEEDED", 100.0)
    assert request.operation_type == "MODEL_DEPLOYMENT_CREATE"
    deployment_id = request.resources[0].identifier
    deployment = oracle.data_science.get_model_deployment(deployment_id).data
    assert deployment.lifecycle_state == "ACTIVE"
    assert deployment.model_deployment_url == f"{oracle.server.url}/{deployment_id}"
    assert deployment.model_deployment_system_data.current_instance_count == 1
    assert _predict(oracle, deployment_id, [1, 2]) == {"prediction": [2, 4]}

    request = oracle.update(deployment_id, display_name="later", **new_model(second))
    assert (request.status, request.operation_type) == ("SUCCEEDED", "MODEL_DEPLOYMENT_UPDATE")
    assert _predict(oracle, deployment_id, [1, 2]) == {"prediction": [3, 6]}

    request = oracle.composite.deactivate_model_deployment_and_wait_for_state(
        deployment_id, ENDED, waiter_kwargs=WAIT
    ).data
    assert (request.status, oracle.state(deployment_id)) == ("SUCCEEDED", "INACTIVE")
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        oracle.predictions.predict(deployment_id, [1])
    assert (caught.value.status, caught.value.code) == (404, "NotAuthorizedOrNotFound")

    request = oracle.composite.activate_model_deployment_and_wait_for_state(
        deployment_id, ENDED, waiter_kwargs=WAIT
    ).data
    assert (request.status, oracle.state(deployment_id)) == ("SUCCEEDED", "ACTIVE")
    assert _predict(oracle, deployment_id, [5]) == {"prediction": [15]}

    oracle.delete(deployment_id)
    assert oracle.state(deployment_id) == "DELETED"
    for model_id in (first, second):
        oracle.data_science.delete_model(model_id)
        assert oracle.data_science.get_model(model_id).data.lifecycle_state == "DELETED"


def test_four_copies_are_active_soon_in_a_warm_environment(oracle, record_property):
    """The time is shown by ``pytest -s`` and kept in the report."""
    model_id = oracle.save(packed(EXAMPLES / "iris"))
    began = time.monotonic()
    answer = oracle.data_science.create_model_deployment(oracle.details(model_id, copies=4))
    deployment_id = answer.data.id
    while oracle.state(deployment_id) == "CREATING":
        time.sleep(0.02)
    took_s = time.monotonic() - began
    assert oracle.state(deployment_id) == "ACTIVE"
    print(f"\ncreate_model_deployment to ACTIVE, warm, 4 copies: {took_s:.2f} s")
    record_property("create_to_active_s", took_s)
    assert _predict(oracle, deployment_id, IRIS_ROWS) == IRIS_ANSWER
    assert took_s < 30 * slowness()
    oracle.delete(deployment_id)


def test_streams_are_events_to_the_sdk(oracle):
    deployment_id = oracle.deploy(oracle.save(scored(STREAM)), copies=1)
    words = ["a", "breeze", "çà et là"]
    answer = oracle.predictions.predict_with_response_stream(deployment_id, {"words": words})
    events = [event.data for event in answer.data.events()]
    assert [oci.util.json.loads(event)["word"] for event in events] == words
    oracle.delete(deployment_id)


def test_many_deployments_are_listed_page_by_page(oracle):
    project_id = oracle.data_science.create_project(
        sdk.CreateProjectDetails(compartment_id=oracle.compartment_id, display_name="many")
    ).data.id
    model_id = oracle.save(BROKEN)
    created = [
        oracle.data_science.create_model_deployment(
            oracle.details(model_id, name=f"d{number:02}", project_id=project_id, copies=1)
        ).data.id
        for number in range(12)
    ]
    for deployment_id in created:
        oci.wait_until(
            oracle.data_science,
            oracle.data_science.get_model_deployment(deployment_id),
            "lifecycle_state",
            "FAILED",
            **WAIT,
        )
    listed = oci.pagination.list_call_get_all_results(
        oracle.data_science.list_model_deployments,
        oracle.compartment_id,
        project_id=project_id,
        limit=5,
    ).data
    assert [row.id for row in listed] == created[::-1]  # newest first
    by_name = oci.pagination.list_call_get_all_results(
        oracle.data_science.list_model_deployments,
        oracle.compartment_id,
        project_id=project_id,
        sort_by="displayName",
        sort_order="ASC",
        lifecycle_state="FAILED",
        limit=7,
    ).data
    assert [row.display_name for row in by_name] == [f"d{number:02}" for number in range(12)]
    last = oracle.data_science.list_model_deployments(
        oracle.compartment_id, project_id=project_id, limit=100
    )
    assert not last.has_next_page
    for deployment_id in created:
        oracle.data_science.delete_model_deployment(deployment_id)


def test_an_update_with_an_old_etag_changes_nothing(oracle, doubling):
    read = oracle.data_science.get_model_deployment(doubling)
    named = sdk.UpdateModelDeploymentDetails(description="first")
    oracle.data_science.update_model_deployment(doubling, named, if_match=read.headers["etag"])
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        oracle.data_science.update_model_deployment(
            doubling,
            sdk.UpdateModelDeploymentDetails(description="second"),
            if_match=read.headers["etag"],
        )
    assert (caught.value.status, caught.value.code) == (412, "NoEtagMatch")
    assert oracle.data_science.get_model_deployment(doubling).data.description == "first"


def test_a_create_sent_twice_creates_once(oracle):
    details = oracle.details(oracle.save(BROKEN))
    token = uuid.uuid4().hex
    answers = [
        oracle.data_science.create_model_deployment(details, opc_retry_token=token)
        for _ in range(2)
    ]
    assert answers[0].data.id == answers[1].data.id
    requests = {answer.headers["opc-work-request-id"] for answer in answers}
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        pytest.param(
            lambda o, d: o.data_science.delete_model(_model_of(o, d)),
            409,
            "Conflict",
            id="delete a model in use",
        ),
        pytest.param(
            lambda o, d: o.data_science.activate_model_deployment(d),
            409,
            "Conflict",
            id="activate what is active",
        ),
        pytest.param(
            lambda o, d: o.data_science.create_model_artifact(_model_of(o, d), scored(TRIPLE)),
            409,
            "Conflict",
            id="replace an artifact",
        ),
        pytest.param(
            lambda o, d: o.data_science.delete_project(o.project_id),
            409,
            "Conflict",
            id="delete a project with models in it",
        ),
    ],
)
def test_what_will_never_work_is_refused_at_once(oracle, doubling, call, status, code):
    """With the SDK's retries on: a code that it repeats would hold the user for 95 seconds."""
    began = time.monotonic()
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        call(oracle, doubling)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert time.monotonic() - began < 40
    assert _predict(oracle, doubling, [2]) == {"prediction": [4]}


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        pytest.param(
            lambda o, d: o.predictions.predict(_unknown(d), [1]),
            404,
            "NotAuthorizedOrNotFound",
            id="unknown deployment",
        ),
        pytest.param(
            lambda o, d: o.predictions.predict_with_response_stream(_unknown(d), [1]),
            404,
            "NotAuthorizedOrNotFound",
            id="unknown deployment, streaming",
        ),
        pytest.param(
            lambda o, d: o.predictions.predict(d, "{not json"),
            400,
            "CannotParseRequest",
            id="not JSON",
        ),
        pytest.param(
            lambda o, d: o.predictions.predict(d, ["x" * (10 * 1024 * 1024)]),
            413,
            "PayloadTooLarge",
            id="over 10 MB",
        ),
        pytest.param(
            lambda o, d: o.predictions.predict_with_response_stream(d, [1]),
            409,
            "ExternalServerIncorrectState",
            id="streaming of what does not stream",
        ),
        pytest.param(
            lambda o, d: o.once.predict(d, 7), 500, "InternalServerError", id="predict() raises"
        ),
        pytest.param(
            lambda o, d: o.data_science.get_model_deployment(_unknown(d)),
            404,
            "NotAuthorizedOrNotFound",
            id="unknown deployment, control plane",
        ),
        pytest.param(
            lambda o, d: o.data_science.get_model_artifact_content(o.save(None)),
            404,
            "NotAuthorizedOrNotFound",
            id="no artifact",
        ),
    ],
)
def test_a_wrong_request_gets_its_code(oracle, doubling, call, status, code):
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        call(oracle, doubling)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.message
    assert _predict(oracle, doubling, [2]) == {"prediction": [4]}


def test_the_artifact_comes_back_as_it_was_sent(oracle):
    archive = packed(EXAMPLES / "iris")
    model_id = oracle.save(archive)
    answer = oracle.data_science.get_model_artifact_content(model_id)
    assert answer.data.content == archive
    head = oracle.data_science.head_model_artifact(model_id)
    assert int(head.headers["content-length"]) == len(archive)
    assert head.headers["content-disposition"] == "attachment; filename=artifact.zip"
    part = oracle.data_science.get_model_artifact_content(model_id, range="bytes=0-3")
    assert (part.status, part.data.content) == (206, archive[:4])


def _predict(oracle, deployment_id, data):
    return oci.util.json.loads(oracle.predictions.predict(deployment_id, data).data)


def _model_of(oracle, deployment_id):
    details = oracle.data_science.get_model_deployment(deployment_id).data
    configuration = details.model_deployment_configuration_details
    return configuration.model_configuration_details.model_id


def _unknown(deployment_id):
    return deployment_id[:-4] + "zzzz"
