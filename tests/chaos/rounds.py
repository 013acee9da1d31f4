"""One round: perhaps a change, perhaps faults in the middle of it, until all is well again."""

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
from tests.chaos.changes import CHANGES, Change, Hit
from tests.chaos.faults import EVERYTHING, FAULTS, Away, Fault
from tests.chaos.report import Row, row
from tests.chaos.stage import Stage
from tests.e2e.killing import is_alive
from tests.e2e.load import OK, Load, Outcome
from tests.support.slowness import STANDSTILL_S, slowness

LONGEST_WAIT_S = 1.5
"""A fault strikes at any moment of a change, and most changes take about this long."""
SECOND = ("control plane", "a copy", "supervisor")
"""Faults that may come on top of another one: together they still leave an instance serving."""
ON_AFTERWARDS = 20


@dataclass(frozen=True, slots=True)
class Round:
    change: Change | None
    faults: tuple[Fault, ...]

    @property
    def name(self) -> str:
        during = f"during {self.change.name}" if self.change else ""
        names = " + ".join(fault.name for fault in self.faults)
        return f"{names} {during}".strip() if self.faults else self.change.name  # type: ignore[union-attr]

    @property
    def group(self) -> str:
        """Rows of the short table: what was struck, or what was changed."""
        names = " + ".join(fault.name for fault in self.faults)
        if not self.faults:
            assert self.change is not None
            return self.change.name
        return f"{names}, during a change" if self.change else names


def rounds(chance: random.Random) -> Iterator[Round]:
    """Each change and each fault by itself, then mixed, without end."""
    alone = [
        *(Round(change, ()) for change in CHANGES),
        *(Round(None, (fault,)) for fault in FAULTS),
    ]
    chance.shuffle(alone)
    yield from alone
    while True:
        faults = [chance.choice(FAULTS)]
        if chance.random() < 0.5:
            faults += [fault for fault in FAULTS if fault.name == chance.choice(SECOND)]
        candidates = CHANGES
        if EVERYTHING in faults:
            candidates = tuple(change for change in CHANGES if change.is_one_step)
        yield Round(chance.choice(candidates), tuple(faults))


class Player:
    """Plays rounds on a stage under load and holds each to what it may cost."""

    def __init__(self, stage: Stage, loads: Sequence[Load]) -> None:
        self._stage = stage
        self._loads = loads
        self._told = [0 for _ in loads]
        self._began = time.monotonic()

    def play(self, played: Round) -> Row:
        """Its row. Raises AssertionError when it cost more than it may."""
        stage = self._stage
        before = stage.census()
        stage.is_everything_lost = EVERYTHING in played.faults
        self._began = time.monotonic()
        strikes: list[tuple[float, float]] = []
        hit: Hit = set()
        with ThreadPoolExecutor(1) as pool:
            changing = pool.submit(played.change.make, stage) if played.change else None
            for fault in played.faults:
                if changing:
                    time.sleep(stage.chance.uniform(0.0, LONGEST_WAIT_S))  # any moment will do
                struck = time.monotonic()
                hit |= fault.strike(stage)
                strikes.append((struck, time.monotonic()))
            if changing:
                hit |= changing.result()
        stage.wait_until_well()
        well = time.monotonic()
        for load in self._loads:
            load.wait_for_more(ON_AFTERWARDS)
        outcomes = self._news()
        self._hold_to_its_cost(played, strikes, well, outcomes)
        lost = [process for process in before - hit if not is_alive(process)]
        assert lost == [], f"{played.name} ended {tell(lost)}, which it had not hit"
        return row(played.group, outcomes, began=self._began, ended=well)

    def _news(self) -> list[Outcome]:
        """Outcomes since the last time: none is in two rounds, none in between."""
        news: list[Outcome] = []
        for place, load in enumerate(self._loads):
            fresh = load.outcomes[self._told[place] :]
            self._told[place] += len(fresh)
            news += fresh
        return news

    def _hold_to_its_cost(
        self,
        played: Round,
        strikes: list[tuple[float, float]],
        well: float,
        outcomes: list[Outcome],
    ) -> None:
        """``strikes``: when each fault began to strike, and when it was over."""
        failures = [outcome for outcome in outcomes if outcome.what != OK]
        answered = [outcome for outcome in outcomes if outcome.what == OK]
        for fault, (struck, over) in zip(played.faults, strikes, strict=True):
            if fault.away is Away.UNTIL_WELL:
                failures = [each for each in failures if not struck <= each.ended <= well]
            elif fault.away is Away.UNTIL_ANSWERED:
                back = min((each.ended for each in answered if each.began > over), default=well)
                away_s = back - over
                assert away_s < STANDSTILL_S * slowness(), f"{fault.name}: away for {away_s:.1f} s"
                # What was sent before then may be noticed to have failed a little later.
                late = back + STANDSTILL_S
                failures = [
                    each
                    for each in failures
                    if not (struck <= each.ended <= late and each.began <= back)
                ]
        allowed = sum(fault.fails for fault in played.faults)
        assert len(failures) <= allowed, (
            f"{played.name} failed {len(failures)} requests, {allowed} at most: "
            f"{[(each.what, round(each.ended - self._began, 3)) for each in failures[:20]]} "
            f"struck at {[round(struck - self._began, 3) for struck, _ in strikes]}"
        )


def tell(processes: list[psutil.Process]) -> str:
    return ", ".join(map(repr, processes))
