"""Run havre and its peers on the same work: ``python -m bench`` (`make bench`, `make bench-quick`).

Rounds are interleaved over the servers. A server is started afresh for each workload of each round.
Writes results.jsonl, report.md and plots below bench/results/.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import ideal, inprocess
from bench.installing import NotInstallable, environment, generator
from bench.load.run import SOURCE, Generator, LoadFailed
from bench.measure import Pace, Result, measure
from bench.peers import PYTHON, Server, UnknownName, chosen, servers
from bench.report import report
from bench.results import Lines, Results, machine
from bench.serving import MODELS, ROOT, NotServing, serving
from bench.workloads import Workload, workloads

HERE = Path(__file__).parent
QUICK_WORKLOADS = ("echo", "iris", "wide", "steady")
FULL = Pace(seconds=5, open_seconds=20)
QUICK = Pace(seconds=3, open_seconds=10, connections=(1, 64))


@dataclass(frozen=True)
class Suite:
    """What does not change during a run."""

    python: Path
    """Of the suite's own environment: trains, draws, measures the in-process limit."""
    models: Path
    scratch: Path
    generator: Generator
    pace: Pace


def main() -> int:
    options = parse()
    try:
        asked = chosen(options.servers or default_servers(is_quick=options.quick))
    except UnknownName as unknown:
        print(unknown, file=sys.stderr)
        return 2
    folder = HERE / "results" / time.strftime("%Y%m%d-%H%M%S")
    with prepared(options.pace) as suite:
        known = workloads(json.loads((suite.models / "samples.json").read_text()))
        names = options.workloads or (QUICK_WORKLOADS if options.quick else tuple(known))
        if unknown_names := set(names) - set(known):
            print(f"no such workload: {', '.join(sorted(unknown_names))}", file=sys.stderr)
            return 2
        run(suite, asked, [known[name] for name in names], options.rounds, folder)
    print((folder / "report.md").read_text(encoding="utf-8"))
    print(f"in {folder}: report.md, results.jsonl, plots")
    return 0


def run(
    suite: Suite, asked: Sequence[Server], work: Sequence[Workload], count: int, folder: Path
) -> None:
    """Measure, and write everything into the folder."""
    folder.mkdir(parents=True)
    lines = Lines(folder / "results.jsonl")
    lines.add(machine() | {"seconds": suite.pace.seconds, "rounds": count})
    for result in rounds(suite, asked, work, count):
        lines.add(result)
        print(told(result), flush=True)
    titles = {
        **inprocess.TITLES,
        **ideal.TITLES,
        **{one.name: one.title for one in asked},
        **{one.name: one.title for one in work},
    }
    (folder / "titles.json").write_text(json.dumps(titles), encoding="utf-8")
    (folder / "report.md").write_text(report(Results(lines.all()), titles), encoding="utf-8")
    plots = [str(suite.python), "-m", "bench.plots", str(folder)]
    subprocess.run(plots, cwd=ROOT, check=True, env={"PYTHONPATH": str(ROOT)})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer servers, workloads and connections")
    add("--servers", nargs="+", metavar="NAME", help=", ".join(servers()))
    add("--workloads", nargs="+", metavar="NAME", help="echo iris wide steady flood slow [all]")
    add("--connections", nargs="+", type=int, metavar="N", help="of closed loops [1 16 64]")
    add("--seconds", type=float, help="of each closed loop [5; quick: 3]")
    add("--open-seconds", type=float, help="of each open loop [20; quick: 10]")
    add("--rounds", type=int, help="[3; quick: 2]")
    options = parser.parse_args()
    base = QUICK if options.quick else FULL
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.pace = Pace(
        seconds=options.seconds or base.seconds,
        open_seconds=options.open_seconds or base.open_seconds,
        connections=tuple(options.connections or base.connections),
    )
    return options


def default_servers(*, is_quick: bool) -> list[str]:
    return [one.name for one in servers().values() if one.quick or not is_quick]


@contextmanager
def prepared(pace: Pace) -> Iterator[Suite]:
    """The suite's environment, the load generator, the trained models, a folder for it all.

    SIGTERM ends the servers and removes the folder, too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say("preparing the suite")
    python = environment("suite", HERE / "requirements.txt", PYTHON)
    program = generator(SOURCE)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hvb") as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)  # a model of havre's runs as a user of its own
        models = scratch / "models"
        models.mkdir()
        subprocess.run([python, MODELS / "train.py", models], check=True)
        yield Suite(python, models, scratch, Generator(program, scratch), pace)


def rounds(
    suite: Suite, asked: Sequence[Server], work: Sequence[Workload], count: int
) -> Iterator[Result]:
    """Every result of the run. A server that fails is told once and left out of later rounds."""
    pythons: dict[str, Path] = {}
    for server in asked:
        say(f"installing {server.title}")
        try:
            pythons[server.name] = install(server)
        except NotInstallable as why:
            yield {"server": server.name, "error": str(why)}
    failed: set[tuple[str, str]] = set()
    for number in range(count):
        for workload in work:
            if workload.schedule is None:
                for limit in inprocess.limits(
                    workload, python=suite.python, models=suite.models, seconds=suite.pace.seconds
                ):
                    yield {"round": number, **limit}
            for best in ideal.ideal(workload, suite.pace.open_seconds):
                yield {"round": number, **best}
            for server in asked:
                cell = (server.name, workload.name)
                if server.name not in pythons or cell in failed or not server.takes(workload.name):
                    continue
                for result in one(suite, server, workload, pythons[server.name]):
                    if "error" in result:
                        failed.add(cell)
                    yield {"round": number, **result}


def one(suite: Suite, server: Server, workload: Workload, python: Path) -> Iterator[Result]:
    scratch = suite.scratch / f"{server.name}-{workload.name}"
    try:
        with serving(
            server, workload, python=python, models=suite.models, scratch=scratch
        ) as running:
            yield from measure(running, suite.generator, suite.pace)
    except (NotServing, LoadFailed) as why:
        yield {"server": server.name, "workload": workload.name, "error": str(why)}


def install(server: Server) -> Path:
    return environment(server.folder.name, server.requirements, server.python)


def told(result: Result) -> str:
    """One line for whoever watches."""
    where = f"{result['server']:<20} {result.get('workload', ''):<7}"
    if "error" in result:
        return f"{where} NOT MEASURED: {result['error'].splitlines()[0]}"
    wrong = f"  {result['wrong']} WRONG" if result.get("wrong") else ""
    failed = f"  {result['failed']} FAILED" if result.get("failed") else ""
    cost = result.get("cpu_per_1000") or 0
    return (
        f"{where} {result.get('connections') or '':>3} {result['per_second']:>9,.0f}/s"
        f"  p99 {result.get('p99_ms') or 0:8.2f} ms  {cost:.3f} CPU-s/1,000"
        f"  {result.get('pss_mb', 0):5,.0f} MB{wrong}{failed}"
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
