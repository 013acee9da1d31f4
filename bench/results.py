"""Results at rest: one JSON object a line, the machine first. And medians over the rounds."""

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import median
from bench.measure import Result


def machine() -> dict[str, Any]:
    """Where and when a run was made."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cores": os.cpu_count(),
        "processor": model[0] if model else platform.machine(),
        "memory_gb": round(memory / 2**30, 1),
        "kernel": platform.release(),
    }


class Lines:
    """results.jsonl, written line by line so that a run that is cut short keeps what it has."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, result: Result) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")

    def all(self) -> list[Result]:
        return [json.loads(line) for line in self._path.read_text("utf-8").splitlines()]


@dataclass(frozen=True, slots=True)
class Results:
    """What a run measured, to be asked by server and workload."""

    lines: Sequence[Result]

    def values(self, server: str, workload: str, field: str, **where: object) -> dict[int, float]:
        """By round; rounds without the value are left out. ``where``: other fields to match."""
        return {
            one["round"]: one[field]
            for one in self._of(server, workload)
            if one.get(field) is not None
            and all(one.get(name) == value for name, value in where.items())
        }

    def median(self, server: str, workload: str, field: str, **where: object) -> float:
        """NaN if it was not measured."""
        return median(self.values(server, workload, field, **where).values())

    def ratio(self, server: str, other: str, workload: str, field: str, **where: object) -> float:
        """The median of the ratios round by round, so that what slowed a round down cancels out."""
        ours = self.values(server, workload, field, **where)
        theirs = self.values(other, workload, field, **where)
        return median(ours[n] / theirs[n] for n in ours.keys() & theirs.keys() if theirs[n])

    def servers(self) -> list[str]:
        return _in_order(one["server"] for one in self.lines if "server" in one)

    def workloads(self) -> list[str]:
        return _in_order(one["workload"] for one in self.lines if "workload" in one)

    def connections(self, workload: str) -> list[int]:
        found = {one.get("connections", 0) for one in self.lines if one.get("workload") == workload}
        return sorted(found - {0})

    def errors(self) -> dict[str, list[str]]:
        """Server to what went wrong with it."""
        found: dict[str, list[str]] = {}
        for one in self.lines:
            if one.get("error"):
                where = one.get("workload", "installing")
                told = found.setdefault(one["server"], [])
                text = f"{where}: {one['error']}"
                if text not in told:
                    told.append(text)
        return found

    def curve(self, server: str, workload: str) -> list[float]:
        """The median curve of latencies over the rounds; empty if there is none."""
        curves = [one["curve_ms"] for one in self._of(server, workload) if "curve_ms" in one]
        return [median(column) for column in zip(*curves, strict=True)]

    def _of(self, server: str, workload: str) -> Iterable[Result]:
        return (
            one
            for one in self.lines
            if one.get("server") == server and one.get("workload") == workload
        )


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
