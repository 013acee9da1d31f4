"""A create that claims its name, on both databases: one deployment has it, the others are told."""

import pytest
from tests.support.deployment_api import DEPLOYMENTS, active, at_once, create, listed, refused
from tests.support.deployment_world import add_model, create_request, set_state, settle

from havre.domain.states import DeploymentState

ONLY = {"if-none-match": "*"}


@pytest.fixture
def model_id(api) -> str:
    return add_model(api.services)


def claim(api, model_id, **fields):
    body = create_request(api.services, model_id, **fields)
    return api.client.post(DEPLOYMENTS, json=body, headers=ONLY)


def test_a_name_is_claimed_once_by_whoever_comes_first(api, model_id):
    answers = at_once(*[lambda: claim(api, model_id) for _ in range(4)])
    assert sorted(answer.status_code for answer in answers) == [202, 412, 412, 412]
    [made] = listed(api, displayName="iris")
    for answer in answers:
        if answer.status_code == 412:
            refused(answer, 412, "NoEtagMatch", made, "CREATING", "'iris'")


def test_a_name_is_another_s_while_its_deployment_is_busy_or_serves(api, model_id):
    deployment = create(api, model_id)
    refused(claim(api, model_id), 412, "NoEtagMatch", deployment, "CREATING")
    settle(api.services, deployment)
    refused(claim(api, model_id), 412, "NoEtagMatch", deployment, "ACTIVE")
    changed = {"freeformTags": {"a": "b"}}
    assert api.client.put(f"{DEPLOYMENTS}/{deployment}", json=changed).status_code == 202
    refused(claim(api, model_id), 412, "NoEtagMatch", deployment, "UPDATING")
    assert claim(api, model_id, displayName="Iris").status_code == 202, "another name"


@pytest.mark.parametrize("state", [DeploymentState.FAILED, None], ids=["failed", "on its way out"])
def test_a_deployment_that_failed_or_goes_has_given_its_name_up(api, model_id, state):
    deployment = create(api, model_id)
    if state is None:
        api.client.delete(f"{DEPLOYMENTS}/{deployment}")
    else:
        set_state(api.services, deployment, state)
    assert claim(api, model_id).status_code == 202


def test_who_does_not_claim_may_have_two_of_a_name(api, model_id):
    assert {active(api, model_id), active(api, model_id)} == set(listed(api, displayName="iris"))
    refused(claim(api, model_id), 412, "NoEtagMatch")


def test_only_the_asterisk_claims(api, model_id):
    body = create_request(api.services, model_id)
    answer = api.client.post(DEPLOYMENTS, json=body, headers={"if-none-match": '"x-1"'})
    refused(answer, 400, "InvalidParameter", "if-none-match must be *")
    assert listed(api) == []


def test_a_claim_that_is_repeated_with_its_token_finds_what_it_made(api, model_id):
    body, token = create_request(api.services, model_id), {"opc-retry-token": "once", **ONLY}
    first, again = (api.client.post(DEPLOYMENTS, json=body, headers=token) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
