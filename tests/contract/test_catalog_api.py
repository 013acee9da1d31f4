"""The catalog over HTTP, on both databases: projects, models, version sets, and their rules."""

import json
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from havre.domain.ocid import Kind, is_ocid, new_ocid
from havre.store.schema import Deployment, Model, VersionSet

API = "/20190101"
JSON = {"content-type": "application/json"}
ON_SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"])
"""For what is refused before the database is asked."""


def create(api, noun, **fields):
    body = {"compartmentId": api.compartment_id, **fields}
    if noun != "projects":
        body.setdefault("projectId", api.project_id)
    answer = api.client.post(f"{API}/{noun}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def names(answer, field="displayName"):
    assert answer.status_code == 200, answer.text
    return [item[field] for item in answer.json()]


def refusal(answer):
    return answer.status_code, answer.json()["code"]


def deploy(api, model_id, **columns):
    row = {
        "lifecycle_state": "ACTIVE",
        "model_id": model_id,
        "spec": {"model_id": model_id},
        "serving_spec": {"model_id": model_id},
        **columns,
    }
    deployment = Deployment(
        id=new_ocid(Kind.DEPLOYMENT),
        compartment_id=api.compartment_id,
        created_by="u",
        time_created=api.clock(),
        project_id=api.project_id,
        display_name="d",
        configuration={},
        **row,
    )
    with api.database.write() as session:
        session.add(deployment)
    return deployment.id


# Every resource


@pytest.mark.parametrize(
    ("noun", "kind", "fields"),
    [
        ("projects", Kind.PROJECT, {}),
        ("models", Kind.MODEL, {}),
        ("modelVersionSets", Kind.VERSION_SET, {"name": "set"}),
    ],
)
def test_a_resource_is_created_read_changed_and_moved(api, noun, kind, fields):
    tags = {"freeformTags": {"a": "b"}, "definedTags": {"n": {"k": 1, "ü": "ü"}}}
    made = create(api, noun, description="d", **tags, **fields)
    path = f"{API}/{noun}/{made['id']}"
    assert is_ocid(made["id"], kind)
    assert made["timeCreated"].startswith("2026-03-04T05:06:07.")
    assert made["timeCreated"].endswith("Z")
    assert made["createdBy"] == api.services.identity.user_ocid
    assert (made["freeformTags"], made["definedTags"]) == tuple(tags.values())

    read = api.client.get(path)
    assert read.json() == made
    changed = api.client.put(path, json={"description": None, "freeformTags": {"x": "y"}})
    assert changed.json()["description"] is None
    assert changed.json()["freeformTags"] == {"x": "y"}
    assert changed.json()["definedTags"] == made["definedTags"]
    assert changed.headers["etag"] != read.headers["etag"]

    moved = api.client.post(f"{path}/actions/changeCompartment", json={"compartmentId": "other"})
    assert (moved.status_code, moved.text) == (204, "")
    assert names(api.client.get(f"{API}/{noun}?compartmentId=other"), "id") == [made["id"]]


@pytest.mark.parametrize("noun", ["projects", "models", "modelVersionSets"])
def test_what_does_not_exist_is_404_and_a_list_needs_a_compartment(api, noun):
    for path in ("ocid1.unknown", new_ocid(Kind.MODEL), new_ocid(Kind.PROJECT), "x" * 3000):
        assert refusal(api.client.get(f"{API}/{noun}/{path}")) == (404, "NotAuthorizedOrNotFound")
    answer = api.client.get(f"{API}/{noun}")
    assert refusal(answer) == (400, "MissingParameter")
    assert "compartmentId is required" in answer.json()["message"]
    assert api.client.get(f"{API}/{noun}?compartmentId=nobody").json() == []


def test_a_change_is_refused_to_who_has_not_seen_the_last_one(api):
    path = f"{API}/models/{create(api, 'models')['id']}"
    etag = api.client.get(path).headers["etag"]
    mine = api.client.put(path, json={"displayName": "mine"}, headers={"if-match": etag})
    assert mine.status_code == 200
    theirs = api.client.put(path, json={"displayName": "theirs"}, headers={"if-match": etag})
    assert refusal(theirs) == (412, "NoEtagMatch")
    assert refusal(api.client.delete(path, headers={"if-match": etag})) == (412, "NoEtagMatch")
    unchanged = api.client.put(path, json={"displayName": "mine"})
    assert unchanged.headers["etag"] == mine.headers["etag"]
    quoted = {"if-match": f'W/"{mine.headers["etag"]}"'}
    assert api.client.delete(path, headers=quoted).status_code == 204


# Lists


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["c", "b", "B", "a"]),
        ("sortOrder=ASC", ["a", "B", "b", "c"]),
        ("sortBy=displayName", ["B", "a", "b", "c"]),
        ("sortBy=displayName&sortOrder=DESC", ["c", "b", "a", "B"]),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_follow_each_other_in_order(api, query, expected, limit):
    for name in ("a", "B", "b", "c"):
        create(api, "models", displayName=name)
    seen, page = [], ""
    while True:
        answer = api.client.get(
            f"{API}/models?compartmentId={api.compartment_id}&limit={limit}&{query}{page}"
        )
        seen += names(answer)
        if "opc-next-page" not in answer.headers:
            break
        page = f"&page={answer.headers['opc-next-page']}"
    assert seen == expected


def test_pages_neither_repeat_nor_skip_while_rows_are_added(api):
    for name in "abcd":
        create(api, "models", displayName=name)
    url = f"{API}/models?compartmentId={api.compartment_id}&limit=2"
    first = api.client.get(url)
    create(api, "models", displayName="e")
    second = api.client.get(f"{url}&page={first.headers['opc-next-page']}")
    assert names(first) + names(second) == ["d", "c", "b", "a"]


def test_equal_moments_are_still_paged_one_by_one(api, monkeypatch):
    monkeypatch.setattr(type(api.clock), "__call__", lambda clock: clock.now)
    made = {create(api, "models")["id"] for _ in range(5)}
    url, seen, page = f"{API}/models?compartmentId={api.compartment_id}&limit=2", [], ""
    while page is not None:
        answer = api.client.get(f"{url}&page={page}")
        seen += names(answer, "id")
        page = answer.headers.get("opc-next-page")
    assert len(seen) == 5
    assert set(seen) == made


@pytest.mark.parametrize(
    "query",
    [
        "page=nonsense",
        "page=%F0%9F%A6%86",
        "page=WyJ0aW1lQ3JlYXRlZCIsIkRFU0MiLCJ4IiwieSJd",
        "page=WyJ0aW1lQ3JlYXRlZCIsIkRFU0MiLDEsMl0",
        "page=WyJ0aW1lQ3JlYXRlZCIsIkRFU0MiLCIyMDI2LTAzLTA0VDA1OjA2OjA3KzAwOjAwIiwiXHUwMDAwIl0",
        "limit=0",
        "limit=101",
        "limit=many",
        "sortBy=colour",
        "sortOrder=UP",
        "lifecycleState=ASLEEP",
    ],
)
def test_a_list_says_what_is_wrong_with_the_question(api, query):
    answer = api.client.get(f"{API}/models?compartmentId=c&{query}")
    assert refusal(answer) == (400, "InvalidParameter")
    assert query.partition("=")[0] in answer.json()["message"]


def test_a_page_belongs_to_its_order(api):
    for _ in range(2):
        create(api, "models")
    url = f"{API}/models?compartmentId={api.compartment_id}&limit=1"
    token = api.client.get(url).headers["opc-next-page"]
    answer = api.client.get(f"{url}&sortBy=displayName&page={token}")
    assert refusal(answer) == (400, "InvalidParameter")


def test_all_filters_must_agree(api):
    other = create(api, "projects", displayName="other")
    create(api, "models", displayName="x")
    wanted = create(api, "models", displayName="x", projectId=other["id"])
    create(api, "models", displayName="y", projectId=other["id"])
    url = f"{API}/models?compartmentId={api.compartment_id}&projectId={other['id']}"
    assert names(api.client.get(f"{url}&displayName=x"), "id") == [wanted["id"]]
    assert names(api.client.get(f"{url}&displayName=x&lifecycleState=DELETED")) == []
    assert names(api.client.get(f"{url}&displayName=x&category=SERVICE")) == []
    assert names(api.client.get(f"{url}&id={wanted['id']}")) == ["x"]


# Retry tokens


def test_the_same_request_with_the_same_token_creates_once(api):
    body = {"compartmentId": api.compartment_id, "displayName": "once"}
    headers = {"opc-retry-token": "token"}
    answers = [api.client.post(f"{API}/projects", json=body, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[0].headers["etag"] == answers[1].headers["etag"]
    other = api.client.post(f"{API}/projects", json={**body, "displayName": "2"}, headers=headers)
    assert refusal(other) == (409, "InvalidatedRetryToken")
    api.clock.advance(hours=25)
    again = api.client.post(f"{API}/projects", json=body, headers=headers)
    assert again.json()["id"] != answers[0].json()["id"]


def test_a_token_whose_request_was_refused_may_be_used_again(api):
    headers = {"opc-retry-token": "token"}
    body = {"compartmentId": "c", "projectId": new_ocid(Kind.PROJECT)}
    refused = api.client.post(f"{API}/models", json=body, headers=headers)
    assert refusal(refused) == (400, "RelatedResourceNotAuthorizedOrNotFound")
    body["projectId"] = api.project_id
    assert api.client.post(f"{API}/models", json=body, headers=headers).status_code == 200


def test_concurrent_requests_with_one_token_create_once(api):
    body = {"compartmentId": "c", "displayName": "once"}
    answers = []

    def post():
        headers = {"opc-retry-token": "token"}
        answers.append(api.client.post(f"{API}/projects", json=body, headers=headers))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(api.client.get(f"{API}/projects?compartmentId=c").json()) == 1


@ON_SQLITE
def test_a_retry_token_has_a_limit(api):
    answer = api.client.post(
        f"{API}/projects", json={"compartmentId": "c"}, headers={"opc-retry-token": "x" * 65}
    )
    assert refusal(answer) == (400, "InvalidParameter")


# Projects


def test_a_project_goes_once_it_is_empty_and_stays_readable(api):
    project = create(api, "projects")
    assert project["displayName"] == "datascienceproject20260304050607"
    path = f"{API}/projects/{project['id']}"
    model = create(api, "models", projectId=project["id"])
    refused = api.client.delete(path)
    assert refusal(refused) == (409, "Conflict")
    assert model["id"] in refused.json()["message"]

    api.client.delete(f"{API}/models/{model['id']}")
    gone = api.client.delete(path)
    assert gone.status_code == 202
    request = api.client.get(f"{API}/workRequests/{gone.headers['opc-work-request-id']}").json()
    assert (request["status"], request["percentComplete"]) == ("SUCCEEDED", 100.0)
    assert request["operationType"] == "PROJECT_DELETE"
    assert api.client.get(path).json()["lifecycleState"] == "DELETED"
    assert refusal(api.client.put(path, json={"displayName": "x"})) == (409, "Conflict")
    assert refusal(api.client.delete(path)) == (409, "Conflict")
    into_it = {"compartmentId": "c", "projectId": project["id"]}
    assert api.client.post(f"{API}/models", json=into_it).status_code == 400


def test_a_project_with_a_deployment_stays(api):
    deployment = deploy(api, create(api, "models")["id"])
    for model in api.client.get(f"{API}/models?compartmentId={api.compartment_id}").json():
        with api.database.write() as session:
            row = session.get(Deployment, deployment)
            row.model_id = "elsewhere"
            row.serving_spec = None
        api.client.delete(f"{API}/models/{model['id']}")
    refused = api.client.delete(f"{API}/projects/{api.project_id}")
    assert refusal(refused) == (409, "Conflict")
    assert deployment in refused.json()["message"]


# Models


def test_a_model_keeps_what_it_was_given(api):
    given = {
        "displayName": "m",
        "customMetadataList": [
            {"key": "k", "value": "v", "category": "Performance", "keywords": ["a"]},
            {"key": "no-value", "category": "OTHER"},
        ],
        "definedMetadataList": [{"key": "ArtifactTestResults"}],
        "inputSchema": '{"schema": []}',
        "outputSchema": "",
        "retentionSetting": {"archiveAfterDays": "30", "deleteAfterDays": 60},
        "backupSetting": {"isBackupEnabled": True, "backupRegion": "us-phoenix-1"},
        "unknown": "ignored",
    }
    model = create(api, "models", **given)
    assert [entry["key"] for entry in model["customMetadataList"]] == ["k", "no-value"]
    assert model["customMetadataList"][0]["keywords"] == ["a"]
    assert model["customMetadataList"][1]["value"] is None
    assert model["definedMetadataList"][0]["hasArtifact"] is False
    assert model["inputSchema"] == '{"schema": []}'
    assert model["retentionSetting"]["archiveAfterDays"] == 30
    assert model["backupSetting"]["customerNotificationType"] == "NONE"
    assert (model["lifecycleState"], model["category"]) == ("ACTIVE", "USER")
    listed = api.client.get(f"{API}/models?compartmentId={api.compartment_id}").json()[0]
    assert "customMetadataList" not in listed
    changed = api.client.put(
        f"{API}/models/{model['id']}",
        json={"customMetadataList": [], "inputSchema": "changed", "retentionSetting": None},
    ).json()
    assert changed["customMetadataList"] == []
    assert changed["inputSchema"] == '{"schema": []}'
    assert changed["definedMetadataList"] == model["definedMetadataList"]
    assert changed["retentionSetting"] is None


@ON_SQLITE
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"displayName": "x" * 256}, "displayName"),
        ({"displayName": 5}, "displayName"),
        ({"displayName": "a\x00b"}, "NUL"),
        ({"displayName": "\ud800"}, "surrogate"),
        ({"definedTags": {"n": {"k": ["\x00"]}}}, "NUL"),
        ({"freeformTags": {"k\x00": "v"}}, "NUL"),
        ({"freeformTags": {"k": 1}}, "freeformTags.k"),
        ({"freeformTags": {"k" * 101: "v"}}, "tag key"),
        ({"freeformTags": {"k": "v" * 257}}, "tag k"),
        ({"freeformTags": {str(n): "v" * 250 for n in range(50)}}, "tags together"),
        ({"customMetadataList": [{"value": "v"}]}, "customMetadataList.0.key is required"),
        ({"customMetadataList": [{"key": "k", "category": "Nonsense"}]}, "category"),
        ({"customMetadataList": [{"key": "k", "value": "ü" * 17000}]}, "customMetadataList and"),
        ({"inputSchema": "i" * 17000, "outputSchema": "o" * 17000}, "inputSchema and"),
        ({"retentionSetting": {"archiveAfterDays": 0}}, "archiveAfterDays"),
        ({"retentionSetting": {"archiveAfterDays": 10**400}}, "archiveAfterDays"),
        ({"backupSetting": {"isBackupEnabled": True}}, "backupRegion is required"),
        ({"projectId": 7}, "projectId"),
    ],
)
def test_a_wrong_model_is_refused_with_the_reason(api, fields, told):
    body = {"compartmentId": api.compartment_id, "projectId": api.project_id, **fields}
    answer = api.client.post(f"{API}/models", content=json.dumps(body), headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["code"] in {"InvalidParameter", "MissingParameter"}
    assert told in answer.json()["message"]
    assert api.client.get(f"{API}/models?compartmentId={api.compartment_id}").json() == []


@pytest.mark.parametrize("noun", ["models", "projects"])
@pytest.mark.parametrize("given", [{}, {"displayName": None}, {"displayName": ""}])
def test_a_name_is_made_up_where_none_or_an_empty_one_is_given(api, noun, given):
    body = {"compartmentId": api.compartment_id, "projectId": api.project_id, **given}
    made = api.client.post(f"{API}/{noun}", json=body).json()
    assert made["displayName"].startswith(f"datascience{noun[:-1]}20")
    changed = api.client.put(f"{API}/{noun}/{made['id']}", json={**given, "description": "d"})
    assert changed.json()["displayName"] == made["displayName"]


@ON_SQLITE
def test_all_problems_are_told_at_once_in_the_api_s_names(api):
    answer = api.client.post(f"{API}/models", json={"displayName": 5, "description": 1})
    assert refusal(answer) == (400, "InvalidParameter")
    for name in ("compartmentId", "projectId", "displayName", "description"):
        assert name in answer.json()["message"]
    missing = api.client.post(f"{API}/models", json={})
    assert refusal(missing) == (400, "MissingParameter")


@ON_SQLITE
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "CannotParseRequest"),
        (b"\xff\xfe", "CannotParseRequest"),
        (b"[" * 100_000, "CannotParseRequest"),
        (b'{"compartmentId": ' + b"9" * 5000 + b"}", "CannotParseRequest"),
        (b"[]", "InvalidParameter"),
        (b'"text"', "InvalidParameter"),
        (b"null", "InvalidParameter"),
        (b"", "MissingParameter"),
        (b'{"compartmentId": "c", "definedTags": {"n": {"k": NaN}}}', "InvalidParameter"),
        (b'{"compartmentId": "c", "definedTags": {"n": {"k": 1e999}}}', "InvalidParameter"),
        (
            b'{"compartmentId": "c", "definedTags": {"n": {"k": ' + b"[" * 50 + b"]" * 50 + b"}}}",
            "InvalidParameter",
        ),
    ],
)
def test_hostile_bodies_are_refused_in_the_one_shape(api, content, code):
    answer = api.client.post(f"{API}/projects", content=content, headers=JSON)
    assert refusal(answer) == (400, code)
    assert set(answer.json()) == {"code", "message"}


@ON_SQLITE
def test_a_get_with_a_content_type_and_no_body_does_not_bother(api):
    answer = api.client.get(f"{API}/projects?compartmentId=c", headers=JSON)
    assert answer.status_code == 200


def test_numbers_of_any_size_survive_in_defined_tags(api):
    tags = {"n": {"k": 10**300, "f": 0.1, "t": True, "z": None}}
    made = create(api, "projects", definedTags=tags)
    assert made["definedTags"] == tags


def test_provenance_is_404_until_it_is_set_and_may_be_empty(api):
    path = f"{API}/models/{create(api, 'models')['id']}/provenance"
    assert refusal(api.client.get(path)) == (404, "NotAuthorizedOrNotFound")
    assert refusal(api.client.put(path, json={})) == (404, "NotAuthorizedOrNotFound")
    token = {"opc-retry-token": "t"}
    assert api.client.post(path, json={}, headers=token).status_code == 200
    assert api.client.post(path, json={}, headers=token).status_code == 200
    assert api.client.get(path).json()["gitBranch"] is None
    assert refusal(api.client.post(path, json={})) == (409, "Conflict")
    api.client.put(path, json={"gitBranch": "main"})
    changed = api.client.put(path, json={"gitCommit": "c0ffee"}).json()
    assert (changed["gitBranch"], changed["gitCommit"]) == ("main", "c0ffee")


def test_a_model_in_use_can_be_neither_deactivated_nor_deleted(api):
    model, other = create(api, "models")["id"], create(api, "models")["id"]
    path = f"{API}/models/{model}"
    users = [
        deploy(api, model),
        deploy(api, other, serving_spec={"model_id": model}, lifecycle_state="UPDATING"),
    ]
    for answer in (api.client.delete(path), api.client.post(f"{path}/actions/deactivate")):
        assert refusal(answer) == (409, "Conflict")
        assert all(user in answer.json()["message"] for user in users)
    assert api.client.get(path).json()["lifecycleState"] == "ACTIVE"
    with api.database.write() as session:
        for user in users:
            session.get(Deployment, user).lifecycle_state = "DELETED"
    assert api.client.post(f"{path}/actions/deactivate").json()["lifecycleState"] == "INACTIVE"
    assert api.client.post(f"{path}/actions/activate").json()["lifecycleState"] == "ACTIVE"
    assert api.client.delete(path).status_code == 204
    assert api.client.get(path).json()["lifecycleState"] == "DELETED"
    assert refusal(api.client.post(f"{path}/actions/activate")) == (409, "Conflict")
    listed = f"{API}/models?compartmentId={api.compartment_id}"
    assert model in names(api.client.get(listed), "id")
    assert names(api.client.get(f"{listed}&lifecycleState=ACTIVE"), "id") == [other]


# Version sets


def test_versions_are_counted_and_never_given_twice(api):
    version_set = create(api, "modelVersionSets", name="set")["id"]
    first = create(api, "models", modelVersionSetId=version_set, versionLabel="best")
    assert (first["versionId"], first["modelVersionSetName"]) == (1, "set")
    api.client.delete(f"{API}/models/{first['id']}")
    second = create(api, "models", modelVersionSetId=version_set)
    assert second["versionId"] == 2
    alone = create(api, "models")
    assert (alone["versionId"], alone["modelVersionSetName"]) == (None, None)
    path = f"{API}/models/{alone['id']}"
    joined = api.client.put(path, json={"modelVersionSetId": version_set}).json()
    assert joined["versionId"] == 3
    assert api.client.put(path, json={"modelVersionSetId": version_set}).json()["versionId"] == 3
    url = f"{API}/models?compartmentId={api.compartment_id}&modelVersionSetName=set"
    assert names(api.client.get(f"{url}&sortOrder=ASC"), "versionId") == [1, 2, 3]
    assert names(api.client.get(f"{url}&versionLabel=best"), "modelVersionSetName") == ["set"]


def test_an_update_that_waits_for_a_version_set_holds_no_model(api):
    """A deletion holds the set and then its models: all must, or two would wait for each other."""
    if api.database.is_sqlite:
        pytest.skip("SQLite has one writer")
    version_set = create(api, "modelVersionSets", name="set")["id"]
    model = create(api, "models")["id"]
    answers = []

    def join() -> None:
        body = {"modelVersionSetId": version_set}
        answers.append(api.client.put(f"{API}/models/{model}", json=body))

    with api.database.write() as session:
        session.get_one(VersionSet, version_set, with_for_update=True)
        beside = threading.Thread(target=join)
        beside.start()
        beside.join(timeout=0.5)
        assert beside.is_alive()
        session.get_one(Model, model, with_for_update={"nowait": True})
    beside.join(timeout=10)
    assert [answer.json()["versionId"] for answer in answers] == [1]


def test_the_name_of_a_version_set_is_its_own(api):
    made = create(api, "modelVersionSets", name="set")
    body = {"compartmentId": api.compartment_id, "projectId": api.project_id, "name": "set"}
    assert refusal(api.client.post(f"{API}/modelVersionSets", json=body)) == (409, "Conflict")
    api.client.delete(f"{API}/modelVersionSets/{made['id']}")
    assert api.client.post(f"{API}/modelVersionSets", json=body).status_code == 200


def test_a_version_set_goes_with_its_models_only_when_told_so(api):
    version_set = create(api, "modelVersionSets", name="set")["id"]
    models = [create(api, "models", modelVersionSetId=version_set)["id"] for _ in range(2)]
    path = f"{API}/modelVersionSets/{version_set}"
    assert refusal(api.client.delete(path)) == (409, "Conflict")
    deployment = deploy(api, models[1])
    refused = api.client.delete(f"{path}?isDeleteRelatedModels=true")
    assert refusal(refused) == (409, "Conflict")
    assert api.client.get(f"{API}/models/{models[0]}").json()["lifecycleState"] == "ACTIVE"
    with api.database.write() as session:
        session.get(Deployment, deployment).lifecycle_state = "DELETED"
    gone = api.client.delete(f"{path}?isDeleteRelatedModels=true")
    assert gone.status_code == 202
    request = api.client.get(f"{API}/workRequests/{gone.headers['opc-work-request-id']}").json()
    assert (request["status"], request["operationType"]) == ("SUCCEEDED", "MODELVERSIONSET_DELETE")
    states = [api.client.get(f"{API}/models/{m}").json()["lifecycleState"] for m in models]
    assert states == ["DELETED", "DELETED"]
    into_it = {"compartmentId": "c", "projectId": api.project_id, "modelVersionSetId": version_set}
    refused = api.client.post(f"{API}/models", json=into_it)
    assert refusal(refused) == (400, "RelatedResourceNotAuthorizedOrNotFound")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_in_any_field_is_too_much(api, data):
    """Whatever is sent is taken or refused, and what is taken can be read and listed."""
    fields = data.draw(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=4))
    body = {"compartmentId": "hostile", "projectId": api.project_id, **fields}
    answer = api.client.post(f"{API}/models", content=json.dumps(body), headers=JSON)
    assert answer.status_code in {200, 400}, answer.text
    if answer.status_code == 200:
        path = f"{API}/models/{answer.json()['id']}"
        assert api.client.get(path).json() == answer.json()
        assert api.client.put(path, content=json.dumps(fields), headers=JSON).status_code == 200
    compartment = {"compartmentId": fields.get("compartmentId") or "hostile"}
    assert api.client.get(f"{API}/models", params=compartment).status_code in {200, 400}


text = st.text(st.characters(codec=None), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
anything = (
    text
    | st.dictionaries(text, text, max_size=3)
    | st.dictionaries(text, st.dictionaries(text, scalars, max_size=3), max_size=3)
    | st.lists(st.dictionaries(st.sampled_from(["key", "value", "category"]), text), max_size=3)
    | scalars
)
FIELDS = [
    "displayName",
    "description",
    "freeformTags",
    "definedTags",
    "customMetadataList",
    "definedMetadataList",
    "inputSchema",
    "versionLabel",
    "retentionSetting",
    "backupSetting",
    "modelVersionSetId",
    "compartmentId",
]


# Search


def test_search_finds_the_deployments_of_a_model(api):
    wanted = deploy(api, "m1")
    deploy(api, "m2")
    query = "query datasciencemodeldeployment resources where ModelId='m1'"
    answer = api.client.post(
        "/20180409/resources?limit=500", json={"type": "Structured", "query": query}
    )
    assert [item["identifier"] for item in answer.json()["items"]] == [wanted]
    assert answer.json()["items"][0]["lifecycleState"] == "ACTIVE"
