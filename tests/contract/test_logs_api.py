"""Log groups, logs and searches over the API, on both databases."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.deployment_api import DEPLOYMENTS, active, create, get, refused
from tests.support.deployment_world import add_log, add_model, create_request

from havre.domain.errors import TooBusy
from havre.domain.logs import Category, built_in_group, built_in_log
from havre.domain.ocid import Kind, new_ocid
from havre.store import logs

GROUPS = "/20200531/logGroups"
REQUESTS = "/20200531/workRequests"
SEARCH = "/20190909/search"
WHEN = datetime(2026, 11, 25, 10, tzinfo=UTC)


@pytest.fixture
def model_id(api) -> str:
    return add_model(api.services)


def done(api, answer, action) -> str:
    """The identifier of what a work request was about, which must have ended well."""
    assert answer.status_code == 202, answer.text
    request = api.client.get(f"{REQUESTS}/{answer.headers['opc-work-request-id']}").json()
    assert (request["status"], request["percentComplete"]) == ("SUCCEEDED", 100.0)
    [resource] = request["resources"]
    assert resource["actionType"] == action
    return resource["identifier"]


def make_group(api, name="group", **fields) -> str:
    body = {"compartmentId": api.compartment_id, "displayName": name, **fields}
    return done(api, api.client.post(GROUPS, json=body), "CREATED")


def make_log(api, group, name="log", **fields) -> str:
    body = {"displayName": name, "logType": "CUSTOM", **fields}
    return done(api, api.client.post(f"{GROUPS}/{group}/logs", json=body), "CREATED")


def listed(api, path, **query):
    answer = api.client.get(path, params={"compartmentId": api.compartment_id, **query})
    assert answer.status_code == 200, answer.text
    return [row["displayName"] for row in answer.json()]


def test_a_log_group_from_its_first_day_to_its_last(api):
    group = make_group(api, description="d", freeformTags={"a": "b"})
    shown = api.client.get(f"{GROUPS}/{group}")
    body = shown.json()
    assert body["id"] == group
    assert body["id"].startswith("ocid1.loggroup.")
    assert (body["displayName"], body["description"]) == ("group", "d")
    assert (body["lifecycleState"], body["freeformTags"]) == ("ACTIVE", {"a": "b"})
    assert body["timeCreated"] == body["timeLastModified"]
    etag = {"if-match": shown.headers["etag"]}
    change = {"displayName": "renamed"}
    assert done(api, api.client.put(f"{GROUPS}/{group}", json=change, headers=etag), "UPDATED")
    refused(api.client.put(f"{GROUPS}/{group}", json={}, headers=etag), 412, "NoEtagMatch")
    after = api.client.get(f"{GROUPS}/{group}").json()
    assert (after["displayName"], after["description"]) == ("renamed", "d")
    assert after["timeLastModified"] > after["timeCreated"]
    assert listed(api, GROUPS) == ["renamed", "Default_Group"]
    assert listed(api, GROUPS, displayName="renamed") == ["renamed"]
    assert listed(api, GROUPS, sortBy="displayName", limit=1) == ["Default_Group"]
    moved = {"compartmentId": "elsewhere"}
    path = f"{GROUPS}/{group}/actions/changeCompartment"
    assert done(api, api.client.post(path, json=moved), "UPDATED") == group
    assert listed(api, GROUPS) == ["Default_Group"]
    assert listed(api, GROUPS, compartmentId="elsewhere") == ["renamed"]
    assert listed(api, GROUPS, isCompartmentIdInSubtree="true") == ["renamed", "Default_Group"]
    assert done(api, api.client.delete(f"{GROUPS}/{group}"), "DELETED") == group
    refused(api.client.get(f"{GROUPS}/{group}"), 404, "NotAuthorizedOrNotFound", group)


def test_a_log_from_its_first_day_to_its_last(api):
    group, other = make_group(api), make_group(api, "other")
    log = make_log(api, group, retentionDuration=60, isEnabled=True)
    path = f"{GROUPS}/{group}/logs/{log}"
    body = api.client.get(path).json()
    assert body["id"].startswith("ocid1.log.")
    assert body["tenancyId"] == body["compartmentId"] == api.compartment_id
    assert (body["logGroupId"], body["logType"], body["isEnabled"]) == (group, "CUSTOM", True)
    assert (body["displayName"], body["retentionDuration"]) == ("log", 60)
    assert listed(api, f"{GROUPS}/{group}/logs", logType="CUSTOM") == ["log"]
    assert listed(api, f"{GROUPS}/{group}/logs", logType="SERVICE") == []
    assert listed(api, f"{GROUPS}/{group}/logs", sourceService="x") == []
    change = {"displayName": "renamed", "retentionDuration": 90, "definedTags": {"n": {"k": 1}}}
    assert done(api, api.client.put(path, json=change), "UPDATED") == log
    after = api.client.get(path).json()
    assert {name: after[name] for name in change} == change
    assert done(api, api.client.put(path, json={"retentionDuration": None}), "UPDATED")
    assert api.client.get(path).json()["retentionDuration"] == 30
    refused(api.client.delete(f"{GROUPS}/{group}"), 409, "Conflict", log, "first")
    move = {"targetLogGroupId": other}
    assert done(api, api.client.post(f"{path}/actions/changeLogGroup", json=move), "UPDATED")
    refused(api.client.get(path), 404, "NotAuthorizedOrNotFound")
    path = f"{GROUPS}/{other}/logs/{log}"
    assert api.client.get(path).json()["logGroupId"] == other
    assert done(api, api.client.delete(path), "DELETED") == log
    refused(api.client.get(path), 404, "NotAuthorizedOrNotFound")
    assert done(api, api.client.delete(f"{GROUPS}/{group}"), "DELETED")


def test_names_are_taken_once(api):
    group = make_group(api)
    make_log(api, group)
    again = {"compartmentId": api.compartment_id, "displayName": "group"}
    refused(api.client.post(GROUPS, json=again), 409, "Conflict", group, "another name")
    body = {"displayName": "log", "logType": "CUSTOM"}
    refused(api.client.post(f"{GROUPS}/{group}/logs", json=body), 409, "Conflict", "another name")
    second = make_log(api, group, "second")
    answer = api.client.put(f"{GROUPS}/{group}/logs/{second}", json={"displayName": "log"})
    refused(answer, 409, "Conflict", "another name")
    assert make_group(api, compartmentId="elsewhere")
    make_log(api, make_group(api, "other"))


def test_a_retried_create_makes_one(api):
    token = {"opc-retry-token": "t"}
    body = {"compartmentId": api.compartment_id, "displayName": "group"}
    first, second = (api.client.post(GROUPS, json=body, headers=token) for _ in range(2))
    group = done(api, first, "CREATED")
    assert done(api, second, "CREATED") == group
    body = {"displayName": "log", "logType": "CUSTOM"}
    path = f"{GROUPS}/{group}/logs"
    first, second = (api.client.post(path, json=body, headers=token) for _ in range(2))
    assert done(api, first, "CREATED") == done(api, second, "CREATED")
    other = api.client.post(f"{GROUPS}/{make_group(api, 'b')}/logs", json=body, headers=token)
    refused(other, 409, "InvalidatedRetryToken")


def test_what_would_be_stored_and_not_heeded_is_refused(api):
    group = built_in_group(api.compartment_id)
    for fields, word in (
        ({"logType": "SERVICE"}, "must be CUSTOM"),
        ({"isEnabled": False}, "log_retention_days"),
        ({"configuration": {"source": {}}}, "categoryLogDetails"),
        ({"retentionDuration": 31}, "retentionDuration"),
        ({"retentionDuration": 210}, "retentionDuration"),
        ({"displayName": ""}, "displayName"),
    ):
        body = {"displayName": "log", "logType": "CUSTOM", **fields}
        answer = api.client.post(f"{GROUPS}/{group}/logs", json=body)
        refused(answer, 400, "InvalidParameter", word)


def test_the_built_in_logs_are_there_and_stay(api):
    group = built_in_group(api.compartment_id)
    assert sorted(listed(api, f"{GROUPS}/{group}/logs")) == ["access", "predict"]
    log = f"{GROUPS}/{group}/logs/{built_in_log(api.compartment_id, Category.ACCESS)}"
    for answer in (
        api.client.delete(log),
        api.client.delete(f"{GROUPS}/{group}"),
        api.client.post(f"{log}/actions/changeLogGroup", json={"targetLogGroupId": group}),
        api.client.post(
            f"{GROUPS}/{group}/actions/changeCompartment", json={"compartmentId": "elsewhere"}
        ),
    ):
        refused(answer, 409, "Conflict", "built in")
    assert done(api, api.client.put(log, json={"retentionDuration": 30}), "UPDATED")


def test_work_requests_are_told_apart_from_those_of_data_science(api, model_id):
    create(api, model_id)
    make_group(api)
    operations = {
        path: {
            row["operationType"]
            for row in api.client.get(
                f"/{path}/workRequests", params={"compartmentId": api.compartment_id}
            ).json()
        }
        for path in ("20190101", "20200531")
    }
    assert operations == {
        "20190101": {"MODEL_DEPLOYMENT_CREATE"},
        "20200531": {"CREATE_LOG_GROUP"},
    }
    request = api.client.get(REQUESTS, params={"compartmentId": api.compartment_id}).json()[0]
    assert request["id"].startswith("ocid1.logworkrequest.")
    path = f"{REQUESTS}/{request['id']}"
    assert [row["message"] for row in api.client.get(f"{path}/logs").json()][-1] == "Created."
    assert api.client.get(f"{path}/errors").json() == []
    refused(api.client.delete(path), 409, "Conflict", "SUCCEEDED already")


def test_a_deployment_that_names_no_log_has_the_built_in_ones(api, model_id):
    group = built_in_group(api.compartment_id)
    expected = {
        category: {"logGroupId": group, "logId": built_in_log(api.compartment_id, category)}
        for category in Category
    }
    for given in ({}, {"categoryLogDetails": {}}, {"categoryLogDetails": None}):
        assert get(api, create(api, model_id, **given))["categoryLogDetails"] == expected
    mine = add_log(api.services)
    deployment_id = active(api, model_id, categoryLogDetails={"access": mine})
    named = get(api, deployment_id)["categoryLogDetails"]
    assert named == {**expected, "access": mine}
    clear = {"categoryLogDetails": {"access": None}}
    assert api.client.put(f"{DEPLOYMENTS}/{deployment_id}", json=clear).status_code == 202
    assert get(api, deployment_id)["categoryLogDetails"] == expected


def test_a_log_that_is_not_there_is_refused(api, model_id):
    mine = add_log(api.services)
    for details in (
        {"access": {**mine, "logId": new_ocid(Kind.LOG)}},
        {"predict": {**mine, "logGroupId": built_in_group(api.compartment_id)}},
        {"predict": {"logId": "log", "logGroupId": "group"}},
    ):
        body = create_request(api.services, model_id, categoryLogDetails=details)
        code = "RelatedResourceNotAuthorizedOrNotFound"
        [category] = details
        refused(api.client.post(DEPLOYMENTS, json=body), 400, code, category, "built-in log")


def test_a_log_that_deployments_name_stays(api, model_id):
    mine = add_log(api.services)
    path = f"{GROUPS}/{mine['logGroupId']}/logs/{mine['logId']}"
    deployment_id = active(api, model_id, categoryLogDetails={"predict": mine})
    refused(api.client.delete(path), 409, "Conflict", deployment_id)
    move = {"targetLogGroupId": built_in_group(api.compartment_id)}
    answer = api.client.post(f"{path}/actions/changeLogGroup", json=move)
    refused(answer, 409, "Conflict", deployment_id)
    clear = {"categoryLogDetails": {"predict": None}}
    assert api.client.put(f"{DEPLOYMENTS}/{deployment_id}", json=clear).status_code == 202
    assert done(api, api.client.delete(path), "DELETED")


def test_a_log_says_how_long_its_entries_are_kept(api, model_id):
    def kept():
        with api.database.read() as session:
            return logs.retention(session, tenancy=api.compartment_id)

    mine = add_log(api.services)
    deployment_id = create(api, model_id, categoryLogDetails={"predict": mine})
    assert kept() == {}
    path = f"{GROUPS}/{mine['logGroupId']}/logs/{mine['logId']}"
    assert done(api, api.client.put(path, json={"retentionDuration": 90}), "UPDATED")
    assert kept() == {(deployment_id, Category.PREDICT): 90}
    built_in = built_in_log(api.compartment_id, Category.ACCESS)
    path = f"{GROUPS}/{built_in_group(api.compartment_id)}/logs/{built_in}"
    assert done(api, api.client.put(path, json={"retentionDuration": 60}), "UPDATED")
    assert kept() == {
        (deployment_id, Category.PREDICT): 90,
        (deployment_id, Category.ACCESS): 60,
    }


def search(api, query, *, limit=1000, **fields):
    body = {
        "timeStart": "2026-11-25T10:00:00.000Z",
        "timeEnd": "2026-11-25T11:00:00Z",
        "searchQuery": query,
        **fields,
    }
    return api.client.post(SEARCH, json=body, params={"limit": limit})


def found(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    rows = answer.json()["results"]
    assert answer.json()["summary"]["resultCount"] == len(rows)
    return [row["data"]["logContent"]["id"] for row in rows]


def write_requests(api, *entries, filling=""):
    """Entries as the load balancer writes them: deployment and number of each."""
    lines = [
        {
            "id": f"{number}",
            "time": (WHEN + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "deployment": deployment,
            "method": "POST",
            "path": f"/{deployment}/predict{filling}",
            "status": 200,
        }
        for deployment, number in entries
    ]
    with api.services.home.access_log.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_a_search_is_of_a_compartment_a_log_group_or_a_log(api, model_id):
    mine = add_log(api.services)
    elsewhere = "ocid1.compartment.oc1..elsewhere"
    first = create(api, model_id)
    second = create(api, model_id, categoryLogDetails={"access": mine})
    third = create(api, model_id, compartmentId=elsewhere)
    write_requests(api, (first, 1), (second, 2), (third, 3), (new_ocid(Kind.DEPLOYMENT), 4))
    group, log = mine["logGroupId"], mine["logId"]
    here, built_in = api.compartment_id, built_in_group(api.compartment_id)
    for scopes, expected in {
        f'"{here}"': ["3", "2", "1"],  # the built-in log of the third is here
        f'"{elsewhere}"': ["3"],
        f'"{here}/{group}"': ["2"],
        f'"{here}/mine/mine"': ["2"],
        f'"{here}/{group}/{log}"': ["2"],
        f'"{here}/{built_in}"': ["3", "1"],
        # ADS names a log by the deployment's compartment, wherever the log is.
        f'"{elsewhere}/{built_in}/{built_in_log(here, Category.ACCESS)}"': ["3"],
        f'"{here}/{built_in}/{built_in_log(here, Category.PREDICT)}"': [],
        f'"{elsewhere}", "{here}/{group}/{log}"': ["3", "2"],
        f'"{elsewhere}" "{here}/Default_Group/access"': ["3", "1"],
        '"ocid1.compartment.oc1..unknown"': [],
    }.items():
        assert found(search(api, f"search {scopes}")) == expected, scopes
    for scope in (f"{here}/nothing", f"{here}/{group}/nothing", f"{here}/{built_in}/{log}"):
        answer = search(api, f'search "{scope}"')
        refused(answer, 400, "RelatedResourceNotAuthorizedOrNotFound", "list log groups")
    [record] = search(api, f"search \"{here}\" | where id = '2'").json()["results"]
    assert record["data"]["logContent"]["oracle"]["logid"] == log
    assert record["data"]["logContent"]["source"] == second


def test_pages_of_a_search(api, model_id):
    deployment = create(api, model_id)
    write_requests(api, *((deployment, number) for number in range(7)))
    query = f'search "{api.compartment_id}" | sort by datetime'
    body = {"timeStart": "2026-11-25T10:00:00Z", "timeEnd": "2026-11-25T11:00:00Z"}
    body["searchQuery"] = query
    pages, page = [], None
    while page != "":
        answer = api.client.post(
            SEARCH, json=body, params={"limit": 3, **({"page": page} if page else {})}
        )
        pages.append(found(answer))
        token, page = page, answer.headers.get("opc-next-page", "")
    assert pages == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    other = {**body, "searchQuery": query + " desc"}
    for wrong, bad in ((other, token), (body, "x"), (body, "é")):
        refused(api.client.post(SEARCH, json=wrong, params={"page": bad}), 400, "InvalidParameter")


def test_the_fields_of_an_answer_are_told_on_request(api, model_id):
    query = (
        f"search \"{api.compartment_id}\" | summarize count() by source, rounddown(datetime, '1m')"
    )
    assert search(api, query).json()["fields"] is None
    told = search(api, query, isReturnFieldInfo=True).json()
    assert told["fields"] == [
        {"fieldName": "source", "fieldType": "STRING"},
        {"fieldName": "datetime", "fieldType": "NUMBER"},
        {"fieldName": "count", "fieldType": "NUMBER"},
    ]
    assert told["summary"] == {"resultCount": 0, "fieldCount": 3}
    whole = search(api, f'search "{api.compartment_id}"', isReturnFieldInfo=True).json()
    assert {"fieldName": "logContent.data.status", "fieldType": "NUMBER"} in whole["fields"]


def test_too_large_an_answer_is_refused_in_words_that_ads_knows(api, model_id):
    deployment = create(api, model_id)
    write_requests(api, *((deployment, number) for number in range(3)), filling="x" * 2_000_000)
    query = f'search "{api.compartment_id}"'
    refused(search(api, query), 400, "InvalidParameter", "search result is too large")
    assert found(search(api, query, limit=1)) == ["2"]
    assert search(api, f"{query} | select id").json()["summary"]["resultCount"] == 3


def test_a_search_that_makes_no_sense_is_refused(api):
    for fields, word in (
        ({"timeStart": "2026-11-25T11:00:00Z"}, "timeStart must be before timeEnd"),
        ({"timeEnd": "2026-12-09T10:00:00.001Z"}, "at most 14 days"),
        ({"searchQuery": "look at everything"}, "expected search"),
        ({"searchQuery": 'search "x" | where'}, "at its end"),
        ({"searchQuery": 'search "x" | where data.size > 1'}, "there is no field data.size"),
        ({"searchQuery": ""}, "searchQuery"),
        ({"timeEnd": "soon"}, "timeEnd"),
    ):
        refused(search(api, 'search "x"', **fields), 400, "InvalidParameter", word)
    assert search(api, 'search "x"', timeEnd="2026-12-09T10:00:00Z").status_code == 200


def test_a_search_whose_turn_does_not_come_is_asked_to_come_again(api, monkeypatch):
    """Not a fault of who asks: clients would ask for less in vain."""

    def refuse(*_, **__):
        raise TooBusy("too many queries are waiting; try again soon")

    monkeypatch.setattr(api.services.log_search, "search", refuse)
    now = datetime.now(UTC)
    body = {
        "searchQuery": f'search "{api.compartment_id}"',
        "timeStart": (now - timedelta(hours=1)).isoformat(),
        "timeEnd": now.isoformat(),
    }
    answer = api.client.post(SEARCH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (429, "TooManyRequests")
    assert int(answer.headers["retry-after"]) > 0
