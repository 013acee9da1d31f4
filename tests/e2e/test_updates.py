"""Changes of a deployment under load: not one request fails, and no copy is new without need.

The load is sixty-four clients that keep their connection and some that open one per request, on a
deployment of the default shape: two copies.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.load import Load
from tests.e2e.operated_server import (
    TROUBLED,
    OperatedServer,
    wait_for,
)
from tests.e2e.operated_server import operated as operated

ANOTHER = TROUBLED.replace('os.environ.get("MARK", "")', '"another model"')
KEEP_ALIVE, SHORT_LIVED = 64, 8
PAUSE_S = 0.2


@pytest.fixture(scope="module")
def models(operated: OperatedServer) -> tuple[str, str]:
    return operated.save(), operated.save(ANOTHER)


@pytest.fixture
def deployment(operated: OperatedServer, models: tuple[str, str]) -> Iterator[str]:
    made, work_request = operated.create(models[0], variables={"MARK": "first"})
    assert operated.end_of(work_request)["status"] == "SUCCEEDED"
    yield made
    operated.delete(made)


@pytest.fixture
def load(operated: OperatedServer, deployment: str) -> Iterator[Load]:
    """What it is asked for, it answers: whatever happens in the test."""
    at = f"{operated.url}/{deployment}"
    with Load(at, keep_alive=KEEP_ALIVE, short_lived=SHORT_LIVED, pause_s=PAUSE_S) as running:
        running.wait_for_more()
        yield running
        running.wait_for_more()
    assert running.failures == []


NEW_COPIES = {
    "another model": ({}, "another model"),
    "more memory": ({"memory_gb": 24.0}, "first"),
    "another shape": ({"shape": "VM.Standard2.2"}, "first"),
    "more OCPUs": ({"ocpus": 2.0}, "first"),
    "variables": ({"variables": {"MARK": "second"}}, "second"),
    "several at once": (
        {
            "shape": "VM.Standard.E3.Flex",
            "ocpus": 1.5,
            "memory_gb": 24.0,
            "instances": 2,
            "bandwidth_mbps": 50,
            "variables": {"MARK": "third", "MORE": "1"},
        },
        "third",
    ),
}


@pytest.mark.parametrize("what", NEW_COPIES)
def test_what_needs_new_copies_gets_them_and_no_request_fails(
    operated: OperatedServer, deployment: str, models: tuple[str, str], load: Load, what: str
) -> None:
    choices, mark = NEW_COPIES[what]
    before = the_instance(operated, deployment)
    told = {"variables": {"MARK": "first"}, **choices}
    operated.update(deployment, models[what == "another model"], **told)
    load.wait_for_more(mark=mark)
    wait_for("the end of the old one", lambda: before not in operated.instances(deployment))
    assert_only_from_here_on(load, mark)
    assert len(operated.instances(deployment)) == choices.get("instances", 1)
    assert current_instances(operated, deployment) == choices.get("instances", 1)


def test_one_change_after_another(operated: OperatedServer, deployment: str, load: Load) -> None:
    for mark in ("second", "third", "fourth", "fifth"):
        change(operated, deployment, variables={"MARK": mark})
        load.wait_for_more(mark=mark)
        assert_only_from_here_on(load, mark)
    the_instance(operated, deployment)


def test_scaling_out_and_in_keeps_the_first_instance_busy(
    operated: OperatedServer, deployment: str, load: Load
) -> None:
    first = the_instance(operated, deployment)
    pids = {copy.pid for copy in operated.copies(deployment)}
    change(operated, deployment, instances=2)
    [second] = set(operated.instances(deployment)) - {first}
    answered = operated.keeper(second).answered
    wait_for("answers of both", lambda: operated.keeper(second).answered > answered + 20)
    assert pids < {copy.pid for copy in operated.copies(deployment)}
    assert current_instances(operated, deployment) == 2
    change(operated, deployment, instances=1)
    the_instance(operated, deployment)
    assert current_instances(operated, deployment) == 1


WITHOUT_NEW_COPIES: dict[str, dict[str, Any]] = {
    "bandwidth": {"bandwidth_mbps": 50},
    "logs": {"categoryLogDetails": {"access": "predict"}},
    "a name": {"displayName": "renamed", "description": "another"},
    "tags": {"freeformTags": {"team": "blue"}, "definedTags": {"ours": {"cost": "1"}}},
    "all of them": {
        "bandwidth_mbps": 20,
        "displayName": "renamed",
        "freeformTags": {"team": "red"},
        "categoryLogDetails": {"predict": "access"},
    },
}
"""Of logs it is said which one of those that the deployment has is to take the entries."""


@pytest.mark.parametrize("what", WITHOUT_NEW_COPIES)
def test_what_needs_no_new_copies_starts_none(
    operated: OperatedServer, deployment: str, load: Load, what: str
) -> None:
    pids = operated.pids()
    copies = {copy.pid for copy in operated.copies(deployment)}
    wishes = dict(WITHOUT_NEW_COPIES[what])
    if "categoryLogDetails" in wishes:
        has = operated.client.deployment(deployment)["categoryLogDetails"]
        [(category, of)] = wishes["categoryLogDetails"].items()
        wishes["categoryLogDetails"] = {**has, category: has[of]}
    change(operated, deployment, **wishes)
    load.wait_for_more()
    assert operated.pids() == pids
    assert {copy.pid for copy in operated.copies(deployment)} == copies
    shown = operated.client.deployment(deployment)
    for field in wishes.keys() - {"bandwidth_mbps"}:
        assert shown[field] == wishes[field]


def change(operated: OperatedServer, deployment: str, **wishes: Any) -> None:
    work_request = operated.change(deployment, **wishes)
    assert operated.end_of(work_request)["status"] == "SUCCEEDED", operated.server.tell_logs()


def current_instances(operated: OperatedServer, deployment: str) -> int:
    data = operated.client.deployment(deployment)["modelDeploymentSystemData"]
    return int(data["currentInstanceCount"])


def assert_only_from_here_on(load: Load, mark: str) -> None:
    """Once the update has succeeded, nobody but the new revision answers."""
    here = time.monotonic()
    load.wait_for_more()
    assert {outcome.mark for outcome in load.outcomes if outcome.began > here} == {mark}


def the_instance(operated: OperatedServer, deployment: str) -> str:
    """The one it has, once those before it are drained and gone."""
    wait_for("one instance", lambda: len(operated.instances(deployment)) == 1)
    [instance] = operated.instances(deployment)
    return instance
