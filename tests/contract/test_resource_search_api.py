"""Resource search over the API, on both databases."""

import pytest
from tests.contract.test_catalog_api import deploy

from havre.domain.resources import TYPES

PATH = "/20180409/resources"


def search(api, query, **parameters):
    answer = api.client.post(PATH, params=parameters, json={"type": "Structured", "query": query})
    assert answer.status_code == 200, answer.text
    return answer


def names(answer):
    return [item["displayName"] for item in answer.json()["items"]]


def model(api, name, **fields):
    body = {
        "compartmentId": api.compartment_id,
        "projectId": api.project_id,
        "displayName": name,
        **fields,
    }
    answer = api.client.post("/20190101/models", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def test_every_type_that_is_here_is_found(api):
    model_id = model(api, "iris", description="three kinds")
    deploy(api, model_id)
    owned = {"compartmentId": api.compartment_id, "projectId": api.project_id}
    body = {**owned, "name": "versions"}
    assert api.client.post("/20190101/modelVersionSets", json=body).status_code == 200
    found = search(api, "query all resources", limit=1000).json()["items"]
    types = {item["resourceType"] for item in found}
    assert types == set(TYPES)
    for kind in TYPES:
        rows = search(api, f"query {kind.lower()} resources").json()["items"]
        assert {row["resourceType"] for row in rows} == {kind}
        assert all(row["identifier"] and row["timeCreated"] for row in rows)


def test_conditions_order_and_returned_fields(api):
    first = model(api, "b", freeformTags={"OCI_AQUA": "active"}, description="one")
    model(api, "a", freeformTags={"other": "active"})
    where = f"compartmentId = '{api.compartment_id}' && lifecycleState = 'ACTIVE'"
    aqua = (
        f"query datasciencemodel resources where ({where} && (freeformTags.key = 'OCI_AQUA' && "
        "freeformTags.value = 'active'))"
    )
    assert names(search(api, aqua)) == ["b"]
    ordered = f"query datasciencemodel resources where {where} sorted by displayName asc"
    assert names(search(api, ordered)) == ["a", "b"]
    query = f"query datasciencemodel resources return description where identifier = '{first}'"
    (row,) = search(api, query).json()["items"]
    assert row["additionalDetails"] == {"description": "one"}
    query = (
        f"query datasciencemodel resources return allAdditionalFields where identifier='{first}'"
    )
    (row,) = search(api, query).json()["items"]
    assert row["additionalDetails"]["projectId"] == api.project_id


def test_pages_go_on_where_they_stopped(api):
    for number in range(7):
        model(api, f"m{number}")
    query = "query datasciencemodel resources sorted by displayName"
    seen, page = [], None
    while True:
        answer = search(api, query, limit=3, **({"page": page} if page else {}))
        seen += names(answer)
        page = answer.headers.get("opc-next-page")
        if page is None:
            break
        model(api, f"a{len(seen)}")  # sorts before: what was seen is not seen again
    assert seen == [f"m{number}" for number in range(7)]
    body = {"type": "Structured", "query": query}
    for bad in ("x", "WzFd", "W10", "bnVsbA"):
        assert api.client.post(PATH, params={"page": bad}, json=body).status_code == 400


def test_free_text_and_highlights(api):
    model(api, "Iris Classifier")
    model(api, "wine")
    body = {"type": "FreeText", "text": "iris", "matchingContextType": "HIGHLIGHTS"}
    (row,) = api.client.post(PATH, json=body).json()["items"]
    assert row["displayName"] == "Iris Classifier"
    assert row["searchContext"]["highlights"]["displayName"] == ["<h1>Iris</h1> Classifier"]
    (row,) = api.client.post(PATH, json={"type": "FreeText", "text": "iris"}).json()["items"]
    assert row.get("searchContext") is None


def test_types_tell_their_fields(api):
    listed = api.client.get("/20180409/resourceTypes").json()
    assert {one["name"] for one in listed} == set(TYPES)
    one = api.client.get("/20180409/resourceTypes/datasciencemodel").json()
    fields = {field["fieldName"]: field for field in one["fields"]}
    assert fields["timeCreated"]["fieldType"] == "DATETIME"
    assert fields["modelVersionSetId"]["fieldType"] == "STRING"
    inner = {part["fieldName"] for part in fields["freeformTags"]["objectProperties"]}
    assert inner == {"key", "value"}
    assert api.client.get("/20180409/resourceTypes/instance").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"type": "Structured", "query": "query instance resources"},
        {"type": "Structured", "query": "drop table"},
        {"type": "Structured", "query": "query log resources where colour='red'"},
        {"type": "Structured", "query": " "},
        {"type": "Structured", "text": "x"},
        {"type": "FreeText", "query": "query all resources"},
        {"type": "FreeText", "text": "x", "matchingContextType": "SOME"},
        {"type": "Other", "text": "x"},
    ],
)
def test_what_is_no_search_is_refused(api, body):
    answer = api.client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")
