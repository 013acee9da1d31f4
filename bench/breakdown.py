"""Where each microsecond of a request goes: load balancer, copies, JSON, predict.

    python -m bench.breakdown [--servers havre havre-batched] [--workloads echo iris wide]

CPU time by process, from /proc, under a closed loop of 64 connections, user and system apart. Then
decode, predict and encode of the same requests in one process, by themselves: what is left of a
copy's time is its own work, Python's and the kernel's. Prints microseconds per request.
"""

import argparse
import json
import subprocess
from collections import defaultdict

from bench.load.records import outcome
from bench.main import Suite, install, prepared
from bench.measure import Pace, warm_up
from bench.peers import Server, chosen
from bench.processes import Times, command_of, times_of, tree
from bench.report import MOST, figure, table
from bench.serving import MODELS, serving
from bench.workloads import Workload, workloads

ROLES = {
    "/envoy ": "load balancer (Envoy)",
    "havre.supervisor": "supervisor",
    "havre.service": "control plane",
    "havre_copy": "keeper and copies",
}
"""What a process's command line has in it, and what it is. First hit wins."""
PARTS = ("decode", "predict", "encode")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", nargs="+", default=["havre"])
    parser.add_argument("--workloads", nargs="+", default=["echo", "iris", "wide"])
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    with prepared(Pace(options.seconds, 0)) as suite:
        known = workloads(json.loads((suite.models / "samples.json").read_text()))
        for name in options.workloads:
            for server in chosen(options.servers):
                print(f"{server.title}, {known[name].title}: microseconds per request\n")
                print(breakdown(suite, server, known[name]), flush=True)


def breakdown(suite: Suite, server: Server, workload: Workload) -> str:
    """A table."""
    used, requests = by_role(suite, server, workload)
    rows = [
        [role, *(figure(1e6 * seconds / requests, 1) for seconds in (t.user, t.system, t.both))]
        for role, t in sorted(used.items(), key=lambda pair: -pair[1].both)
    ]
    total = sum(t.both for t in used.values())
    rows.append(["all", "", "", figure(1e6 * total / requests, 1)])
    for part, microseconds in in_one_process(suite, workload).items():
        rows.append([f"of a copy's: {part}", "", "", figure(microseconds, 1)])
    return table(["where", "user", "system", "both"], rows) + "\n"


def by_role(suite: Suite, server: Server, workload: Workload) -> tuple[dict[str, Times], int]:
    """CPU seconds of each role under load, and how many requests that was."""
    scratch = suite.scratch / f"{server.name}-{workload.name}"
    python = install(server)
    with serving(server, workload, python=python, models=suite.models, scratch=scratch) as running:
        exchanges = running.exchanges()
        warm_up(running, suite.generator, exchanges)
        pids = tree(running.cage)
        before = {pid: times_of(pid) for pid in pids}
        records, _ = suite.generator.run(
            running.port, exchanges, connections=MOST, seconds=suite.pace.seconds
        )
        used: dict[str, Times] = defaultdict(Times)
        for pid in pids:
            used[role_of(command_of(pid))] += times_of(pid) - before[pid]
    came_to = outcome(records).must_be_clean()
    return used, came_to.correct


def role_of(command: str) -> str:
    return next((role for mark, role in ROLES.items() if mark in command), "other")


def in_one_process(suite: Suite, workload: Workload) -> dict[str, float]:
    """Microseconds of each part."""
    done = subprocess.run(
        [suite.python, MODELS / "parts.py", workload.model, suite.models, "orjson"],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(MODELS), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return {part: found[part] for part in PARTS}


if __name__ == "__main__":
    main()
