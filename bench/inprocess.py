"""The in-process limit, as results like those of a server: no server can answer with less."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Result
from bench.serving import MODELS
from bench.workloads import WORKERS, Workload

CODECS = ("json", "orjson")
TITLES = {f"in-process-{codec}": f"in-process limit, {codec}" for codec in CODECS}


def limits(workload: Workload, *, python: Path, models: Path, seconds: float) -> Iterator[Result]:
    """One result for each JSON library. ``python``: the suite's own environment."""
    for codec in CODECS:
        program: list[str | Path] = [python, MODELS / "inprocess.py", workload.model, models]
        done = subprocess.run(
            [*program, str(seconds), str(WORKERS), codec],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(MODELS), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        measured = json.loads(done.stdout)
        yield {
            "server": f"in-process-{codec}",
            "workload": workload.name,
            "connections": 0,
            "correct": measured["requests"],
            "per_second": round(measured["per_second"], 1),
            "cpu_per_1000": round(1000 * measured["cpu_s"] / measured["requests"], 4),
        }
