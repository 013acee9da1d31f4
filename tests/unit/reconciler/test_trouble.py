"""Bad days of the reconciler: what refuses, what breaks half way, what a model says in spite."""

import threading
from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.support.databases import migrated_sqlite
from tests.unit.reconciler.world import NOW, SPEC, World

from havre.domain.errors import EngineFault, StateUnavailable
from havre.domain.states import DeploymentState as D
from havre.domain.states import InstancePhase
from havre.domain.states import WorkRequestState as W
from havre.engines.fake import FakeChannel, Script
from havre.reconciler.pace import STEADY_S
from havre.reconciler.silence import PATIENCE_S
from havre.reconciler.snapshot import load
from havre.store import intents
from havre.store.schema import Deployment, WorkRequest, WorkRequestLog


def guarded(world: World, deployment: str, passes: int = 40) -> None:
    """Passes as a worker makes them: trouble is survived."""
    for _ in range(passes):
        world.reconciler._reconcile_safely(deployment)
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
    assert world.reconciler._reconcile_safely(active) is not None


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
        world.reconciler._reconcile_safely(active)
        if world.outcome(active)[1] == W.CANCELED:
            world.reconciler._reconcile_safely(active)
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


def silent(world: World, instance_id: str, *, is_held_up: bool) -> None:
    """From now on its keeper answers nobody, until it is ended."""
    inspect = type(world.engine).inspect

    def look(asked: str):
        status = inspect(world.engine, asked)
        is_silent = asked == instance_id and status.phase is InstancePhase.READY
        return replace(status, is_silent=is_silent, is_held_up=is_silent and is_held_up)

    world.engine.inspect = look


def until_released(world: World, deployment: str, most_s: float) -> float:
    """How long it takes until a keeper is ended; with a second for each look at one."""
    began = world.engine.now
    while world.engine.now - began < most_s:
        delay_s = world.reconciler.reconcile(deployment)
        if any(verb == "end_keeper" for verb, _ in world.engine.calls):
            break
        world.engine.advance(delay_s + (delay_s != STEADY_S))
    return world.engine.now - began


def test_a_keeper_that_stands_still_is_ended_in_ten_seconds_and_its_instance_replaced(
    world, active
):
    before = world.routed(active)
    hangs = min(before)
    assert world.reconciler.reconcile(active) == STEADY_S
    silent(world, hangs, is_held_up=False)
    world.engine.advance(STEADY_S + 1)
    assert STEADY_S + 1 + until_released(world, active, 30) < 10
    assert ("end_keeper", hangs) in world.engine.calls
    assert hangs in world.routed(active)  # its copies answer until another is ready
    world.settle(active)
    after = world.routed(active)
    assert len(after) == 2
    assert before - after == {hangs}
    assert hangs not in world.running()
    assert world.state(active) == D.ACTIVE


def test_a_keeper_that_the_machine_does_not_let_run_gets_longer(world, active):
    hangs = min(world.routed(active))
    silent(world, hangs, is_held_up=True)
    until_released(world, active, PATIENCE_S / 2)
    assert ("end_keeper", hangs) not in world.engine.calls
    del world.engine.inspect
    assert world.reconciler.reconcile(active) == STEADY_S  # it has answered: from the beginning
    silent(world, hangs, is_held_up=True)
    assert PATIENCE_S <= until_released(world, active, 2 * PATIENCE_S) < PATIENCE_S + 2


def test_keepers_that_stand_still_again_and_again_are_replaced_ever_more_slowly(world, active):
    inspect = type(world.engine).inspect

    def look(asked: str):
        status = inspect(world.engine, asked)
        return replace(status, is_silent=status.phase is InstancePhase.READY)

    world.engine.inspect = look
    before = world.starts()
    for _ in range(400):
        world.engine.advance(max(0.5, world.reconciler.reconcile(active)))
    passed_s = world.engine.now
    assert passed_s > 150
    assert world.starts() - before < passed_s / 10


def test_a_new_instance_whose_keeper_stands_still_fails_the_change(world, active):
    before = world.routed(active)
    world.update(active, environment_variables={"A": "1"})
    inspect = type(world.engine).inspect

    def look(asked: str):
        status = inspect(world.engine, asked)
        is_new = asked not in before and status.phase is InstancePhase.READY
        return replace(status, is_silent=is_new)

    world.engine.inspect = look
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("havre.reconciler.verification.MAX_FAULTS", 1000)
        patched.setattr("havre.reconciler.verification.FAULT_PAUSE_S", 0)
        patched.setattr(FakeChannel, "sample", refused)
        for _ in range(100):
            world.engine.advance(max(0.3, world.reconciler.reconcile(active) or 0.0))
            if world.outcome(active)[1] == W.FAILED:
                break
    assert world.outcome(active) == (D.ACTIVE, W.FAILED)
    assert "hangs" in world.log(active)[-1]
    assert world.routed(active) == before


def refused(*_):
    raise EngineFault("the keeper does not answer")


# Copies that die after they were ready.


@pytest.mark.parametrize("operation", ["create", "update"])
@pytest.mark.parametrize("lives_s", [0.0, 1.0, 1.4, 2.2, 3.5])
@pytest.mark.parametrize("between_looks_s", [0.3, 1.0])
def test_whenever_copies_die_a_change_ends_and_names_the_death(
    tmp_path, operation, lives_s, between_looks_s
):
    database = migrated_sqlite(tmp_path / "havre.sqlite3")
    world = World(database, {"HAVRE_MIN_READY_S": "1.5"})
    died = "copies keep dying: the last was killed by SIGSEGV"
    fleeting = {"environment_variables": {"A": "1"}}
    script = Script(ready_after_s=0.5, dies_after_s=0.5 + lives_s, dies_of=died)
    world.engine.script(replace(SPEC, **fleeting).revision, script)
    before = set()
    if operation == "create":
        deployment = world.create(**fleeting)
    else:
        deployment = world.create()
        world.settle(deployment)
        before = world.running()
        world.update(deployment, **fleeting)
    began = world.engine.now
    while world.outcome(deployment)[1] not in (W.SUCCEEDED, W.FAILED):
        world.reconciler.reconcile(deployment)
        world.engine.advance(between_looks_s)
        assert world.engine.now - began < 60
        assert lives_s >= 1.5 or operation == "create" or world.routed(deployment) == before
    state, ended = world.outcome(deployment)
    if lives_s < 1.5:
        assert ended == W.FAILED
    if ended == W.FAILED:
        assert world.log(deployment)[-1] == died
        assert state == (D.FAILED if operation == "create" else D.ACTIVE)
        world.settle(deployment)
        assert len(world.routed(deployment)) == len(before)
    database.close()


def test_copies_that_never_stay_up_fail_the_change_in_the_time_that_a_start_may_take(world):
    inspect = type(world.engine).inspect
    world.engine.inspect = lambda asked: replace(
        inspect(world.engine, asked), copies_ready=0, reason="a copy has died: killed"
    )
    deployment = world.create()
    while world.outcome(deployment)[1] != W.FAILED:
        world.reconciler.reconcile(deployment)
        world.engine.advance(1.0)
        assert world.engine.now < world.settings.start_timeout_s + 10
    assert "not all instances were ready within 300 s: a copy has died" in world.log(deployment)[-1]


def test_trouble_that_was_there_before_does_not_hold_up_a_change(world, active):
    inspect = type(world.engine).inspect
    world.engine.inspect = lambda asked: replace(
        inspect(world.engine, asked), reason="copies keep dying: the last was killed"
    )
    world.update(active, bandwidth_mbps=20)
    guarded(world, active, passes=5)
    assert world.work_request(active).status == W.SUCCEEDED


def test_an_instance_between_two_copies_is_no_trouble(world, active):
    inspect = world.engine.inspect
    world.engine.inspect = lambda instance_id: replace(inspect(instance_id), copies_ready=0)
    world.reconciler.reconcile(active)
    del world.engine.inspect
    guarded(world, active, passes=3)
    assert world.state(active) == D.ACTIVE


@pytest.mark.parametrize("wish", [intents.delete, intents.deactivate])
def test_on_a_full_disk_who_is_to_be_ended_gets_room(world, active, monkeypatch, wish):
    room = world.room_made
    full = StateUnavailable("the database or disk is full")

    def refuse(*_):
        if not room:
            raise full

    monkeypatch.setattr(world.recorder, "begin", refuse)
    world.ask(active, wish)
    guarded(world, active)
    assert room == [True]
    assert world.state(active) in (D.DELETED, D.INACTIVE)


def test_on_a_full_disk_who_serves_takes_nothing_from_those_who_make_room(
    world, active, monkeypatch
):
    room = world.room_made

    def refuse(*_):
        raise StateUnavailable("the database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(world.recorder, "begin", refuse)
        world.update(active, tags={"team": "a"}, instance_count=3)
        guarded(world, active, passes=3)
        assert room == []
        world.cancel(active)
        guarded(world, active, passes=1)
    assert len(room) <= 1


def test_a_pass_that_hangs_leaves_its_place_to_another_worker(world, active, monkeypatch):
    over, hung = threading.Event(), threading.Event()

    def hang(*_):
        hung.set()
        assert over.wait(10)

    monkeypatch.setattr("havre.reconciler.pass_monitor.STUCK_S", 0.0)
    monkeypatch.setattr(world.engine, "inspect", hang)
    reconciler = world.reconciler
    reconciler._add_worker(reconciler._work, "reconcile-test")
    reconciler.wake(active)
    assert hung.wait(10)
    assert reconciler._pass_monitor.report_stuck() == 1
    assert reconciler._pass_monitor.report_stuck() == 1
    names = [thread.name for thread in reconciler._workers]
    assert names == ["reconcile-test", "reconcile-more"]
    over.set()
    reconciler._workers[0].join(10)
    assert not reconciler._workers[0].is_alive(), "another one has its place"
    assert reconciler._workers[1].is_alive()
    reconciler.stop()
