"""Whatever is sent, the API answers: never with a fault of its own, always as it says errors are.

Requests are made up from the API's own schema, with the identifiers of things that are there, and
by changing parts of requests that are right. ``FUZZ_EXAMPLES`` says how many for each.
"""

import copy
import json
import os
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from sqlalchemy import select
from tests.support.api_server import Api
from tests.support.deployment_world import CONFIGURATION, add_log, add_model, create_request, settle

from havre.domain.states import BUSY
from havre.store.schema import Deployment

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
bounded = settings(
    max_examples=EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""The same requests each time. `make chaos` sends more of them."""
REFUSALS = range(400, 500)
NOT_HERE = 501
API = "/20190101"
LOG_GROUPS = "/20200531/logGroups"


@pytest.fixture
def known(api) -> dict[str, list[str]]:
    """Identifiers of what is there, by the name of a path's parameter."""
    models = [add_model(api.services) for _ in range(2)]
    made = [
        api.client.post(f"{API}/modelDeployments", json=create_request(api.services, model))
        for model in models
    ]
    settle(api.services, made[0].json()["id"])
    owned = {"projectId": api.project_id, "compartmentId": api.compartment_id}
    sets = api.client.post(f"{API}/modelVersionSets", json={**owned, "name": "stages"})
    log = add_log(api.services)
    return {
        "project_id": [api.project_id],
        "model_id": models,
        "version_set_id": [sets.json()["id"]],
        "deployment_id": [answer.json()["id"] for answer in made],
        "work_request_id": [answer.headers["opc-work-request-id"] for answer in made],
        "log_group_id": [log["logGroupId"]],
        "log_id": [log["logId"]],
        "family": ["customMetadata", "definedMetadata"],
        "key": ["a", "b"],
    }


def test_requests_made_up_from_the_schema(api, known) -> None:
    schema = schemathesis.openapi.from_dict(api.client.app.openapi())
    operations = [found.ok() for found in schema.get_all_operations()]
    cases = [
        operation.as_strategy(generation_mode=mode)
        for operation in operations
        for mode in GenerationMode
    ]

    @settings(bounded, max_examples=4 * EXAMPLES)
    @given(case=st.one_of(cases), data=st.data())
    def send(case: schemathesis.Case, data: st.DataObject) -> None:
        for name in case.path_parameters or {}:
            if data.draw(st.integers(0, 9)):
                case.path_parameters[name] = data.draw(st.sampled_from(known[name]))
        sent = case.as_transport_kwargs(base_url="http://127.0.0.1")
        content = sent.get("data")
        if "json" in sent:
            content = json.dumps(sent["json"]).encode()
        # What HTTP cannot carry never reaches the API.
        headers = {name: value.encode("latin-1", "replace") for name, value in case.headers.items()}
        query = {name: value for name, value in sent["params"].items() if value is not None}
        answer = api.client.request(
            case.method, sent["url"], params=query, content=content, headers=headers
        )
        assert_is_proper(answer, f"{case.method} {sent['url']} {query} {headers} {content!r}")
        settle_all(api)

    send()


ODD_TEXT = st.sampled_from(
    ("", " ", "\0", "\ud800", "😀" * 300, "x" * 5000, "' OR 1=1 --", "../..", "ocid1.", "é", "\r\n")
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from((-1, 0, 1, 2**31, 2**63, 2**64, 10**400, -0.0, 1e308, 0.5)),
    ODD_TEXT,
    st.sampled_from(([], {}, [[]], {"": {}}, {"a": None}, [None] * 50, {"\0": "\0"})),
    st.dictionaries(st.one_of(ODD_TEXT, st.text(max_size=5)), st.text(max_size=5), max_size=3),
)


@st.composite
def changed(draw: st.DrawFn, right: dict[str, Any]) -> Any:
    """A right request with one to three of its parts replaced, left out or added."""
    body = copy.deepcopy(right)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = body
        while isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place, key=repr)))
            deeper = place[key]
            if not isinstance(deeper, dict) or not deeper or not draw(st.integers(0, 3)):
                break
            place = deeper
        if not isinstance(place, dict) or not place:
            break
        what = draw(st.sampled_from(("replace", "replace", "replace", "leave out", "add")))
        if what == "replace":
            place[key] = copy.deepcopy(draw(ODD))
        elif what == "leave out":
            del place[key]
        else:
            place[draw(ODD_TEXT)] = copy.deepcopy(draw(ODD))
    return body


def right_requests(api: Api, known: dict[str, list[str]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and body of each kind of request that has a body."""
    owned = {"projectId": api.project_id, "compartmentId": api.compartment_id}
    told = {"displayName": "n", "description": "d", "freeformTags": {"a": "b"}}
    metadata = {"customMetadataList": [{"key": "k", "value": "v", "category": "Other"}]}
    deployment = create_request(
        api.services,
        known["model_id"][0],
        variables={"WEB_CONCURRENCY": "2", "A1": "b"},
        categoryLogDetails={
            "predict": {"logId": known["log_id"][0], "logGroupId": known["log_group_id"][0]}
        },
        **told,
    )
    wished = copy.deepcopy(deployment[CONFIGURATION])
    wished["modelConfigurationDetails"]["maximumBandwidthMbps"] = 20
    version_set = known["version_set_id"][0]
    provenance = {"repositoryUrl": "u", "gitBranch": "b", "gitCommit": "c", "trainingScript": "t"}
    query = {
        "type": "Structured",
        "query": "query datasciencemodeldeployment resources where modelId = 'x'",
    }
    log_search = {
        "timeStart": "2026-11-25T10:00:00Z",
        "timeEnd": "2026-11-25T11:00:00Z",
        "searchQuery": f'search "{api.compartment_id}" | where data.status = 200 | count',
        "isReturnFieldInfo": True,
    }
    log_group, log = known["log_group_id"][0], known["log_id"][0]
    return [
        ("POST", f"{LOG_GROUPS}", {"compartmentId": api.compartment_id, **told}),
        ("PUT", f"{LOG_GROUPS}/{log_group}", {"description": "d", "freeformTags": {"a": "b"}}),
        (
            "POST",
            f"{LOG_GROUPS}/{log_group}/logs",
            {"displayName": "other", "logType": "CUSTOM", "retentionDuration": 60},
        ),
        ("PUT", f"{LOG_GROUPS}/{log_group}/logs/{log}", {"displayName": "n", "isEnabled": True}),
        ("POST", "/20190909/search", log_search),
        ("POST", f"{API}/projects", {"compartmentId": api.compartment_id, **told}),
        ("POST", f"{API}/models", {**owned, **told, **metadata, "inputSchema": "{}"}),
        ("PUT", f"{API}/models/{known['model_id'][0]}", {**told, **metadata}),
        ("POST", f"{API}/models/{known['model_id'][1]}/provenance", provenance),
        ("POST", f"{API}/modelVersionSets", {**owned, "name": "n", "description": "d"}),
        ("PUT", f"{API}/modelVersionSets/{version_set}", {"description": "d"}),
        ("POST", f"{API}/modelDeployments", deployment),
        (
            "PUT",
            f"{API}/modelDeployments/{known['deployment_id'][0]}",
            {**told, CONFIGURATION: wished},
        ),
        ("POST", "/20180409/resources", {**query, "matchingContextType": "NONE"}),
    ]


def test_requests_that_are_almost_right(api, known) -> None:
    requests = right_requests(api, known)
    for method, path, body in requests:
        answer = api.client.request(method, path, json=body)
        assert answer.is_success, answer.text
        settle_all(api)

    @settings(bounded, max_examples=15 * EXAMPLES)
    @given(data=st.data(), which=st.integers(0, len(requests) - 1))
    def send(data: st.DataObject, which: int) -> None:
        method, path, right = requests[which]
        content = json.dumps(data.draw(changed(right))).encode()
        kind = {"content-type": "application/json"}
        answer = api.client.request(method, path, content=content, headers=kind)
        assert_is_proper(answer, f"{method} {path} {content!r}")
        settle_all(api)

    send()
    # What was stored can be shown.
    for kind in ("projects", "models", "modelVersionSets", "modelDeployments", "workRequests"):
        query = {"compartmentId": api.compartment_id, "limit": "100"}
        while query.get("page") != "":
            listed = api.client.get(f"{API}/{kind}", params=query)
            assert listed.status_code == 200, listed.text
            query["page"] = listed.headers.get("opc-next-page", "")


def settle_all(api: Api) -> None:
    """What was asked comes true, so that the next request is not refused for being too early."""
    with api.database.read() as session:
        changing = session.scalars(
            select(Deployment.id).where(Deployment.lifecycle_state.in_(BUSY))
        ).all()
    for deployment_id in changing:
        settle(api.services, deployment_id)


ODD_QUERIES = st.dictionaries(
    st.sampled_from(
        ("compartmentId", "id", "displayName", "limit", "page", "sortBy", "sortOrder", "name")
    ),
    st.one_of(ODD_TEXT.filter(lambda text: "\ud800" not in text), st.integers().map(str)),
    max_size=4,
)


KINDS = ("projects", "models", "modelVersionSets", "modelDeployments", "workRequests")


def test_odd_queries(api, known) -> None:
    speakable = ODD_TEXT.filter(lambda text: "\ud800" not in text)

    @settings(bounded, max_examples=8 * EXAMPLES)
    @given(kind=st.sampled_from(KINDS), query=ODD_QUERIES, name=speakable)
    def send(kind: str, query: dict[str, str], name: str) -> None:
        full = {"compartmentId": api.compartment_id, **query}
        answer = api.client.get(f"{API}/{kind}", params=full)
        assert_is_proper(answer, f"GET {kind} {full}")
        for path in (quote(name, safe=""), f"{known['model_id'][0]}{quote(name, safe='')}"):
            assert_is_proper(api.client.get(f"{API}/{kind}/{path}"), f"GET {kind}/{path}")

    send()


def assert_is_proper(answer: httpx.Response, sent: str) -> None:
    """An answer, or a refusal that says why in the API's one shape."""
    status = answer.status_code
    assert status < 500 or status == NOT_HERE, f"{status} {answer.text}\n{sent[:3000]}"
    if status in REFUSALS or status == NOT_HERE:
        if answer.request.method == "HEAD":
            return
        told = answer.json()
        assert set(told) == {"code", "message"}, sent[:3000]
        assert all(told.values()), sent[:3000]
    assert answer.headers["opc-request-id"]
