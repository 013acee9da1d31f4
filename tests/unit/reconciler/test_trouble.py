"""Bad days of the reconciler: what refuses, what breaks half way, what a model says in spite."""

import threading
from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.unit.reconciler.world import NOW, SPEC, World

from havre.domain.errors import EngineFault
from havre.domain.states import DeploymentState as D
from havre.domain.states import WorkRequestState as W
from havre.engines.fake import Script
from havre.reconciler.observation import SILENT_S
from havre.reconciler.pace import STEADY_S
from havre.reconciler.snapshot import load
from havre.store import intents
from havre.store.schema import Deployment, WorkRequest, WorkRequestLog


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


def test_a_change_that_nobody_can_look_after_is_taken_up_told_and_failed(
    world, active, monkeypatch
):
    def silent(*_):
        raise EngineFault("the supervisor does not answer")

    world.update(active, tags={"team": "a"})
    with monkeypatch.context() as patched:
        patched.setattr("havre.reconciler.observation.look", silent)
        guarded(world, active, passes=1)
        assert world.outcome(active) == (D.UPDATING, W.IN_PROGRESS)
        assert world.log(active)[-1] == "Trying again: the supervisor does not answer"
        patched.setattr("havre.reconciler.loop.PATIENCE_S", 0.5)
        guarded(world, active, passes=2)
    assert world.outcome(active) == (D.ACTIVE, W.FAILED)
    assert world.log(active)[-1] == "the supervisor does not answer"


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


def test_a_switch_that_comes_late_is_taken_back_before_its_instances_go(world, active):
    world.balancer.fail_next(20)
    world.update(active, environment_variables={"A": "1"})
    guarded(world, active, passes=6)
    assert len(world.running()) == 4
    world.cancel(active)
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


def test_an_instance_that_dies_beside_an_update_is_repaired_and_does_not_fail_it(world, active):
    victim = sorted(world.running())[0]
    world.update(active, bandwidth_mbps=20)
    world.reconciler.reconcile(active)
    world.engine.kill(victim)
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    assert world.balancer.current(active).bandwidth_mbps == 20
    assert len(world.routed(active)) == 2
    assert victim not in world.running()


def test_what_an_earlier_try_left_does_not_fail_the_next(world, active):
    world.ask(active, intents.deactivate)
    world.settle(active)
    world.engine.script(SPEC.revision, Script(fails_with="no such file"))
    spec = replace(SPEC, instance_count=2)
    world.ask(active, intents.activate, spec)
    for _ in range(20):
        world.reconciler.reconcile(active)
        if world.outcome(active) == (D.INACTIVE, W.FAILED):
            break
    assert world.recorded()  # not cleared away yet
    world.engine.script(SPEC.revision, Script())
    world.ask(active, intents.activate, spec)
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)


def test_a_finished_work_request_has_had_its_last_word(world):
    deployment = world.create()
    world.reconciler.reconcile(deployment)
    with world.database.read() as session:
        snapshot = load(session, deployment)
    world.ask(deployment, intents.delete)
    world.recorder.note(snapshot, "The environment is built.", percent=40)
    with world.database.read() as session:
        rows = select(WorkRequestLog.message).order_by(WorkRequestLog.id)
        rows = rows.where(WorkRequestLog.work_request_id == snapshot.change.id)
        assert list(session.scalars(rows))[-1] == "Canceled: the deployment is being deleted."


def test_a_delete_and_the_first_step_of_a_change_do_not_overwrite_each_other(database):
    """On PostgreSQL both are in their transactions at the same time."""
    world = World(database)
    deployment = world.create()
    with world.database.read() as session:
        snapshot = load(session, deployment)
    with database.write() as session:
        row = session.get(Deployment, deployment, with_for_update=True)
        intents.delete(session, row, now=NOW)
        session.flush()
        beside = threading.Thread(target=world.recorder.begin, args=(snapshot,))
        beside.start()
        beside.join(timeout=0.5)
        assert beside.is_alive()
    beside.join(timeout=10)
    with database.read() as session:
        assert session.get(WorkRequest, snapshot.change.id).status == W.CANCELED
    assert world.work_request(deployment).status == W.ACCEPTED


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"reason": "copies keep dying: the last was killed by SIGSEGV"}, "SIGSEGV"),
        ({"copies_ready": 0}, "none of its copies is up"),
    ],
)
def test_instances_whose_copies_do_not_stay_up_need_attention(world, active, seen, told):
    inspect = world.engine.inspect

    world.engine.inspect = lambda instance_id: replace(inspect(instance_id), **seen)
    guarded(world, active, passes=5)
    assert world.state(active) == D.NEEDS_ATTENTION
    assert told in world.row(active).lifecycle_details
    assert len(world.routed(active)) == 2  # what can answer, may
    version = world.row(active).version
    guarded(world, active, passes=5)
    assert world.row(active).version == version
    del world.engine.inspect
    guarded(world, active, passes=5)
    assert world.state(active) == D.ACTIVE
    assert world.row(active).lifecycle_details is None


def test_an_instance_whose_keeper_hangs_is_replaced_and_one_that_is_slow_is_not(world, active):
    inspect = world.engine.inspect
    before = world.routed(active)
    hangs = min(before)
    world.engine.inspect = lambda instance_id: replace(
        inspect(instance_id), is_silent=instance_id == hangs
    )
    for _ in range(int(SILENT_S / STEADY_S)):
        assert world.reconciler.reconcile(active) == STEADY_S
        world.engine.advance(STEADY_S)
    del world.engine.inspect
    assert world.reconciler.reconcile(active) == STEADY_S  # it has answered: from the beginning
    world.engine.inspect = lambda instance_id: replace(
        inspect(instance_id), is_silent=instance_id == hangs
    )
    world.reconciler.reconcile(active)
    world.engine.advance(SILENT_S)
    world.settle(active)
    after = world.routed(active)
    assert len(after) == 2
    assert before - after == {hangs}
    assert hangs not in world.running()
    assert world.state(active) == D.ACTIVE


def test_an_instance_between_two_copies_is_no_trouble(world, active):
    inspect = world.engine.inspect
    world.engine.inspect = lambda instance_id: replace(inspect(instance_id), copies_ready=0)
    world.reconciler.reconcile(active)
    del world.engine.inspect
    guarded(world, active, passes=3)
    assert world.state(active) == D.ACTIVE
