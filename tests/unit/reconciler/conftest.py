"""A world for each test, and a deployment of two instances in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.databases import migrated_sqlite
from tests.unit.reconciler.world import World

from havre.domain.states import DeploymentState as D
from havre.domain.states import WorkRequestState as W


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = migrated_sqlite(tmp_path / "havre.sqlite3")
    yield World(database)
    database.close()


@pytest.fixture
def active(world: World) -> str:
    deployment = world.create(instance_count=2)
    world.settle(deployment)
    assert world.outcome(deployment) == (D.ACTIVE, W.SUCCEEDED)
    return deployment
