"""How surely a canary stops a revision that is worse, and lets one pass that is not."""

import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from havre.domain.latency import BOUNDS_S, BUCKETS, Latency
from havre.domain.rollout.canary import (
    LONG_IN_HAND_S,
    RequestStats,
    StepResult,
    is_step_done,
    violated_limit,
)
from havre.domain.rollout.policy import Canary, Step

PERCENT = 10
STEP = Canary((Step(PERCENT, 30.0),))
COPIES = 4
TRIES = 100


@dataclass
class Revision:
    """Outcomes by lot: a share fails, a share hangs for ever, the others take ``takes()`` s."""

    takes: Callable[[random.Random], float]
    fails: float = 0.0
    hangs: float = 0.0

    def tally(self, chance: random.Random) -> "Running":
        return Running(self, chance)


class Running:
    def __init__(self, revision: Revision, chance: random.Random) -> None:
        self._revision, self._chance = revision, chance
        self._counts = [0] * BUCKETS
        self._answered = self._failed = self._hung = 0

    def ask(self) -> None:
        revision, chance = self._revision, self._chance
        if self._hung == COPIES:
            return  # nobody is left to answer
        if chance.random() < revision.hangs:
            self._hung += 1
            return
        self._answered += 1
        if chance.random() < revision.fails:
            self._failed += 1
            return
        seconds = revision.takes(chance)
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1

    def look(self, in_hand_s: float) -> RequestStats:
        latency = Latency(tuple(self._counts))
        return RequestStats(
            self._answered, self._failed, latency, (in_hand_s,) * self._hung, COPIES
        )


def usual(chance: random.Random) -> float:
    return chance.lognormvariate(-4.6, 0.4)  # about 10 ms


def heavy(chance: random.Random) -> float:
    return 0.3 if chance.random() < 0.04 else chance.lognormvariate(-4.6, 0.8)


def slower(chance: random.Random) -> float:
    return 3 * usual(chance)


def halting(chance: random.Random) -> float:
    return 2.0 if chance.random() < 0.15 else usual(chance)


def stopped_after(new: Revision, old: Revision, *, most: int, seed: int) -> int:
    """At which request of the new revision the canary stopped it; 0: at none of ``most``."""
    chance = random.Random(seed)
    of_new, of_old = new.tally(chance), old.tally(chance)
    for asked in range(1, most + 1):
        of_new.ask()
        for _ in range(9):
            of_old.ask()
        if asked % 10 == 0:
            step_result = StepResult(29.0, of_new.look(LONG_IN_HAND_S + 1), of_old.look(0.0))
            if violated_limit(STEP, step_result, PERCENT):
                return asked
    return 0


@pytest.mark.parametrize(
    ("new", "old", "within"),
    [
        (Revision(usual, fails=0.1), Revision(usual), 100),
        (Revision(usual, fails=0.15), Revision(usual, fails=0.03), 300),
        (Revision(slower), Revision(usual), 40),
        (Revision(halting), Revision(usual), 200),
        (Revision(usual, hangs=1.0), Revision(usual), 10),
        (Revision(usual, hangs=1 / 7), Revision(usual), 60),
    ],
    ids=["fails", "fails more", "3 x as slow", "15 % halt", "hangs", "1 of 7 hangs"],
)
def test_a_revision_that_is_worse_is_stopped(new, old, within):
    outcomes = [stopped_after(new, old, most=within, seed=seed) for seed in range(TRIES)]
    assert sum(outcome > 0 for outcome in outcomes) >= 0.99 * TRIES


@pytest.mark.parametrize(
    "revision",
    [Revision(usual), Revision(heavy), Revision(usual, fails=0.04), Revision(heavy, fails=0.2)],
    ids=["well", "heavy tail", "4 % fail", "heavy tail, 20 % fail"],
)
def test_a_revision_that_is_equal_is_promoted(revision):
    outcomes = [stopped_after(revision, revision, most=300, seed=seed) for seed in range(TRIES)]
    assert sum(outcome == 0 for outcome in outcomes) >= 0.99 * TRIES


def test_slow_first_requests_of_its_copies_stop_nothing():
    chance = random.Random(1)
    of_new, of_old = Revision(usual).tally(chance), Revision(usual).tally(chance)
    for _ in range(16):
        of_new.ask()
    for _ in range(400):
        of_old.ask()
    new, old = of_new.look(0.0), of_old.look(0.0)
    cold = Latency(
        tuple(count + 4 * (place == 32) for place, count in enumerate(new.latency.counts))
    )
    step_result = StepResult(30.0, RequestStats(20, 0, cold, (), COPIES), old)
    assert not violated_limit(STEP, step_result, PERCENT)
    assert is_step_done(STEP, step_result, PERCENT)
    unused = StepResult(30.0, RequestStats(20, 0, cold, (), 0), old)
    assert violated_limit(STEP, unused, PERCENT)


def test_what_is_in_hand_for_a_moment_stops_nothing():
    chance = random.Random(1)
    of_old = Revision(usual).tally(chance)
    for _ in range(400):
        of_old.ask()
    loads = StepResult(3.0, RequestStats(0, 0, Latency(), (3.0,) * 4, COPIES), of_old.look(0.0))
    assert not violated_limit(STEP, loads, PERCENT)
    assert not is_step_done(STEP, StepResult(99.0, loads.new, loads.old), PERCENT)
