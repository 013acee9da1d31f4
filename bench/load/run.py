"""Carry a plan out with the load generator."""

import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load.plan import Due, Exchange, encode
from bench.load.records import Record, read

SOURCE = Path(__file__).with_name("load.c")


class LoadFailed(Exception):
    """The load generator itself failed; what it measured means nothing."""


@dataclass(frozen=True, slots=True)
class Generator:
    """``program``: load.c, compiled. ``scratch``: a folder for plans and records."""

    program: Path
    scratch: Path

    def run(
        self,
        port: int,
        exchanges: Sequence[Exchange],
        *,
        connections: int = 0,
        seconds: float = 0,
        schedule: Sequence[Due] = (),
    ) -> tuple[list[Record], float]:
        """A closed loop, or an open one if there is a schedule: its records and its CPU seconds.

        Raises LoadFailed.
        """
        plan, records = self.scratch / "plan", self.scratch / "records"
        plan.write_bytes(encode(exchanges, schedule))
        words = [str(port), str(plan), str(records), str(connections), str(seconds)]
        before = _children_cpu_s()
        done = subprocess.run([self.program, *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LoadFailed(done.stderr.strip() or f"exit code {done.returncode}")
        cpu_s = _children_cpu_s() - before
        return read(records), cpu_s


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
