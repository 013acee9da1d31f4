"""`havre deploy` and `delete` against the API behind uvicorn; a stand-in plays the reconciler."""

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from tests.e2e.artifacts import DOUBLE, TRIPLE, folder
from tests.support.api_server import make_services, serving
from tests.support.databases import migrated_sqlite
from tests.support.deployment_world import StandIn, create_request
from typer.testing import CliRunner

from havre.cli import deployments as commands
from havre.cli import saved
from havre.cli.configuration import DeployOptions
from havre.cli.main import app
from havre.cli.save_and_deploy import save_and_deploy
from havre.cli.saved import SAVED_FOR
from havre.client import ApiError, Client
from havre.domain.errors import Conflict, IncorrectState, InvalidParameter, ModelFault
from havre.domain.states import DeploymentState
from havre.packing import pack

LIMIT_S = 60


@dataclass
class World:
    """A server, its stand-in reconciler and a client; ``folders`` makes artifacts."""

    client: Client
    reconciler: StandIn
    root: Path

    def deploy(
        self, score: str, name: str = "iris", *, waits=True, client=None, told=None, **stated
    ) -> str:
        """What was told of it; ``told`` has it while it goes on."""
        told = told or io.StringIO()
        save_and_deploy(
            client or self.client,
            self.artifact(score),
            name,
            DeployOptions(**stated),
            Console(file=told, width=300),
            waits=waits,
        )
        return told.getvalue()

    def artifact(self, score: str) -> Path:
        place = self.root / str(abs(hash(score)))
        if not place.exists():
            folder(place, {"score.py": score})
        return place

    def deployments(self, **filters: str) -> list[dict]:
        return self.client.deployments(**filters)

    @property
    def only(self) -> dict:
        [deployment] = self.deployments()
        return deployment["modelDeploymentConfigurationDetails"]

    def models(self) -> list[str]:
        return [row["id"] for row in self.client.models()]

    def create(self, model_id: str, name: str) -> dict:
        """By the API, without a claim."""
        body = create_request(self.reconciler.services, model_id, displayName=name)
        answer = httpx.post(f"{self.client.url}/20190101/modelDeployments", json=body)
        return answer.raise_for_status().json()

    def until(self, is_so: Callable[[], bool]) -> None:
        done = threading.Event()
        for _ in range(LIMIT_S * 100):
            if is_so():
                return
            done.wait(0.01)
        raise AssertionError("it never became so")


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    database = migrated_sqlite(tmp_path / "havre.sqlite3")
    reconciler = StandIn()
    services = make_services(database, tmp_path / "home", clock=lambda: datetime.now(UTC), woken=[])
    reconciler.services = replace(services, wake=reconciler.wake)
    with serving(reconciler.services) as url:
        identity = services.identity
        client = Client(url, compartment_id=identity.tenancy_ocid, project_id=identity.project_ocid)
        yield World(client, reconciler, tmp_path / "artifacts")
    database.close()


def test_a_name_is_deployed_and_updated_and_has_one_deployment(world):
    assert "deploying iris" in world.deploy(DOUBLE)
    assert "updating the deployment iris" in world.deploy(TRIPLE)
    assert len(world.deployments()) == 1


@pytest.mark.parametrize("state", ["CREATING", "UPDATING"])
def test_a_change_under_way_is_waited_for_and_then_the_deployment_is_updated(world, state):
    if state == "UPDATING":
        world.deploy(DOUBLE)
    world.reconciler.is_paused = True
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(world.deploy, DOUBLE, variables={"FIRST": "1"})
        world.until(lambda: [row["lifecycleState"] for row in world.deployments()] == [state])
        [deployment] = world.deployments()
        # The reconciler is woken when the change can be seen already.
        requests = 1 if state == "CREATING" else 2
        world.until(lambda: world.reconciler.woken.count(deployment["id"]) == requests)
        told = io.StringIO()
        second = pool.submit(world.deploy, TRIPLE, told=told, instances=2)
        world.until(lambda: "waiting for that to be over" in told.getvalue())
        world.reconciler.is_paused = False
        world.reconciler.reconcile(deployment["id"])
        first.result(LIMIT_S)
        second.result(LIMIT_S)
    assert world.reconciler.woken.count(deployment["id"]) == requests + 1
    assert re.search(rf"iris has been {state} for \d+s: waiting", told.getvalue())
    assert "updating the deployment iris" in told.getvalue()
    assert world.only["modelConfigurationDetails"]["scalingPolicy"]["instanceCount"] == 2
    assert world.only["environmentConfigurationDetails"]["environmentVariables"] == {"FIRST": "1"}


def test_who_does_not_want_to_wait_is_told_what_to_do_and_leaves_nothing(world):
    world.deploy(DOUBLE)
    before = world.models()
    world.reconciler.is_paused = True
    world.client.update_deployment(world.deployments()[0]["id"], {}, {"a": "b"})
    with pytest.raises(IncorrectState, match=r"iris has been UPDATING for \d+s: wait.*cancel"):
        world.deploy(TRIPLE, waits=False)
    assert world.models() == before


class Overtaken(Client):
    """Somebody else is always a moment faster, once."""

    other: Callable[[], object] | None = None

    def create_deployment(self, *words, **named):
        self._be_overtaken()
        return super().create_deployment(*words, **named)

    def update_deployment(self, *words, **named):
        self._be_overtaken()
        return super().update_deployment(*words, **named)

    def _be_overtaken(self):
        other, self.other = self.other, None
        if other:
            other()


@pytest.mark.parametrize("is_there", [False, True])
def test_who_comes_second_looks_again_and_updates(world, is_there):
    if is_there:
        world.deploy(DOUBLE)
    slow = Overtaken(
        world.client.url,
        compartment_id=world.client.compartment_id,
        project_id=world.client.project_id,
    )
    slow.other = lambda: world.deploy(DOUBLE, variables={"OTHER": "1"})
    told = world.deploy(TRIPLE, client=slow)
    assert "iris was changed by somebody else meanwhile" in told
    assert world.only["environmentConfigurationDetails"]["environmentVariables"] == {"OTHER": "1"}
    assert len(world.models()) == 2


def test_two_of_a_name_are_told_apart_and_each_is_taken_by_its_ocid(world):
    world.deploy(DOUBLE)
    [model] = world.models()
    other = world.create(model, "iris")
    with pytest.raises(Conflict) as refused:
        world.deploy(TRIPLE)
    for row in world.deployments():
        assert row["id"] in refused.value.message
        assert "ACTIVE" in refused.value.message
    assert world.models() == [model], "nothing was saved for it"
    world.deploy(TRIPLE, other["id"], instances=3)
    counts = {
        row["id"]: row["modelDeploymentConfigurationDetails"]["modelConfigurationDetails"][
            "scalingPolicy"
        ]["instanceCount"]
        for row in world.deployments()
    }
    assert counts.pop(other["id"]) == 3
    assert set(counts.values()) == {1}


def test_a_failed_one_is_replaced(world):
    world.reconciler.is_paused = True
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.deploy, DOUBLE)
        world.until(lambda: bool(world.reconciler.woken))
        world.reconciler.fail(world.reconciler.woken[0], "it cannot load")
        with pytest.raises(ModelFault, match="it cannot load"):
            first.result(LIMIT_S)
    world.reconciler.is_paused = False
    told = world.deploy(TRIPLE)
    assert "removing the failed deployment" in told
    assert "deploying iris" in told
    [deployment] = world.deployments()
    with pytest.raises(ApiError, match=r"cannot be updated"):
        world.deploy(TRIPLE, world.reconciler.woken[0])
    assert world.deployments()[0]["id"] == deployment["id"]


def test_an_update_keeps_what_is_not_stated_and_tells_the_rest_before(world):
    world.deploy(
        DOUBLE,
        instances=2,
        bandwidth_mbps=100,
        variables={"AA": "1"},
        tags={"x": "y"},
    )
    before = world.only
    told = world.deploy(TRIPLE)
    assert "→" not in told
    kept = world.only
    for configuration in (before, kept):
        del configuration["modelConfigurationDetails"]["modelId"]
    assert kept == before
    assert world.deployments()[0]["freeformTags"] == {"x": "y"}

    told = world.deploy(DOUBLE, instances=1, variables={"AA": "hidden"}, tags={"x": None})
    lines = [line.strip() for line in told.splitlines()]
    changes = ["instances 2 → 1", "variable AA is changed", "tag x y → none"]
    begun = lines.index("updating the deployment iris")
    assert lines[begun + 1 : begun + 4] == changes
    assert begun + 4 <= lines.index("Accepted.")
    assert "hidden" not in told
    assert world.deployments()[0]["freeformTags"] == {}

    told = world.deploy(DOUBLE, resets=True)
    assert "bandwidth 100 Mbps → no cap" in told
    assert "variable AA is removed" in told


def test_a_new_deployment_has_no_cap_and_the_api_s_default_stays(world):
    world.deploy(DOUBLE)
    assert world.only["modelConfigurationDetails"]["bandwidthMbps"] == 8000


def test_the_same_artifact_is_listed_once(world):
    world.deploy(DOUBLE)
    world.deploy(DOUBLE)
    assert world.models() == [world.only["modelConfigurationDetails"]["modelId"]]
    world.deploy(TRIPLE)
    world.deploy(DOUBLE)
    assert len(world.models()) == 2
    assert world.only["modelConfigurationDetails"]["modelId"] in world.models()


class Beside(Client):
    """Another deploy of the same artifact saves its model while this one's change ends."""

    archive: Path
    saved: str = ""

    def follow(self, work_request_id):
        yield from super().follow(work_request_id)
        self.saved = saved.save(self, "iris", self.archive, Console(file=io.StringIO()))


def test_a_model_that_a_deploy_beside_this_one_has_just_saved_stays(world, tmp_path):
    beside = Beside(
        world.client.url,
        compartment_id=world.client.compartment_id,
        project_id=world.client.project_id,
    )
    beside.archive = tmp_path / "same.zip"
    pack(world.artifact(DOUBLE), beside.archive)
    world.deploy(DOUBLE, client=beside)
    assert set(world.models()) == {beside.saved, world.only["modelConfigurationDetails"]["modelId"]}
    saved.keep_one_of_each(world.client, "iris", fresh="ocid1.gone", used="ocid1.gone")
    assert len(world.models()) == 2


def test_an_artifact_of_another_name_or_another_s_model_stays(world):
    world.deploy(DOUBLE, "other")
    theirs = world.client.create_model("iris")["id"]
    world.deploy(DOUBLE)
    world.deploy(DOUBLE)
    assert len(world.models()) == 3
    assert theirs in world.models()


def test_a_tag_that_lies_costs_nobody_a_model(world):
    world.deploy(DOUBLE)
    [first] = world.models()
    tags = world.client.model(first)["freeformTags"]
    world.deploy(TRIPLE)
    answer = httpx.put(f"{world.client.url}/20190101/models/{first}", json={"freeformTags": tags})
    answer.raise_for_status()
    second = next(each for each in world.models() if each != first)
    lying = {"freeformTags": {**tags, SAVED_FOR: "iris"}}
    httpx.put(f"{world.client.url}/20190101/models/{second}", json=lying).raise_for_status()
    world.deploy(DOUBLE)
    assert second in world.models(), "it says that it has the other's artifact, and has not"


@pytest.fixture
def havre(world, monkeypatch):
    """The command, on this world's server."""
    monkeypatch.setattr(commands, "connect", lambda _: world.client)

    def run(*words: str, text: str = ""):
        return CliRunner().invoke(app, words, input=text)

    return run


def test_delete_with_its_models_asks_and_takes_all_that_deploys_saved(world, havre):
    for score in (DOUBLE, TRIPLE):
        world.deploy(score)
    theirs = world.client.create_model("iris")["id"]
    world.deploy(DOUBLE, "other")
    kept = next(
        row["id"] for row in world.client.models() if row["freeformTags"].get(SAVED_FOR) == "other"
    )
    refused = havre("delete", "iris", "--model")
    assert isinstance(refused.exception, InvalidParameter)
    assert "--yes" in str(refused.exception)
    assert len(world.deployments(displayName="iris")) == 1, "nothing was done"
    done = havre("delete", "iris", "--model", "--yes")
    assert done.exit_code == 0, done.output
    assert set(world.models()) == {theirs, kept}
    assert world.deployments(displayName="iris") == []


def test_a_model_that_another_deployment_uses_stays_and_is_named(world, havre):
    world.deploy(DOUBLE)
    [model] = world.models()
    world.create(model, "of-the-api")
    done = havre("delete", "iris", "--model", "--yes")
    assert f"{model} stays: another deployment uses it" in done.output
    assert world.models() == [model]


def test_models_of_a_name_whose_deployment_is_gone_are_deleted_too(world, havre):
    world.deploy(DOUBLE)
    assert havre("delete", "iris").exit_code == 0
    assert len(world.models()) == 1
    assert havre("delete", "iris", "--model", "--yes").exit_code == 0
    assert world.models() == []
    gone = havre("delete", "iris", "--model", "--yes")
    assert "neither a deployment called 'iris' nor a model" in str(gone.exception)


def test_the_list_tells_ages(world, havre):
    world.deploy(DOUBLE)
    [header, row] = havre("list").output.splitlines()
    assert header.split() == ["name", "state", "instances", "age", "url"]
    assert row.split()[:3] == ["iris", "ACTIVE", "1"]
    [told] = json.loads(havre("list", "--json").output)
    assert told["displayName"] == "iris"


class Interrupted(Client):
    """Ctrl-C at the first look at a work request."""

    def follow(self, work_request_id):
        for request, lines in super().follow(work_request_id):
            yield request, lines
            raise KeyboardInterrupt


def test_ctrl_c_tells_what_goes_on_and_how_it_is_stopped(world, capfd):
    world.reconciler.is_paused = True
    hasty = Interrupted(
        world.client.url,
        compartment_id=world.client.compartment_id,
        project_id=world.client.project_id,
    )
    with pytest.raises(KeyboardInterrupt):
        world.deploy(DOUBLE, client=hasty)
    told = capfd.readouterr().err
    assert "the change of iris goes on" in told
    assert "`havre cancel iris` cancels it" in told
    assert [row["lifecycleState"] for row in world.deployments()] == [DeploymentState.CREATING]
    with pytest.raises(KeyboardInterrupt):
        world.deploy(TRIPLE, client=hasty)
    assert "nothing of iris was changed" in capfd.readouterr().err
    assert len(world.models()) == 1


def test_a_model_that_another_deploy_has_tidied_up_meanwhile_is_saved_again(world, monkeypatch):
    """As after two deploys of the same files at once: the one that is done removes twins."""
    world.deploy(DOUBLE)
    taken: list[str] = []
    update = Client.update_deployment

    def late(self, deployment_id, configuration, *arguments, **options):
        if not taken:
            taken.append(configuration["modelConfigurationDetails"]["modelId"])
            self.delete_model(taken[0])
        return update(self, deployment_id, configuration, *arguments, **options)

    monkeypatch.setattr(Client, "update_deployment", late)
    world.deploy(TRIPLE)
    [used] = world.only["modelConfigurationDetails"]["modelId"].splitlines()
    assert used != taken[0]
    assert used in world.models()
