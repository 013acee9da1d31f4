"""A reconciler that does not hold the lease any more changes nothing, wherever it was."""

import pytest
from sqlalchemy import delete
from tests.unit.reconciler.world import World

from havre.domain.deployment import DeploymentSpec
from havre.domain.errors import LeaseLost, StateUnavailable
from havre.domain.lease import Candidate
from havre.domain.states import DeploymentState as D
from havre.domain.states import WorkRequestState as W
from havre.engines.fake import Script
from havre.reconciler.leftovers import clear_leftovers
from havre.reconciler.standby import StandbyDrain, not_yet_served_by_holder
from havre.store import intents, leases
from havre.store.schema import Deployment, InstanceRecord


def state(world: World) -> tuple:
    """All that a reconciler can change."""
    with world.database.read() as session:
        rows = session.query(Deployment).all()
        deployments = [(each.id, each.lifecycle_state, each.version) for each in rows]
    return (
        deployments,
        world.recorded(),
        world.running(),
        [world.routed(each) for each, *_ in deployments],
        [world.log(each) for each, *_ in deployments],
    )


def written(world: World) -> tuple:
    """Of that, what all control planes share."""
    deployments, recorded, _, _, logs = state(world)
    return deployments, recorded, logs


def acquired_by_another(world: World) -> None:
    with world.database.write() as session:
        assert leases.acquire(session, Candidate("other", "http://there", None)) is not None


def changes(world: World) -> list[str]:
    """A deployment of each kind of work: to create, to update, to delete, to repair."""
    made = [world.create() for _ in range(4)]
    for each in made[1:]:
        world.settle(each)
    world.update(made[1], environment_variables={"A": "1"})
    world.ask(made[2], intents.delete)
    world.engine.kill(sorted(world.routed(made[3]))[0])
    return made


def test_a_fence_that_is_closed_lets_nothing_through(world):
    made = changes(world)
    with world.database.write() as session:  # an instance that no record knows
        session.execute(delete(InstanceRecord).where(InstanceRecord.id == min(world.running())))
    before, calls = state(world), list(world.engine.calls)
    world.fence.extend(world.engine.now)
    for _ in range(5):
        for each in made:
            assert world.reconciler._reconcile_safely(each) is not None
            with pytest.raises(LeaseLost):
                world.reconciler.reconcile(each)
        world.engine.advance(1.0)
    with pytest.raises(LeaseLost):
        clear_leftovers(world.deps)
    assert (state(world), world.engine.calls) == (before, calls)
    world.fence.extend(float("inf"))
    clear_leftovers(world.deps)
    for each in made:
        world.settle(each)
    assert [world.state(each) for each in made] == [D.ACTIVE, D.ACTIVE, D.DELETED, D.ACTIVE]


@pytest.mark.parametrize("acts", range(0, 40, 3))
def test_what_slept_through_the_end_of_its_lease_writes_nothing(world, acts):
    """Its own clock says nothing: only the database knows that another holds the lease."""
    made = changes(world)
    asleep_at = world.fuse.burnt + acts + 1
    then = []

    def fall_asleep(*, is_after: bool) -> None:
        world.fuse.burnt += 1
        if world.fuse.burnt == asleep_at:
            acquired_by_another(world)
            then.append(written(world))

    world.fuse.burn = fall_asleep
    for _ in range(10):
        for each in made:
            world.reconciler._reconcile_safely(each)
        world.engine.advance(1.0)
    assert [written(world)] == then
    assert world.recorded() == set()


def test_a_database_that_is_away_fails_no_change(world, monkeypatch):
    deployment = world.create()
    world.reconciler.reconcile(deployment)

    def away(*_: object, **__: object) -> None:
        raise StateUnavailable("the database cannot be asked: no route to host")

    with monkeypatch.context() as patch:
        patch.setattr(world.database, "read", away)
        patch.setattr(world.database, "write", away)
        for _ in range(10):
            assert world.reconciler._reconcile_safely(deployment) is not None
            world.engine.advance(60.0)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)


@pytest.mark.parametrize("loads", [True, False], ids=["loads", "does not load"])
def test_a_new_holder_carries_an_update_out_that_another_began(world, loads):
    """Nothing of what the other started can be seen from here: neither old nor new revision."""
    deployment = world.create(instance_count=2)
    world.settle(deployment)
    world.update(deployment, environment_variables={"A": "1"})
    wanted = world.row(deployment).spec
    world.reconciler.reconcile(deployment)
    world.reconciler.reconcile(deployment)
    assert len(world.recorded()) == 4
    acquired_by_another(world)
    assert world.recorded() == set()
    assert world.row(deployment).current_instances == 0
    there = World(world.database)
    if not loads:
        revision = DeploymentSpec.from_json(wanted).revision
        there.engine.script(revision, Script(fails_with="no such file here"))
    there.settle(deployment)
    if loads:
        assert there.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
        assert there.row(deployment).spec == wanted
    else:
        assert there.outcome(deployment)[1] == W.FAILED
        there.settle(deployment)
        assert there.state(deployment) == D.ACTIVE
    assert len(there.routed(deployment)) == 2
    assert there.running() == there.recorded() == there.routed(deployment)


def test_a_standby_serves_on_until_the_holder_does_and_then_clears_away(world):
    kept, gone = world.create(instance_count=2), world.create()
    for each in (kept, gone):
        world.settle(each)
    acquired_by_another(world)
    standby_drain = standby_drain_of(world)

    def step() -> None:
        with world.database.read() as session:
            still = not_yet_served_by_holder(session)
        standby_drain.step(still)
        world.engine.advance(1.0)

    step()
    assert len(world.running()) == 3
    with world.database.write() as session:
        session.get_one(Deployment, gone).current_instances = 1
    step()
    assert world.balancer.deployments() == {kept}
    assert len(world.running()) == 3  # their last requests
    step()
    assert world.running() == world.routed(kept)
    assert not standby_drain.is_over
    busy = sorted(world.running())[0]
    world.engine.occupy(busy, 1)
    with world.database.write() as session:
        session.get_one(Deployment, kept).current_instances = 2
    for _ in range(3):
        step()
    assert world.running() == {busy}
    world.engine.advance(60.0)
    step()
    assert world.running() == set()
    assert standby_drain.is_over


@pytest.mark.parametrize(("streaming", "limit_s"), [(0, 60.0), (1, 60.0), (2, 300.0)])
def test_a_standby_lets_streams_take_what_they_may(world, streaming, limit_s):
    world.settle(world.create())
    [instance_id] = world.running()
    world.engine.occupy(instance_id, 2, streaming=streaming)
    standby_drain = standby_drain_of(world)
    standby_drain.step(set())
    world.engine.advance(limit_s - 1.0)
    standby_drain.step(set())
    assert world.running() == {instance_id}
    world.engine.advance(1.0)
    standby_drain.step(set())
    assert world.running() == set()


def standby_drain_of(world) -> StandbyDrain:
    return StandbyDrain(
        world.engine,
        world.balancer,
        drain_timeout_s=60.0,
        stream_total_s=300.0,
        clock=lambda: world.engine.now,
    )
