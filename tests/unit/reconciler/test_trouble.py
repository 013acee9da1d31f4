"""Bad days of the reconciler: what refuses, what breaks half way, what a model says in spite."""

import pytest
from tests.unit.reconciler.world import SPEC, World

from havre.domain.states import DeploymentState as D
from havre.domain.states import WorkRequestState as W
from havre.engines.fake import Script
from havre.store import intents
from havre.store.database import Database, sqlite_url
from havre.store.schema import Deployment, WorkRequest


@pytest.fixture
def world(tmp_path):
    database = Database(sqlite_url(tmp_path / "havre.sqlite3"))
    database.migrate()
    yield World(database)
    database.close()


@pytest.fixture
def active(world):
    deployment = world.create(instance_count=2)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
    return deployment


def guarded(world: World, deployment: str, passes: int = 40) -> None:
    """Passes as a worker makes them: trouble is survived."""
    for _ in range(passes):
        world.reconciler._guarded(deployment)
        world.engine.advance(1.0)


def test_starts_that_are_refused_leave_no_more_behind_each_time(world, active):
    world.engine.script(SPEC.revision, Script(start_fault="no space left on the disk"))
    victim = sorted(world.running())[0]
    world.engine.kill(victim)
    guarded(world, active)
    assert len(world.recorded()) <= 3
    assert victim not in world.routed(active)  # the route heals though nothing can be started
    world.engine.script(SPEC.revision, Script())
    guarded(world, active)
    assert len(world.routed(active)) == 2
    assert world.running() == world.recorded() == world.routed(active)


def test_a_record_that_cannot_be_read_ends_no_worker(world, active):
    with world.database.write() as session:
        row = session.get(Deployment, active)
        row.spec = {**row.spec, "shape": {"of": "another version"}}
    assert world.reconciler._guarded(active) is not None


@pytest.mark.parametrize("where", ["environment", "load", "notes"])
def test_a_model_may_say_what_no_database_takes(tmp_path, database, where):
    world = World(database)
    said = "no such thing: \x00 \ud800"
    if where == "environment":
        world.failures[SPEC.revision] = said
    elif where == "load":
        world.engine.script(SPEC.revision, Script(fails_with=said))
    else:
        world.engine.script(SPEC.revision, Script(notes=(said,)))
    deployment = world.create()
    world.settle(deployment)
    told = "no such thing: \ufffd \ufffd"
    if where == "notes":
        assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
        assert told in world.log(deployment)
    else:
        assert world.outcome(deployment) == (D.FAILED, W.FAILED)
        assert world.log(deployment)[-1] == told == world.row(deployment).lifecycle_details


def cancel(world: World, deployment: str) -> None:
    with world.database.write() as session:
        request = session.get(WorkRequest, world.row(deployment).work_request_id)
        intents.cancel(session, request)


def test_a_switch_that_comes_late_is_taken_back_before_its_instances_go(world, active):
    world.balancer.fail_next(20)
    world.update(active, environment_variables={"A": "1"})
    guarded(world, active, passes=6)
    assert len(world.running()) == 4
    cancel(world, active)
    world.balancer._failures.clear()
    for _ in range(10):
        world.reconciler._guarded(active)
        if world.outcome(active)[1] == W.CANCELED:
            world.reconciler._guarded(active)
            world.balancer.catch_up()
        assert world.routed(active) <= world.running()
        world.engine.advance(1.0)
    assert world.outcome(active) == (D.ACTIVE, W.CANCELED)
    assert world.routed(active) == world.running()


def test_a_route_that_comes_late_does_not_outlive_its_deployment(world):
    deployment = world.create()
    world.balancer.fail_next(20)
    guarded(world, deployment, passes=4)
    assert not world.balancer.is_settled(deployment)
    world.balancer._failures.clear()
    world.ask(deployment, intents.delete)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.DELETED, W.SUCCEEDED)
    world.balancer.catch_up()
    assert world.balancer.deployments() == set()
