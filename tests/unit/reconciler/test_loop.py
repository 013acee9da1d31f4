"""Whole changes through the reconciler, with doubles for engine and load balancer."""

import re
from dataclasses import replace

import pytest
from sqlalchemy import Engine, event
from tests.support.databases import migrated_sqlite
from tests.unit.reconciler.world import SPEC, Crash, World

from havre.domain.instance import CheckRequest, CheckResponse
from havre.domain.states import DeploymentState as D
from havre.domain.states import WorkRequestState as W
from havre.engines.fake import Script
from havre.reconciler.leftovers import clear_leftovers
from havre.reconciler.pace import STEADY_S
from havre.store import intents


def test_creation_ends_active_with_every_step_told(world):
    deployment = world.create(instance_count=2)
    world.engine.script(SPEC.revision, Script(notes=("copies are forked: one thread",)))
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
    assert world.work_request(deployment).percent_complete == 100
    assert world.routed(deployment) == world.running() == world.recorded()
    assert len(world.running()) == 2
    assert world.row(deployment).current_instances == 2
    log = world.log(deployment)
    assert log[0] == "Accepted."
    assert log[-1] == "The model deployment is ACTIVE."
    assert "copies are forked: one thread" in log
    assert "Load balancer is provisioned." in log


@pytest.mark.parametrize(("copies", "held"), [("1", 128), ("16", 128), ("17", 136)])
def test_the_route_bounds_requests_by_copies_but_has_room_for_many_clients(world, copies, held):
    deployment = world.create(instance_count=2, environment_variables={"WEB_CONCURRENCY": copies})
    world.settle(deployment)
    assert world.balancer.current(deployment).max_requests == 2 * held


@pytest.mark.parametrize("where", ["environment", "load", "engine"])
def test_a_creation_that_cannot_be_ends_failed_with_the_reason(world, where):
    if where == "environment":
        world.failures[SPEC.revision] = "no such package"
    else:
        world.engine.script(SPEC.revision, Script(fails_with="no such package"))
    deployment = world.create()
    world.settle(deployment)
    assert world.outcome(deployment) == (D.FAILED, W.FAILED)
    assert world.log(deployment)[-1] == "no such package"
    assert world.row(deployment).lifecycle_details == "no such package"
    assert world.running() == world.recorded() == set()


def test_an_update_replaces_every_instance_and_never_empties_the_route(world, active):
    before = world.running()
    world.update(active, environment_variables={"A": "1"})
    for _ in range(60):
        world.reconciler.reconcile(active)
        world.engine.advance(0.3)
        ready = {each.id for each in world.engine.instances() if each.phase == "READY"}
        assert len(world.routed(active) & ready) == 2
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    assert world.running().isdisjoint(before)
    assert world.running() == world.recorded() == world.routed(active)


def test_an_instance_is_stopped_only_once_its_old_route_leads_elsewhere(world, active, monkeypatch):
    """A body that was on its way when the route was replaced is sent along the old one."""
    stop, found = world.engine.stop, []

    def look_and_stop(instance_id):
        found.append(active in world.balancer.replaced)
        stop(instance_id)

    monkeypatch.setattr(world.engine, "stop", look_and_stop)
    world.update(active, environment_variables=VARIABLES)
    world.settle(active)
    assert found
    assert not found[-1]


@pytest.mark.parametrize("change", [{"bandwidth_mbps": 20}, {}])
def test_an_update_that_needs_no_new_copies_starts_none(world, active, change):
    before = world.running()
    world.update(active, **change)
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    assert world.running() == before
    assert world.balancer.current(active).bandwidth_mbps == change.get("bandwidth_mbps", 10)


def test_an_update_that_has_nothing_to_do_is_one_transaction(world, active):
    """Other changes wait for each, and each for the disk."""
    commits = []

    def note(connection):
        commits.append(connection)

    world.update(active, tags={"team": "a"})
    event.listen(Engine, "commit", note)
    try:
        world.settle(active)
    finally:
        event.remove(Engine, "commit", note)
    assert len(commits) == 1
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    assert world.work_request(active).time_started is not None
    assert world.log(active) == [
        "Accepted.",
        "Comparing the configuration with what is running.",
        "The model deployment is updated.",
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_scaling_keeps_the_instances_it_can(world, active, count):
    before = world.running()
    world.update(active, instance_count=count)
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    assert len(world.running()) == count
    assert len(world.running() & before) == min(count, 2)
    assert world.row(active).current_instances == count


def test_an_update_that_fails_leaves_the_old_revision_serving(world, active):
    before = world.running()
    bad = replace(SPEC, instance_count=2, environment_variables={"B": "1"})
    world.engine.script(bad.revision, Script(fails_with="ValueError: bad model"))
    world.update(active, environment_variables={"B": "1"})
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.FAILED)
    row = world.row(active)
    assert row.lifecycle_details == "ValueError: bad model"
    assert row.spec == row.serving_spec
    assert row.configuration == row.serving_configuration
    assert world.running() == before == world.routed(active)
    # And it can be changed again.
    world.update(active, environment_variables={"C": "1"})
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)


def test_requests_in_flight_hold_the_old_instance(world, active):
    (held, _) = sorted(world.running())
    world.balancer.hold_requests(held, 1)
    world.update(active, environment_variables={"A": "1"})
    world.settle(active, passes=30)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    assert held in world.running()
    world.balancer.hold_requests(held, 0)
    world.settle(active)
    assert held not in world.running()


def test_deactivation_and_activation(world, active):
    world.ask(active, intents.deactivate)
    world.settle(active)
    assert world.outcome(active) == (D.INACTIVE, W.SUCCEEDED)
    assert world.running() == set()
    assert world.balancer.current(active) is None
    world.ask(active, intents.activate, replace(SPEC, instance_count=2))
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    assert len(world.routed(active)) == 2


def test_an_activation_that_fails_can_be_tried_again(world, active):
    world.ask(active, intents.deactivate)
    world.settle(active)
    world.engine.script(SPEC.revision, Script(fails_with="disk gone"))
    world.ask(active, intents.activate, replace(SPEC, instance_count=2))
    world.settle(active)
    assert world.outcome(active) == (D.INACTIVE, W.FAILED)
    world.engine.script(SPEC.revision, Script())
    world.ask(active, intents.activate, replace(SPEC, instance_count=2))
    world.settle(active)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)


def test_an_update_of_an_inactive_deployment_waits_for_activation(world, active):
    world.ask(active, intents.deactivate)
    world.settle(active)
    world.update(active, instance_count=1)
    world.settle(active)
    assert world.outcome(active) == (D.INACTIVE, W.SUCCEEDED)
    assert world.running() == set()
    assert world.row(active).spec["instance_count"] == 1


def test_deletion_wins_over_an_update_under_way(world, active):
    world.engine.script(
        replace(SPEC, instance_count=2, environment_variables={"S": "1"}).revision,
        Script(ready_after_s=None),
    )
    world.update(active, environment_variables={"S": "1"})
    world.settle(active, passes=5)
    update = world.work_request(active).id
    world.ask(active, intents.delete)
    world.settle(active)
    assert world.outcome(active) == (D.DELETED, W.SUCCEEDED)
    assert world.running() == world.recorded() == set()
    with world.database.read() as session:
        assert session.get(intents.WorkRequest, update).status == W.CANCELED


@pytest.mark.parametrize("operation", ["create", "update"])
def test_canceling_goes_back(world, operation):
    slow = {"environment_variables": {"S": "1"}}
    world.engine.script(replace(SPEC, **slow).revision, Script(ready_after_s=None))
    if operation == "create":
        deployment = world.create(**slow)
    else:
        deployment = world.create()
        world.settle(deployment)
        world.update(deployment, **slow)
    world.settle(deployment, passes=5)
    world.cancel(deployment)
    world.settle(deployment)
    expected = D.FAILED if operation == "create" else D.ACTIVE
    assert world.outcome(deployment) == (expected, W.CANCELED)
    assert len(world.running()) == (0 if operation == "create" else 1)


def test_a_dead_instance_is_replaced_and_the_route_heals(world, active):
    victim = sorted(world.running())[0]
    world.engine.kill(victim)
    world.reconciler.reconcile(active)
    assert victim not in world.routed(active)
    world.settle(active)
    assert world.state(active) == D.ACTIVE
    assert len(world.routed(active)) == 2
    assert victim not in world.running()


def test_when_nothing_answers_it_needs_attention_until_it_recovers(world, active):
    world.engine.script(SPEC.revision, Script(fails_with="killed by signal 9"))
    for instance in world.running():
        world.engine.kill(instance)
    world.settle(active, passes=20)
    assert world.state(active) == D.NEEDS_ATTENTION
    assert "signal 9" in world.row(active).lifecycle_details
    # Starting both of them again is spaced out ever further, up to a minute.
    starts, since = world.starts(), world.engine.now
    world.settle(active, passes=20)
    assert (world.engine.now - since) / (world.starts() - starts) > 30 / 2
    world.engine.script(SPEC.revision, Script())
    world.settle(active, passes=400)
    assert world.state(active) == D.ACTIVE
    assert len(world.routed(active)) == 2


VARIABLES = {"A": "1"}


def _lifecycle(world: World):
    """Wishes, one after the other, of one deployment's whole life."""
    deployment = world.create(instance_count=2)
    yield deployment
    tags = {"havre-canary": "50%/0.2s", "havre-replay": "10", "havre-idempotent": "true"}
    world.update(deployment, tags=tags, environment_variables=VARIABLES)
    yield deployment
    world.update(deployment, instance_count=1, bandwidth_mbps=30)
    yield deployment
    world.ask(deployment, intents.deactivate)
    yield deployment
    world.ask(deployment, intents.delete)
    yield deployment


def _live(world: World) -> list[tuple]:
    """The whole life; a crash is followed by a new control plane, as the supervisor does."""
    seen = []
    for deployment in _lifecycle(world):
        try:
            world.settle(deployment)
        except Crash:
            world.restart()
            clear_leftovers(world.deps)
            world.settle(deployment)
        seen.append(
            (
                world.outcome(deployment),
                len(world.running()),
                world.running() == world.recorded(),
                world.routed(deployment) == world.running(),
                deployment in world.balancer.replaced,
            )
        )
    return seen


CRASHERS = 4
"""So many tests share the acts among them, to run side by side."""


@pytest.mark.parametrize("crasher", range(CRASHERS))
def test_a_crash_at_any_act_converges_to_the_same_end(tmp_path, crasher):
    def fresh(name: str) -> World:
        world = World(migrated_sqlite(tmp_path / name))
        for revision in (SPEC.revision, replace(SPEC, environment_variables=VARIABLES).revision):
            world.engine.script(revision, Script(sample=CheckRequest(b"{}")))
        return world

    undisturbed = fresh("undisturbed")
    expected = _live(undisturbed)
    assert [outcome for outcome, *_ in expected] == [
        (D.ACTIVE, W.SUCCEEDED),
        (D.ACTIVE, W.SUCCEEDED),
        (D.ACTIVE, W.SUCCEEDED),
        (D.INACTIVE, W.SUCCEEDED),
        (D.DELETED, W.SUCCEEDED),
    ]
    undisturbed.database.close()
    for place in undisturbed.fuse.places[crasher::CRASHERS]:
        world = fresh(f"crash-{place}")
        world.fuse.left = place
        assert _live(world) == expected, f"crashed at act {place}"
        assert world.fuse.left is None
        world.database.close()


def test_a_slow_model_holds_fewer_requests(world):
    slow = CheckResponse(200, "application/json", b"{}", took_s=1.0)
    world.engine.script(SPEC.revision, Script(model=lambda _: slow))
    deployment = world.create()
    world.settle(deployment)
    [instance] = world.running()
    assert world.balancer.current(deployment).max_requests == 128
    world.engine.predict(instance, CheckRequest(b"{}"), times=10)
    world.reconciler.reconcile(deployment)
    # Twenty are served in ten seconds by two copies; sixteen are theirs in any case.
    assert world.balancer.current(deployment).max_requests == 16


def test_a_pass_over_what_is_well_asks_the_database_three_things(world, active):
    """There is one of each deployment every ten seconds."""
    asked = []

    def note(_, __, statement, *___):
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert world.reconciler.reconcile(active) == STEADY_S
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    tables = [re.search(r"FROM (\w+)", statement)[1] for statement in asked]
    assert sorted(tables) == ["deployments", "instances", "revisions"]


def test_a_pass_asks_the_load_balancer_once_however_many_instances_drain(
    world, active, monkeypatch
):
    """Each question costs it a list of all its clusters."""
    ask, asked = world.balancer.active_requests, []

    def note(instance_ids):
        asked.append(len(instance_ids))
        return ask(instance_ids)

    monkeypatch.setattr(world.balancer, "active_requests", note)
    for instance in world.running():
        world.balancer.hold_requests(instance, 1)
    world.update(active, environment_variables=VARIABLES)
    world.settle(active, passes=20)
    assert world.outcome(active) == (D.ACTIVE, W.SUCCEEDED)
    asked.clear()
    world.reconciler.reconcile(active)
    assert asked == [2]


def test_the_first_sweep_lists_what_there_is(world, active):
    deleted = world.create()
    world.ask(deleted, intents.delete)
    world.settle(deleted)
    assert world.state(deleted) is D.DELETED
    world.reconciler._first_sweep()
    assert world.listed == [{active}]
