"""What logs and metrics add to a request: the same server with them and without, in turns.

    python -m bench.log_cost [--server havre] [--workload iris] [--rounds 7] [--seconds 8]

Without: the load balancer writes no access log, and the telemetry process stands still. With: its
CPU counts until everything of the load has been collected. Prints CPU microseconds per request of
all processes, and the median of the rounds' ratios.
"""

import argparse
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.load.plan import Exchange
from bench.load.records import outcome
from bench.main import Suite, install, prepared
from bench.measure import Pace, warm_up
from bench.peers import Server, chosen
from bench.processes import command_of, cpu_seconds, tree
from bench.report import MOST, figure, table
from bench.serving import Running, serving
from bench.workloads import Workload, workloads
from havre.balancer.envoy.files import Files
from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry.files import layout

COLLECTED_WITHIN_S = 60.0
SETTLED_S = 1.0
"""The load balancer writes every half second, and takes up another listener in less."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="havre")
    parser.add_argument("--workload", default="iris")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    with prepared(Pace(options.seconds, 0)) as suite:
        known = workloads(json.loads((suite.models / "samples.json").read_text()))
        [server] = chosen([options.server])
        rounds = list(measured(suite, server, known[options.workload], options.rounds))
    rows = [[str(n), figure(on, 1), figure(off, 1)] for n, (on, off) in enumerate(rounds, 1)]
    print(table(["round", "with, µs", "without, µs"], rows))
    print(f"median of the ratios: {median(on / off for on, off in rounds):.3f}")


def measured(
    suite: Suite, server: Server, workload: Workload, count: int
) -> Iterator[tuple[float, float]]:
    """CPU µs per request with and without, for each round."""
    scratch = suite.scratch / f"{server.name}-{workload.name}"
    python = install(server)
    with serving(server, workload, python=python, models=suite.models, scratch=scratch) as running:
        home = Home(scratch / "home")
        exchanges = running.exchanges()
        warm_up(running, suite.generator, exchanges)
        collected(home)
        for number in range(count):
            turns = (with_logs, without_logs) if number % 2 else (without_logs, with_logs)
            found = {turn: turn(suite, running, exchanges, home) for turn in turns}
            yield found[with_logs], found[without_logs]


def with_logs(suite: Suite, running: Running, exchanges: list[Exchange], home: Home) -> float:
    before = cpu_seconds(running.cage)
    answered = load(suite, running, exchanges)
    collected(home)
    return (cpu_seconds(running.cage) - before) / answered * 1e6


def without_logs(suite: Suite, running: Running, exchanges: list[Exchange], home: Home) -> float:
    with switched_off(running, home):
        before = cpu_seconds(running.cage)
        answered = load(suite, running, exchanges)
        return (cpu_seconds(running.cage) - before) / answered * 1e6


@contextmanager
def switched_off(running: Running, home: Home) -> Iterator[None]:
    [telemetry] = [pid for pid in tree(running.cage) if "havre.telemetry" in command_of(pid)]
    files = Files(home)
    told = files.read(files.listeners)
    assert told is not None
    silent = json.loads(json.dumps(told))
    silent["version_info"] += "-silent"
    for listener in silent["resources"]:
        for chain in listener["filter_chains"]:
            for each in chain["filters"]:
                each["typed_config"].pop("access_log", None)
    try:
        os.kill(telemetry, signal.SIGSTOP)
        files.write(files.listeners, silent)
        time.sleep(SETTLED_S)
        yield
    finally:
        files.write(files.listeners, told)
        os.kill(telemetry, signal.SIGCONT)
        time.sleep(SETTLED_S)


def load(suite: Suite, running: Running, exchanges: list[Exchange]) -> int:
    records, _ = suite.generator.run(
        running.port, exchanges, connections=MOST, seconds=suite.pace.seconds
    )
    came_to = outcome(records).must_be_clean()
    return came_to.correct


def collected(home: Home) -> None:
    """Wait until no entry of the access log waits any more."""
    place = layout.closed_folder(home, Category.ACCESS, "")
    deadline = time.monotonic() + COLLECTED_WITHIN_S
    time.sleep(SETTLED_S)
    while layout.closed_files(place) or _size(layout.live_access(home)):
        if time.monotonic() > deadline:
            raise SystemExit("the entries are not collected")
        time.sleep(0.1)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


if __name__ == "__main__":
    main()
