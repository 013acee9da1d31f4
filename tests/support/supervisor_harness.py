"""A real supervisor in a home of its own, and the promise that nothing outlives the test."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from havre.home import Home
from havre.supervisor.client import SupervisorClient
from havre.supervisor.protocol import Phase, ProcessSpec, ProcessStatus, Restart
from havre.supervisor.reach import interpreter_files, obstacle
from havre.unprivileged import reachable, why_not_separate_users

T = TypeVar("T")
DEADLINE_S = 60.0


def wait_until(look: Callable[[], T], what: str = "the condition") -> T:
    """The first true answer."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:g} s for {what}"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def open_interpreter() -> Path:
    """A CPython that every user of this machine can start."""
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        for folder in ("/usr/bin", "/usr/local/bin"):
            path = Path(folder, name)
            if path.exists() and reachable(path):
                return path
    pytest.skip("no Python here that other users can start")


def model_interpreter() -> Path:
    """The Python of the tests; another one where its folders are closed to the users of models."""
    ours = Path(sys.executable)
    if why_not_separate_users() or not obstacle([], [*interpreter_files(ours)]):
        return ours
    return open_interpreter()


class SupervisorHarness:
    """``marker`` is in the environment of everything started: how leftovers are found."""

    def __init__(self) -> None:
        self.home = Home(Path(tempfile.mkdtemp(dir="/tmp", prefix="hv")))
        self.client = SupervisorClient(self.home.supervisor_socket)
        self.marker = f"HAVRE_TEST_HOME={self.home.root}"
        self._programs: list[subprocess.Popen[str]] = []

    def launch(self, *options: str, wait: bool = True, before: str = "") -> subprocess.Popen[str]:
        """Start the supervisor; with ``wait``, until it answers. ``before``: code it runs first."""
        module = ["-m", "havre.supervisor"]
        if before:
            run = "import runpy; runpy.run_module('havre.supervisor', run_name='__main__')"
            module = ["-c", f"{before}\n{run}"]
        options = options or ("--port", "0")
        program = subprocess.Popen(
            [sys.executable, *module, "--home", str(self.home.root), *options],
            stderr=subprocess.PIPE,
            close_fds=False,
            text=True,
            env={**os.environ, "HAVRE_TEST_HOME": str(self.home.root)},
        )
        self._programs.append(program)
        if wait:
            wait_until(lambda: self.answers() or program.poll() is not None, "the supervisor")
            assert program.poll() is None, program.communicate()[1]
        return program

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except Exception:
            return False

    def server(self) -> dict[str, object]:
        described: dict[str, object] = json.loads(self.home.server_file.read_text())
        return described

    def crash(self) -> None:
        """SIGKILL the supervisor."""
        self._programs[-1].kill()
        self._programs[-1].wait()

    def spec(
        self,
        name: str,
        *argv: str,
        listen: tuple[str, ...] = (),
        restart: Restart = Restart.NEVER,
        stop_grace_s: float = 5.0,
    ) -> ProcessSpec:
        return ProcessSpec(
            name=name,
            argv=argv,
            environment={"HAVRE_TEST_HOME": str(self.home.root), "PATH": os.environ["PATH"]},
            folder=str(self.home.root),
            log=str(self.home.logs / f"{name}.log"),
            listen=listen,
            restart=restart,
            stop_grace_s=stop_grace_s,
        )

    def python(self, name: str, code: str, **options: object) -> ProcessSpec:
        return self.spec(name, sys.executable, "-S", "-c", code, **options)  # type: ignore[arg-type]

    def log(self, name: str) -> str:
        path = self.home.logs / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def status(self, name: str) -> ProcessStatus:
        status = self.client.inspect(name)
        assert status is not None
        return status

    def wait_for(self, name: str, phase: Phase) -> ProcessStatus:
        return wait_until(
            lambda: status if (status := self.status(name)).phase is phase else None,
            f"{name} to be {phase}",
        )

    def leftovers(self) -> list[int]:
        """Pids of living processes that were started here, supervisors included.

        They carry the marker, or (the load balancer has no environment) name the home.
        """
        marker, home = self.marker.encode(), os.fsencode(self.home.root)
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or not runs(int(entry)):
                continue
            try:
                environment = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if marker in environment or (home in command and int(entry) != os.getpid()):
                found.append(int(entry))
        return found

    def close(self) -> None:
        while left := self.leftovers():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            for program in self._programs:
                program.poll()
        for program in self._programs:
            program.wait()
            if program.stderr:
                program.stderr.close()
        shutil.rmtree(self.home.root, ignore_errors=True)
        shutil.rmtree(self.home.run, ignore_errors=True)


@pytest.fixture
def harness() -> Iterator[SupervisorHarness]:
    harness = SupervisorHarness()
    yield harness
    harness.close()
