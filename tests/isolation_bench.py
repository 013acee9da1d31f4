"""Instances that do whatever they are told to: what a hostile score.py could do, from outside."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.hostile_model import Line, hostile_instance
from tests.supervisor_bench import SupervisorBench, wait_until

from havre.domain.instance import InstanceSpec, InstanceStatus
from havre.domain.states import InstancePhase
from havre.engines.process import ProcessEngine
from havre.supervisor import landlock
from havre.unprivileged import reachable, why_models_run_as_us

REFUSED = ("PermissionError", "FileNotFoundError", "ProcessLookupError", "OSError")

needs_root = pytest.mark.skipif(bool(why_models_run_as_us()), reason="needs root")
needs_landlock = pytest.mark.skipif(
    landlock.abi() < landlock.ABI_SIGNALS, reason="needs Landlock of Linux 6.12"
)


def is_refused(answer: object) -> bool:
    """Whether a model's answer is an error that the system gave it."""
    return isinstance(answer, str) and answer.startswith(REFUSED)


def open_interpreter() -> Path:
    """A CPython that every user of this machine can start."""
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        for folder in ("/usr/bin", "/usr/local/bin"):
            path = Path(folder, name)
            if path.exists() and reachable(path):
                return path
    pytest.skip("no Python here that other users can start")


class IsolationBench:
    """Instances of a home, each of a deployment of its own."""

    def __init__(self, bench: SupervisorBench) -> None:
        bench.launch()
        self.supervised = bench
        self.home = bench.home
        self.engine = ProcessEngine(bench.home, bench.client)

    def spec(self, name: str, *, interpreter: Path | None = None, **options: Any) -> InstanceSpec:
        return hostile_instance(self.home, name, interpreter or open_interpreter(), **options)

    def run(self, name: str, **options: Any) -> "Model":
        """An instance whose copies are ready."""
        spec = self.spec(name, **options)
        self.engine.start(spec)

        def ready() -> InstanceStatus | None:
            status = self.engine.inspect(spec.id)
            assert status.phase is not InstancePhase.FAILED, (status.reason, self.log(spec.id))
            return status if status.copies_ready == spec.copies else None

        return Model(self, spec, wait_until(ready, "the instance"))

    def log(self, instance_id: str) -> str:
        return (self.home.logs / "instances" / f"{instance_id}.log").read_text()


class Model:
    def __init__(self, bench: IsolationBench, spec: InstanceSpec, status: InstanceStatus) -> None:
        self.spec = spec
        self.status = status
        self.folder = bench.home.instances / spec.id
        self._bench = bench

    def does(self, code: str, line: Line | None = None) -> Any:
        """What ``answer`` is after the code, or the error it ended with, as text.

        On a line of its own, where none is given.
        """
        status, answer = line.request(code) if line else self.request(code)
        assert status == 200, (status, answer, self.log())
        return json.loads(answer)["prediction"]

    def request(self, code: str) -> tuple[int, bytes]:
        with self.line() as line:
            return line.request(code)

    def line(self) -> Line:
        return Line(self.status.socket)

    def log(self) -> str:
        return self._bench.log(self.spec.id)

    def now(self) -> InstanceStatus:
        return self._bench.engine.inspect(self.spec.id)
