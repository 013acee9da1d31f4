"""Compare a few servers that are all up at once and are asked in turns of a second or two.

    python -m bench.turns [--servers havre granian fastapi] [--workload iris] [--turns 10]

Where rounds start each server afresh, minutes lie between what is compared; here a minute in which
the machine is slow counts for all. Those that are not asked cost next to nothing. Every answer is
verified. Prints medians, and medians of the first server's ratios to each within a turn.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.figures import median
from bench.load.records import outcome
from bench.main import Suite, install, prepared
from bench.measure import Pace, warm_up
from bench.peers import Server, chosen
from bench.processes import cpu_seconds
from bench.report import MOST, figure, table
from bench.serving import serving
from bench.workloads import Workload, workloads


@dataclass(frozen=True, slots=True)
class Turn:
    """Correct answers a second, and microseconds of the server's CPU for each."""

    per_second: float
    cpu_us: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", nargs="+", default=["havre", "granian", "fastapi"])
    parser.add_argument("--workload", default="iris", help="echo iris wide [%(default)s]")
    parser.add_argument("--connections", type=int, default=MOST)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each turn [%(default)s]")
    options = parser.parse_args()
    with prepared(Pace(options.seconds, 0)) as suite:
        known = workloads(json.loads((suite.models / "samples.json").read_text()))
        servers = chosen(options.servers)
        taken = turns(
            suite, servers, known[options.workload], options.turns, connections=options.connections
        )
    print(compared(taken, {one.name: one.title for one in servers}))


def turns(
    suite: Suite, servers: Sequence[Server], workload: Workload, count: int, *, connections: int
) -> dict[str, list[Turn]]:
    """By server. Every other turn goes the other way round. Raises NotServing, LoadFailed."""
    taken: dict[str, list[Turn]] = {one.name: [] for one in servers}
    with ExitStack() as up:
        asked = []
        for server in servers:
            scratch = suite.scratch / f"{server.name}-{workload.name}"
            python = install(server)
            running = up.enter_context(
                serving(server, workload, python=python, models=suite.models, scratch=scratch)
            )
            exchanges = running.exchanges()
            warm_up(running, suite.generator, exchanges)
            asked.append((running, exchanges))
        for number in range(count):
            for running, exchanges in asked[:: -1 if number % 2 else 1]:
                before = cpu_seconds(running.cage)
                records, _ = suite.generator.run(
                    running.port, exchanges, connections=connections, seconds=suite.pace.seconds
                )
                cpu_s = cpu_seconds(running.cage) - before
                came_to = outcome(records).must_be_clean()
                turn = Turn(came_to.per_second, 1e6 * cpu_s / came_to.correct)
                taken[running.server.name].append(turn)
    return taken


def compared(taken: Mapping[str, Sequence[Turn]], titles: Mapping[str, str]) -> str:
    """A table. The first server's figures are divided by those of each."""
    first = next(iter(taken.values()))
    rows = []
    for name, own in taken.items():
        pairs = list(zip(first, own, strict=True))
        rows.append(
            [
                titles[name],
                figure(median(turn.per_second for turn in own)),
                figure(median(turn.cpu_us for turn in own)),
                figure(median(ours.per_second / turn.per_second for ours, turn in pairs), 2),
                figure(median(ours.cpu_us / turn.cpu_us for ours, turn in pairs), 2),
            ]
        )
    who = titles[next(iter(taken))]
    header = ["server", "req/s", "CPU, µs", f"{who}: × its req/s", f"{who}: × its CPU"]
    return table(header, rows)


if __name__ == "__main__":
    main()
