"""What is asked of every server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.forms import Rows
from bench.load.plan import Due, arrivals, every, merged
from bench.load.records import Record

WORKERS = 2
CALL_MS = 10.0
SLOW_CALL_MS = 500.0
CAPACITY_PER_S = WORKERS * 1000 / CALL_MS
SLOW_SHARE = 0.25
"""While the slow call runs, one worker is left: half the capacity, half of it used."""
SEED = 20
"""Of the arrivals of open loops: every server gets the same ones."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows to send and the predictions that must come back."""

    rows: Rows
    prediction: list[Any]


@dataclass(frozen=True)
class Workload:
    """``model``: which of models/predictors.py. A closed loop runs at each of ``connections``; an
    open one by ``schedule(seconds)``, of at least ``least_s``. ``watched``: the exchange whose
    times are reported, if not all.
    """

    name: str
    title: str
    model: str
    samples: Sequence[Sample]
    connections: tuple[int, ...] = ()
    schedule: Callable[[float], list[Due]] | None = None
    least_s: float = 0
    watched: int | None = None

    def lasts_s(self, wanted_s: float) -> float:
        return max(wanted_s, self.least_s)

    def watched_of(self, records: Sequence[Record]) -> list[Record]:
        return [one for one in records if self.watched in (None, one.exchange)]


CLOSED = (1, 16, 64)


def workloads(trained: dict[str, list[dict[str, Any]]]) -> dict[str, Workload]:
    """All of them. ``trained``: samples.json of models/train.py."""
    known = {name: [Sample(**one) for one in samples] for name, samples in trained.items()}
    echo = [[[float(number), 2.5, 3.5, 4.5]] for number in range(1, 33)]
    calls = [Sample([[ms]], [[ms]]) for ms in (CALL_MS, SLOW_CALL_MS)]
    made = (
        Workload("echo", "echo", "echo", [Sample(rows, rows) for rows in echo], CLOSED),
        Workload("iris", "iris, 1 row", "iris", known["iris"], CLOSED),
        Workload("wide", "256 rows × 30", "wide", known["wide"], CLOSED),
        Workload(
            "steady",
            "10 ms calls at 0.75 × capacity",
            "sleep",
            calls[:1],
            schedule=lambda seconds: arrivals(0.75 * CAPACITY_PER_S, seconds, seed=SEED),
        ),
        Workload(
            "flood",
            "10 ms calls at 3 × capacity",
            "sleep",
            calls[:1],
            schedule=lambda seconds: arrivals(3 * CAPACITY_PER_S, seconds, seed=SEED),
        ),
        Workload(
            "slow",
            "10 ms calls at 0.25 × capacity beside one of 500 ms a second",
            "sleep",
            calls,
            schedule=lambda seconds: merged(
                arrivals(SLOW_SHARE * CAPACITY_PER_S, seconds, seed=SEED),
                every(1.0, seconds, exchange=1),
            ),
            least_s=60,  # of fewer than 3,000 requests the last percent is chance
            watched=0,
        ),
    )
    return {one.name: one for one in made}
