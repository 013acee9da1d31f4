"""One server under one workload: every cell of the tables."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.figures import percentile
from bench.load.plan import Exchange
from bench.load.records import Record, Verdict, outcome
from bench.load.run import Generator
from bench.processes import cpu_seconds, pss_bytes, tree
from bench.serving import Running

Result = dict[str, Any]
"""A line of results.jsonl."""

WARM_UP_S = 1.0
WARM_UP_CONNECTIONS = 16
CURVE = (*range(1, 99), *(98 + step / 10 for step in range(21)))
"""Percentiles from which the plots draw the distribution of latencies."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of each load, and connections of the closed ones (empty: the workload's)."""

    seconds: float
    open_seconds: float
    connections: tuple[int, ...] = ()


def measure(running: Running, generator: Generator, pace: Pace) -> Iterator[Result]:
    """A result for each load. Raises NotServing, LoadFailed."""
    exchanges = running.exchanges()
    workload = running.workload
    common = {
        "server": running.server.name,
        "workload": workload.name,
        "start_s": round(running.start_s, 2),
    }
    if workload.schedule is None:
        warm_up(running, generator, exchanges)
    for connections in _closed(running, pace):
        with _Cost(running) as cost:
            records, generator_cpu_s = generator.run(
                running.port, exchanges, connections=connections, seconds=pace.seconds
            )
        yield {**common, "connections": connections, **_result(records, cost, generator_cpu_s)}
    if workload.schedule is not None:
        schedule = workload.schedule(workload.lasts_s(pace.open_seconds))
        with _Cost(running) as cost:
            records, generator_cpu_s = generator.run(running.port, exchanges, schedule=schedule)
        watched = workload.watched_of(records)
        yield {
            **common,
            "offered": len(schedule),
            **_result(watched, cost, generator_cpu_s),
            "cpu_per_1000": _per_1000(cost.cpu_s, len(records)),
            "curve_ms": curve(watched),
        }


def warm_up(running: Running, generator: Generator, exchanges: Sequence[Exchange]) -> None:
    generator.run(running.port, exchanges, connections=WARM_UP_CONNECTIONS, seconds=WARM_UP_S)


def figures_of(records: Sequence[Record]) -> Result:
    """An Outcome, as a part of a result."""
    return {name: _rounded(value) for name, value in asdict(outcome(records)).items()}


def curve(records: Sequence[Record]) -> list[float]:
    """The latency in milliseconds at each percentile of CURVE, of correct answers."""
    took = sorted(one.took_ms for one in records if one.verdict is Verdict.CORRECT)
    return [round(percentile(took, percent), 3) for percent in CURVE]


def _closed(running: Running, pace: Pace) -> Sequence[int]:
    of_workload = running.workload.connections
    return [n for n in of_workload if n in pace.connections] if pace.connections else of_workload


class _Cost:
    """What the server's processes used from the start to the end of a ``with`` block.

    ``cpu_s``: seconds; ``pss_mb``: memory at the end; ``processes``: at the end.
    """

    cpu_s: float
    pss_mb: float
    processes: int

    def __init__(self, running: Running) -> None:
        self._cage = running.cage

    def __enter__(self) -> "_Cost":
        self._began = cpu_seconds(self._cage)
        return self

    def __exit__(self, *failure: object) -> None:
        self.cpu_s = cpu_seconds(self._cage) - self._began
        below = tree(self._cage)
        self.pss_mb = pss_bytes(below) / 1e6
        self.processes = len(below)


def _result(records: Sequence[Record], cost: _Cost, generator_cpu_s: float) -> Result:
    answered = outcome(records).answered
    return {
        **figures_of(records),
        "cpu_per_1000": _per_1000(cost.cpu_s, answered),
        "generator_cpu_per_1000": _per_1000(generator_cpu_s, answered),
        "pss_mb": round(cost.pss_mb, 1),
        "processes": cost.processes,
    }


def _per_1000(seconds: float, requests: int) -> float | None:
    return round(1000 * seconds / requests, 4) if requests else None


def _rounded(value: float) -> float | None:
    """JSON has no NaN."""
    if value != value:
        return None
    return round(value, 3)
