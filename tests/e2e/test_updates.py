"""Changes of a deployment under load: not one request fails, and no copy is new without need."""

from collections.abc import Iterator

import pytest
from tests.e2e.load import Load
from tests.e2e.operated_server import TROUBLED, OperatedServer, wait_for
from tests.e2e.operated_server import operated as operated

ANOTHER = TROUBLED.replace('os.environ.get("MARK", "")', '"another model"')


def marked(mark: str) -> dict[str, str]:
    # Room for all clients of the load at once: four copies hold 32 requests.
    return {"MARK": mark, "WEB_CONCURRENCY": "4"}


@pytest.fixture
def model(operated: OperatedServer) -> str:
    return operated.save()


@pytest.fixture
def deployment(operated: OperatedServer, model: str) -> Iterator[str]:
    made, work_request = operated.create(model, variables=marked("first"))
    assert operated.end_of(work_request)["status"] == "SUCCEEDED"
    yield made
    operated.delete(made)


@pytest.fixture
def load(operated: OperatedServer, deployment: str) -> Iterator[Load]:
    """What it is asked for, it answers: whatever happens in the test."""
    with Load(f"{operated.url}/{deployment}") as running:
        running.wait_for_more()
        yield running
        running.wait_for_more()
    assert running.failures == []


def test_new_variables_come_with_new_copies(
    operated: OperatedServer, deployment: str, model: str, load: Load
) -> None:
    for mark in ("second", "third", "fourth", "fifth"):
        before = the_instance(operated, deployment)
        operated.update(deployment, model, variables=marked(mark))
        load.wait_for_more(mark=mark)
        assert_only_from_here_on(load, mark)
        assert the_instance(operated, deployment) != before


def test_another_model_takes_over(
    operated: OperatedServer, deployment: str, model: str, load: Load
) -> None:
    operated.update(deployment, operated.save(ANOTHER), variables=marked("first"))
    load.wait_for_more(mark="another model")
    operated.update(deployment, model, variables=marked("first"))
    load.wait_for_more(mark="first")
    assert_only_from_here_on(load, "first")
    the_instance(operated, deployment)


def test_scaling_out_and_in_keeps_the_first_instance_busy(
    operated: OperatedServer, deployment: str, model: str, load: Load
) -> None:
    first = the_instance(operated, deployment)
    pids = {copy.pid for copy in operated.copies(deployment)}
    operated.update(deployment, model, instances=2, variables=marked("first"))
    [second] = set(operated.instances(deployment)) - {first}
    answered = operated.keeper(second).answered
    wait_for("answers of both", lambda: operated.keeper(second).answered > answered + 20)
    assert pids < {copy.pid for copy in operated.copies(deployment)}
    operated.update(deployment, model, instances=1, variables=marked("first"))
    the_instance(operated, deployment)


def test_bandwidth_changes_without_new_copies(
    operated: OperatedServer, deployment: str, model: str, load: Load
) -> None:
    pids = operated.pids()
    copies = {copy.pid for copy in operated.copies(deployment)}
    for bandwidth in (50, 10):
        operated.update(deployment, model, bandwidth_mbps=bandwidth, variables=marked("first"))
        load.wait_for_more()
    assert operated.pids() == pids
    assert {copy.pid for copy in operated.copies(deployment)} == copies


def assert_only_from_here_on(load: Load, mark: str) -> None:
    """Once the update has succeeded, nobody but the new revision answers."""
    here = max(outcome.began for outcome in load.outcomes)
    load.wait_for_more()
    assert {outcome.mark for outcome in load.outcomes if outcome.began > here} == {mark}


def the_instance(operated: OperatedServer, deployment: str) -> str:
    """The one it has, once those before it are drained and gone."""
    wait_for("one instance", lambda: len(operated.instances(deployment)) == 1)
    [instance] = operated.instances(deployment)
    return instance
