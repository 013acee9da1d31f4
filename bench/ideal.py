"""The ideal queue, as results like those of a server: what an open loop's requests would wait if
nothing took time but the calls themselves, and whoever is idle took the oldest.

None that takes them in order can answer sooner. How long the last percent waits is mostly the
arrivals' doing: a server's tail is to be read beside this one.
"""

import heapq
from collections.abc import Iterator, Sequence

from bench.load.plan import Due
from bench.load.records import Record, Verdict
from bench.measure import Result, curve, figures_of
from bench.workloads import WORKERS, Workload

TITLES = {"ideal-queue": "an ideal queue"}


def ideal(workload: Workload, seconds: float) -> Iterator[Result]:
    """One result, of an open loop that does not ask for more than there is."""
    if workload.schedule is None:
        return
    lasts_s = workload.lasts_s(seconds)
    schedule = workload.schedule(lasts_s)
    calls_s = [sample.rows[0][0] / 1000 for sample in workload.samples]
    if sum(calls_s[due.exchange] for due in schedule) > WORKERS * lasts_s:
        return
    watched = workload.watched_of(served(schedule, calls_s, WORKERS))
    yield {
        "server": "ideal-queue",
        "workload": workload.name,
        "offered": len(schedule),
        **figures_of(watched),
        "curve_ms": curve(watched),
    }


def served(schedule: Sequence[Due], calls_s: Sequence[float], workers: int) -> list[Record]:
    """Every request, answered. ``calls_s``: how long each exchange takes, in seconds."""
    idle_from_s = [0.0] * workers
    records = []
    for due in schedule:
        done_s = max(due.at_s, heapq.heappop(idle_from_s)) + calls_s[due.exchange]
        heapq.heappush(idle_from_s, done_s)
        due_ns = round(due.at_s * 1e9)
        done_ns = round(done_s * 1e9)
        records.append(Record(due_ns, due_ns, done_ns, due.exchange, 200, Verdict.CORRECT))
    return records
