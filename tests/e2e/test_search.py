"""Resource search as the SDK's client and `oci search resource` ask for it."""

import json

import oci
import pytest
from oci.resource_search.models import FreeTextSearchDetails, StructuredSearchDetails
from tests.e2e.artifacts import scored
from tests.e2e.test_cli import OciCli

SCORE = "def predict(data):\n    return data\n"


@pytest.fixture(scope="module")
def client(server):
    config = oci.config.from_file(server.profile["file"], server.profile["profile"])
    return oci.resource_search.ResourceSearchClient(config, service_endpoint=server.url)


@pytest.fixture
def model_id(oracle):
    return oracle.save(scored(SCORE), "found by search")


def test_the_sdks_client_searches_and_pages(client, oracle, model_id):
    other = oracle.save(scored(SCORE), "found by search, too")
    query = (
        "query datasciencemodel resources return allAdditionalFields where "
        f"(compartmentId = '{oracle.compartment_id}' && displayName =~ 'found by search' && "
        "timeCreated > now - 1h) sorted by timeCreated asc"
    )
    details = StructuredSearchDetails(query=query)
    pages = oci.pagination.list_call_get_all_results(client.search_resources, details, limit=1)
    found = {item.identifier: item for item in pages.data}
    assert {model_id, other} <= set(found)
    assert found[model_id].additional_details["projectId"] == oracle.project_id
    assert found[model_id].time_created <= found[other].time_created

    text = FreeTextSearchDetails(text=model_id, matching_context_type="HIGHLIGHTS")
    (item,) = client.search_resources(text).data.items
    assert item.search_context.highlights["identifier"] == [f"<h1>{model_id}</h1>"]
    assert item.resource_type in {one.name for one in client.list_resource_types().data}

    with pytest.raises(oci.exceptions.ServiceError) as refused:
        client.search_resources(StructuredSearchDetails(query="query instance resources"))
    assert refused.value.status == 400
    assert "DataScienceModel" in refused.value.message


def test_the_command_line_searches(server, oracle, model_id):
    cli = OciCli(server)

    def search(*words):

        return json.loads(cli.run("search", *words).stdout)["data"]

    query = f"query datasciencemodel resources where identifier = '{model_id}'"
    (item,) = search("resource", "structured-search", "--query-text", query)["items"]
    assert (item["identifier"], item["display-name"]) == (model_id, "found by search")
    (item,) = search("resource", "free-text-search", "--text", model_id)["items"]
    assert item["lifecycle-state"] == "ACTIVE"
    types = search("resource-type", "list")
    assert "DataScienceModelDeployment" in {one["name"] for one in types}
