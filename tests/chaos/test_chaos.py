"""Changes and faults in a seeded order, under load: what each costs, and that nothing is left.

``CHAOS_SEED`` chooses the order and the moments, ``CHAOS_MINUTES`` goes on that long after each
change and each fault has come once (`make chaos SEED=7 MINUTES=10`). The table is printed in the
end; with -s each round is told as it ends.
"""

import os
import random
import time
from collections.abc import Callable, Iterator

import pytest
from tests.chaos.report import Row, summary, table
from tests.chaos.rounds import Player, rounds
from tests.chaos.stage import PREDICT_TIMEOUT_S, Stage
from tests.e2e.operated_server import OperatedServer, wait_for
from tests.e2e.remains import cgroups, names_below, standing, wait_for_no_more

SEED = int(os.environ.get("CHAOS_SEED", "1"))
MINUTES = float(os.environ.get("CHAOS_MINUTES", "0"))
ROUNDS = 32
"""At least so many: each change and each fault alone, and some mixed."""
SLACK = 9
"""Descriptors of a process that may be there for good after all: pools fill up as they are used."""


@pytest.fixture
def operated() -> Iterator[OperatedServer]:
    server = OperatedServer(HAVRE_PREDICT_TIMEOUT_S=str(PREDICT_TIMEOUT_S))
    try:
        server.start()
        yield server
    finally:
        server.server.down()


@pytest.mark.timeout(600 + 2 * 60 * MINUTES)
def test_whatever_happens_nothing_is_lost_and_nothing_is_left(
    operated: OperatedServer, record_property: Callable[[str, object], None]
) -> None:
    # What comes next does not depend on how the moments were drawn.
    order, moments = random.Random(SEED), random.Random(SEED)
    stage = Stage(operated, moments)
    stage.warm_up()
    files = names_below(operated.home.root)
    descriptors = {name: process.num_fds() for name, process in standing(operated).items()}
    stage.deploy()
    rows: list[Row] = []
    try:
        with stage.under_load() as loads:
            stage.wait_until_well()
            player, end = Player(stage, loads), time.monotonic() + 60 * MINUTES
            for number, played in enumerate(rounds(order), 1):
                print(f"{number:4} {played.name}", end=": ", flush=True)
                rows.append(player.play(played))
                print(" ".join(rows[-1].cells()[1:]), flush=True)
                if number >= ROUNDS and time.monotonic() > end:
                    break
    finally:
        record_property("chaos", f"seed {SEED}, {len(rows)} rounds\n{table(summary(rows))}")

    stage.clear()
    wait_for_no_more(operated, files)
    assert cgroups() & stage.seen_instances == set()
    for name, process in standing(operated).items():
        wait_for(
            f"the descriptors of {name}",
            lambda name=name, process=process: process.num_fds() <= descriptors[name] + SLACK,
        )
