"""Instances that do whatever they are told to: what a hostile score.py could do, from outside."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.model import Line, hostile_instance
from tests.support.supervisor_harness import SupervisorHarness, open_interpreter, wait_until

from havre.domain.instance import InstanceSpec, InstanceStatus
from havre.domain.states import InstancePhase
from havre.engines.confinement import Permissions
from havre.engines.process import ProcessEngine
from havre.supervisor import landlock
from havre.supervisor.cgroups import Cgroups, find_trees
from havre.unprivileged import why_not_separate_users

REFUSED = ("PermissionError", "FileNotFoundError", "ProcessLookupError", "OSError")

needs_root = pytest.mark.skipif(bool(why_not_separate_users()), reason="needs root")
needs_landlock = pytest.mark.skipif(
    landlock.abi() < landlock.ABI_SIGNALS, reason="needs Landlock of Linux 6.12"
)

can_find_all = (
    not why_not_separate_users()
    or not Cgroups(find_trees(is_root=os.geteuid() == 0, only_look=True), Path("/")).missing
)
"""Whether a process that has left its session is known for an instance's: by user or by group."""


@cache
def has_private_view() -> bool:
    """Whether this machine lets an instance have a /tmp and shared memory of its own."""
    enter = (
        "from havre.supervisor import private_view as view\n"
        "view.enter(temporary='/', hidden=(), readable=view.TEMPORARY, writable=())"
    )
    return subprocess.run([sys.executable, "-c", enter], capture_output=True).returncode == 0


def is_refused(answer: object) -> bool:
    """Whether a model's answer is an error that the system gave it."""
    return isinstance(answer, str) and answer.startswith(REFUSED)


class IsolationHarness:
    """Instances of a home, each of a deployment of its own."""

    def __init__(self, harness: SupervisorHarness) -> None:
        harness.launch()
        self.supervised = harness
        self.home = harness.home
        self.engine = ProcessEngine(harness.home, harness.client)

    def permit(self, **permissions: Any) -> None:
        """Have instances that start from now on started under other settings."""
        self.engine = ProcessEngine(self.home, self.supervised.client, Permissions(**permissions))

    def closed_interpreter(self, *, is_leaf: bool = False) -> Path:
        """Below a folder that other users cannot pass, or in an environment that they cannot."""
        closed = self.home.root / "closed"
        environment = closed if is_leaf else closed / "environment"
        (environment / "bin").mkdir(parents=True)
        (environment / "pyvenv.cfg").touch()
        beside = environment.with_name(f"{environment.name}-base")  # sorts between it and its files
        if not is_leaf:
            (beside / "bin").mkdir(parents=True)
        if is_leaf:
            (environment / "bin" / "python").symlink_to(open_interpreter())
        else:
            (beside / "bin" / "python").symlink_to(open_interpreter())
            (environment / "bin" / "python").symlink_to(beside / "bin" / "python")
        for folder in closed.rglob("*"):
            if not folder.is_symlink() and folder.is_dir():
                folder.chmod(0o755)
        closed.chmod(0o700)
        return environment / "bin" / "python"

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
    def __init__(
        self, harness: IsolationHarness, spec: InstanceSpec, status: InstanceStatus
    ) -> None:
        self.spec = spec
        self.status = status
        self.folder = harness.home.instances / spec.id
        self._bench = harness

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
        return Line(self.status.address.path)

    def log(self) -> str:
        return self._bench.log(self.spec.id)

    def now(self) -> InstanceStatus:
        return self._bench.engine.inspect(self.spec.id)
