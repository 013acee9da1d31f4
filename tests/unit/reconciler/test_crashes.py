"""The control plane dies at every act of lives in which things go wrong, and comes to their end.

A quiet life is in test_loop.py. Each act on the outside world and each commit of the reconciler is
a place to die at, before it and after it.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.databases import migrated_sqlite
from tests.unit.reconciler.world import SPEC, Crash, World

from havre.domain.states import DeploymentState as D
from havre.domain.states import WorkRequestState as W
from havre.engines.fake import Script
from havre.reconciler.leftovers import clear_leftovers
from havre.reconciler.record import Recorder
from havre.store import intents

BAD, SLOW = {"A": "bad"}, {"A": "slow"}
Life = Callable[[World], Iterator[str]]


def update_that_fails(world: World) -> Iterator[str]:
    deployment = world.create()
    yield deployment
    world.engine.script(
        replace(SPEC, environment_variables=BAD).revision, Script(fails_with="ValueError: bad")
    )
    world.update(deployment, environment_variables=BAD)
    yield deployment
    world.ask(deployment, intents.delete)
    yield deployment


def update_that_never_ends(world: World) -> Iterator[str]:
    deployment = world.create()
    yield deployment
    world.engine.script(
        replace(SPEC, environment_variables=SLOW).revision, Script(ready_after_s=None)
    )
    world.update(deployment, environment_variables=SLOW)
    yield deployment


def update_that_is_canceled(world: World) -> Iterator[str]:
    for deployment in update_that_never_ends(world):
        yield deployment
    with world.database.write() as session:
        intents.cancel(session, session.get(intents.WorkRequest, world.work_request(deployment).id))
    yield deployment


def delete_during_an_update(world: World) -> Iterator[str]:
    for deployment in update_that_never_ends(world):
        yield deployment
    world.ask(deployment, intents.delete)
    yield deployment


def all_instances_die(world: World) -> Iterator[str]:
    deployment = world.create(instance_count=2)
    yield deployment
    for instance in world.running():
        world.engine.kill(instance)
    yield deployment


def creation_that_fails(world: World) -> Iterator[str]:
    world.engine.script(SPEC.revision, Script(fails_with="no such package"))
    deployment = world.create()
    yield deployment
    world.ask(deployment, intents.delete)
    yield deployment


UPDATING = (D.UPDATING, W.IN_PROGRESS)
LIVES: dict[Life, list[tuple[D, W]]] = {
    update_that_fails: [(D.ACTIVE, W.SUCCEEDED), (D.ACTIVE, W.FAILED), (D.DELETED, W.SUCCEEDED)],
    update_that_is_canceled: [(D.ACTIVE, W.SUCCEEDED), UPDATING, (D.ACTIVE, W.CANCELED)],
    delete_during_an_update: [(D.ACTIVE, W.SUCCEEDED), UPDATING, (D.DELETED, W.SUCCEEDED)],
    all_instances_die: [(D.ACTIVE, W.SUCCEEDED), (D.ACTIVE, W.SUCCEEDED)],
    creation_that_fails: [(D.FAILED, W.FAILED), (D.DELETED, W.SUCCEEDED)],
}
EVERY = int(os.environ.get("CRASH_AT_EVERY", "5"))
"""`make chaos` dies at each act in turn."""
PASSES = 12
"""Enough for each step; a change that never ends is left as it is after so many."""


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
def test_a_crash_at_any_act_or_commit_comes_to_the_same_end(tmp_path: Path, life: Life) -> None:
    def fresh(name: str) -> World:
        return World(migrated_sqlite(tmp_path / name))

    undisturbed = fresh("undisturbed")
    expected = live(undisturbed, life)
    assert [outcome for outcome, *_ in expected] == LIVES[life]
    undisturbed.database.close()
    for place in range(0, undisturbed.fuse.burnt, EVERY):
        world = fresh(f"crash-{place}")
        world.fuse.left = place
        assert live(world, life) == expected, f"crashed at act {place}"
        assert world.fuse.left is None
        world.database.close()


def live(world: World, life: Life) -> list[tuple]:
    """What each step came to; after a crash the supervisor starts a new control plane."""
    seen = []
    for deployment in life(world):
        try:
            world.settle(deployment, passes=PASSES)
        except Crash:
            world.restart()
            clear_leftovers(world.deps)
            world.settle(deployment, passes=PASSES)
        seen.append(
            (
                world.outcome(deployment),
                len(world.running()),
                world.running() == world.recorded(),
                world.routed(deployment) <= world.running(),
                len(world.routed(deployment)),
            )
        )
    return seen


def test_each_act_of_the_recorder_is_one_commit(tmp_path: Path, monkeypatch) -> None:
    """So that dying before and after each act is dying before and after each commit."""
    database = migrated_sqlite(tmp_path / "havre.sqlite3")
    commits: dict[str, set[int]] = {}
    count = 0
    write = database.write

    def counted():
        nonlocal count
        count += 1
        return write()

    def watched(name: str, method: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments, **named) -> None:
            before = count
            method(*arguments, **named)
            commits.setdefault(name, set()).add(count - before)

        return call

    monkeypatch.setattr(database, "write", counted)
    acts = [name for name, value in vars(Recorder).items() if name[0] != "_" and callable(value)]
    for name in acts:
        monkeypatch.setattr(Recorder, name, watched(name, getattr(Recorder, name)))
    for life in LIVES:
        live(World(database), life)
    database.close()
    assert commits.keys() == set(acts)
    assert all(most <= {0, 1} for most in commits.values()), commits
