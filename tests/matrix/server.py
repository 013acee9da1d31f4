"""A server of havre on one machine of the matrix, and a model there that tells what it sees."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.matrix.rows import Row
from tests.support.supervisor_harness import runs, wait_until

from havre.auth.identity import load_or_create
from havre.cli.configuration import DeployOptions, configuration_of
from havre.client import Client
from havre.home import Home
from havre.packing import pack
from havre.supervisor.client import SupervisorClient

ROOT = Path(__file__).parents[2]
LAUNCHER = Path(__file__).with_name("launcher.py")
HAVRE = Path(sys.executable).with_name("havre")
NEEDED_BY_ALL = (ROOT, Path(sys.prefix), Path(sys.base_prefix))
ORDINARY = 64202
COMMAND_LIMIT_S = 120
SLUG = "matrix"

SCORE = """
import os

def load_model():
    return {version}

def predict(data, model=load_model()):
    return {{"prediction": model * data["number"], "sees": sees(data)}}

def sees(data):
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
    return {{
        "user": os.getuid(),
        "capabilities": int(status["CapEff"], 16),
        "filters": int(status["Seccomp_filters"]),
        "view": os.readlink("/proc/self/ns/mnt"),
        "groups": open("/proc/self/cgroup").read(),
        "open to all": reads(data["open to all"]),
        "the server's": reads(data["the server's"]),
    }}

def reads(path):
    try:
        return open(path).read()
    except OSError:
        return ""
"""


class MatrixServer:
    """One home. ``environments`` is the folder of another home's, with the model's published."""

    def __init__(self, row: Row, environments: Path) -> None:
        # Not pytest's folder: a socket's path has 107 bytes, and other users pass through it.
        self.home = Home(Path(tempfile.mkdtemp(dir="/tmp", prefix="hv")))
        self.row = row
        self.readable = self.home.root.with_name(f"{self.home.root.name}.txt")
        self.readable.write_text("of others")
        self.readable.chmod(0o644)
        self._machine = {
            "reachable": [*map(str, NEEDED_BY_ALL)] if self._is_other else [],
            "writable": [str(self.home.root)],
            **row.machine(),
            **({"uid": ORDINARY} if self._is_other else {}),
        }
        self._environment = {
            **{name: value for name, value in os.environ.items() if _is_passed_on(name)},
            "HOME": str(self.home.root),
            "HAVRE_DEFAULT_ENVIRONMENT": SLUG,
            "NO_COLOR": "1",
        }
        shutil.copytree(environments, self.home.environments)
        if self._is_other:
            for path in (self.home.root, *self.home.root.rglob("*")):
                os.chown(path, ORDINARY, ORDINARY)

    @property
    def _is_other(self) -> bool:
        """Whether it runs as somebody else than the tests."""
        return self.row.user == "ordinary" and os.geteuid() == 0

    def havre(
        self, *words: str, check: bool = True, machine: dict[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on that machine, or on another."""
        machine = self._machine if machine is None else machine
        done = subprocess.run(
            [
                *(sys.executable, str(LAUNCHER), json.dumps(machine)),
                *(str(HAVRE), *words, "--home", str(self.home.root)),
            ],
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=COMMAND_LIMIT_S,
            check=False,
            cwd="/",
        )
        if check and done.returncode != 0:
            raise AssertionError(f"havre {words}: {done.stderr}\n{done.stdout}\n{self._logs()}")
        return done

    def up(self) -> None:
        self.havre("up", "--port", "0", "--detach")
        identity = load_or_create(self.home)
        self.client = Client(
            json.loads(self.home.server_file.read_text())["url"],
            compartment_id=identity.tenancy_ocid,
            project_id=identity.project_ocid,
        )

    def close(self) -> None:
        """Stop it, and look for what it left."""
        try:
            processes = [
                json.loads(path.read_text())["identity"]["pid"]
                for path in self.home.processes.glob("*.json")
            ]
            self.havre("down")
            wait_until(lambda: not any(map(runs, processes)), "the end of everything")
            assert list(self.home.processes.iterdir()) == []
        finally:
            shutil.rmtree(self.home.root, ignore_errors=True)
            self.readable.unlink()

    def doctor(self) -> dict[str, dict[str, str]]:
        """Its rows by what they check."""
        told = self.havre("doctor", "--json", check=False).stdout
        return {row["check"]: row for row in json.loads(told)}

    def deploy(self) -> tuple[str, list[str]]:
        """The id of an active deployment, and the log of how it became that."""
        deployment, work_request = self.client.create_deployment("m", self._configuration(1))
        return deployment["id"], self._follow(work_request)

    def swap(self, deployment_id: str) -> list[str]:
        """Another model in place of the first."""
        work_request = self.client.update_deployment(deployment_id, self._configuration(2))
        return self._follow(work_request)

    def predict(self, deployment_id: str, number: int) -> dict[str, Any]:
        asked = {
            "number": number,
            "open to all": str(self.readable),
            "the server's": str(self.home.server_file),
        }
        body = json.dumps(asked).encode()
        answer: dict[str, Any] = json.loads(
            self.client.predict(deployment_id, body, "application/json")
        )
        return answer

    def pid(self, name: str) -> int:
        """Of one of its processes."""
        status = SupervisorClient(self.home.supervisor_socket).inspect(name)
        return 0 if status is None else status.pid

    @property
    def view(self) -> str:
        """The mount namespace of the server itself."""
        pid = json.loads(self.home.server_file.read_text())["supervisor"]["pid"]
        return os.readlink(f"/proc/{pid}/ns/mnt")

    @property
    def filters(self) -> int:
        """How many filters of calls the machine itself has."""
        pid = json.loads(self.home.server_file.read_text())["supervisor"]["pid"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Seccomp_filters")).split()[1])

    def _configuration(self, version: int) -> dict[str, Any]:
        model = self.client.create_model(f"m{version}")
        with tempfile.TemporaryDirectory() as scratch:
            folder, archive = Path(scratch, "m"), Path(scratch, "m.zip")
            folder.mkdir()
            (folder / "score.py").write_text(SCORE.format(version=version))
            pack(folder, archive)
            self.client.upload_artifact(model["id"], archive)
        return configuration_of(DeployOptions(variables={"WEB_CONCURRENCY": "1"}), model["id"])

    def _follow(self, work_request: str) -> list[str]:
        answers = list(self.client.follow(work_request))
        told = [line for _, lines in answers for line in lines]
        assert answers[-1][0]["status"] == "SUCCEEDED", (told, self._logs())
        return told

    def _logs(self) -> str:
        parts = []
        for log in sorted(self.home.logs.glob("**/*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            parts.append(f"--- {log.relative_to(self.home.root)}\n{tail}")
        return "\n".join(parts)


@contextmanager
def asking(ask: Callable[[], None]):
    """Ask all the while; yields what went wrong, and how many were answered."""
    failed: list[str] = []
    answered: list[int] = []
    ended = threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            try:
                ask()
                answered.append(1)
            except (Exception, httpx.HTTPError) as error:
                failed.append(repr(error))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield failed, answered
    finally:
        ended.set()
        thread.join()


def _is_passed_on(name: str) -> bool:
    return not name.startswith(("HAVRE_", "XDG_", "PYENV_", "PYTHON"))
