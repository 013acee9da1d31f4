"""A server whose processes a test looks at and kills, with models that need no packages.

``from tests.e2e.operated_server import operated`` makes the fixture known to a module.
"""

import contextlib
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from tests.e2e.havre_server import HavreServer

from havre.auth.identity import load_or_create
from havre.balancer.envoy.admin import Admin
from havre.cli.configuration import DeployOptions, configuration_of
from havre.client import API, ApiError, Client
from havre.domain.deployment import DEFAULT_BANDWIDTH_MBPS
from havre.engines import keeper_protocol
from havre.engines.keeper_protocol import KeeperState
from havre.home import Home
from havre.operate import bringup
from havre.packing import pack
from havre.supervisor.client import SupervisorClient
from havre.supervisor.protocol import ProcessStatus

SLUG = "plain"
SHAPE_COPIES = 2
"""Copies per instance of the shape they ask for: 1 OCPU."""
DEADLINE_S = 60.0
POLL_S = 0.02

# What it is told in the request, it does; MARK tells configurations apart.
TROUBLED = """
import ctypes
import os
import signal
import sys
import time

CHILL = ctypes.PyDLL(None)  # its functions are called with the interpreter's lock held


def load_model():
    return os.environ.get("MARK", "")


def predict(data, model=load_model()):
    time.sleep(data.get("sleep", 0))
    act = data.get("act")
    if act == "raise":
        raise ValueError("no such iris %s" % data["echo"])
    if act == "leave":
        os._exit(7)
    if act == "exit":
        sys.exit(7)
    if act == "hang":
        while True:
            time.sleep(3600)
    if act == "hang in C":
        CHILL.sleep(3600)
    if act == "crash":
        ctypes.string_at(0)
    if act == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "stream":
        return parts(data["pauses"])
    return {"echo": data.get("echo"), "mark": model, "filling": "x" * data.get("filling", 0)}


def parts(pauses):
    for number, pause in enumerate(pauses):
        time.sleep(pause)
        yield {"part": number}
"""


class OperatedServer:
    """``settings`` are ``HAVRE_*`` variables. Many changes are made here: none waits for long."""

    def __init__(self, **settings: str) -> None:
        usual = {"HAVRE_DEFAULT_ENVIRONMENT": SLUG, "HAVRE_MIN_READY_S": "0.2"}
        self.server = HavreServer({**usual, **settings})
        self.home = Home(self.server.home)
        self.supervisor = SupervisorClient(self.home.supervisor_socket)
        self.balancer = Admin(self.home.balancer_socket)
        self.client: Client

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> None:
        """Publish the environment of the models, and come up."""
        with tempfile.NamedTemporaryFile(suffix=".txt") as nothing:
            python = f"{sys.version_info.major}.{sys.version_info.minor}"
            words = ("--requirements", nothing.name, "--python", python)
            self.server.havre("env", "publish", SLUG, *words)
        self.server.up()
        identity = load_or_create(self.home)
        self.client = Client(
            self.url, compartment_id=identity.tenancy_ocid, project_id=identity.project_ocid
        )

    def up_again(self) -> None:
        """`havre up` where it was."""
        port = urlsplit(self.url).port
        self.server.havre("up", "--port", str(port), "--detach")

    # Deployments.

    def save(self, score: str = TROUBLED, *, sample: str = "") -> str:
        """A model in the catalog, with a test_input.json if one is given; its OCID."""
        with tempfile.TemporaryDirectory(prefix="hv") as folder:
            (Path(folder) / "artifact").mkdir()
            (Path(folder) / "artifact" / "score.py").write_text(score)
            if sample:
                (Path(folder) / "artifact" / "test_input.json").write_text(sample)
            archive = Path(folder) / "artifact.zip"
            pack(Path(folder) / "artifact", archive)
            return self.save_archive(archive)

    def save_archive(self, archive: Path) -> str:
        model_id: str = self.client.create_model("model")["id"]
        self.client.upload_artifact(model_id, archive)
        return model_id

    def create(self, model_id: str, **choices: Any) -> tuple[str, str]:
        """Ask for a deployment; its OCID and its work request's."""
        deployment, work_request = self.client.create_deployment(
            "failing", configuration(model_id, **choices)
        )
        return deployment["id"], work_request

    def deploy(self, score: str = TROUBLED, **choices: Any) -> str:
        """An ACTIVE deployment; its OCID. Choices: instances, bandwidth_mbps, variables."""
        deployment_id, work_request = self.create(self.save(score), **choices)
        assert self.end_of(work_request)["status"] == "SUCCEEDED", self.server.tell_logs()
        return deployment_id

    def update(self, deployment_id: str, model_id: str, **choices: Any) -> None:
        """Change it and wait for the success of it."""
        work_request = self.client.update_deployment(
            deployment_id, configuration(model_id, **choices)
        )
        assert self.end_of(work_request)["status"] == "SUCCEEDED", self.server.tell_logs()

    def ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """A call of the API. Raises ApiError when it is refused."""
        where = f"{self.url}{API}{path}"
        answer = httpx.request(method, where, timeout=60, trust_env=False, **sent)
        if not answer.is_success:
            raise ApiError(answer.status_code, answer.json()["code"], answer.json()["message"])
        return answer

    def change(self, deployment_id: str, **wishes: Any) -> str:
        """Ask for an update of these parts alone (see partly()); its work request."""
        answer = self.ask("PUT", f"/modelDeployments/{deployment_id}", json=partly(**wishes))
        return answer.headers["opc-work-request-id"]

    def delete(self, deployment_id: str) -> None:
        work_request = self.client.delete_deployment(deployment_id)
        assert self.end_of(work_request)["status"] == "SUCCEEDED", self.server.tell_logs()

    def end_of(self, work_request: str) -> dict[str, Any]:
        """The work request once it has ended, with its log's last line as ``reason``."""
        reason = ""
        for seen, lines in self.client.follow(work_request):
            request, reason = seen, lines[-1] if lines else reason
        return {**request, "reason": reason}

    def answers(self, deployment_id: str) -> bool:
        """Whether a prediction succeeds, of any of these models."""
        try:
            where = f"{self.url}/{deployment_id}/predict"
            answer = httpx.post(where, json={"echo": 1}, timeout=10, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def state(self, deployment_id: str) -> str:
        return str(self.client.deployment(deployment_id)["lifecycleState"])

    # Processes.

    def processes(self) -> dict[str, ProcessStatus]:
        return {status.name: status for status in self.supervisor.list()}

    def supervisor_pid(self) -> int:
        return int(self.supervisor.ping()["supervisor"]["pid"])

    def pids(self) -> dict[str, int]:
        return {name: status.pid for name, status in self.processes().items()}

    def instances(self, deployment_id: str) -> list[str]:
        found = []
        for spec in self.home.instances.glob("*/spec.json"):
            with contextlib.suppress(OSError, ValueError):  # it may go away meanwhile
                if json.loads(spec.read_text())["deployment"] == deployment_id:
                    found.append(spec.parent.name)
        return sorted(found)

    def keeper(self, instance_id: str) -> KeeperState:
        """What its keeper says of it. Raises AssertionError when it does not respond."""
        state = keeper_protocol.ask(self.home.instance_sockets / f"{instance_id}.ctl", "status")
        assert state is not None, f"the keeper of {instance_id} does not respond"
        return state

    def keeper_of(self, deployment_id: str) -> KeeperState:
        """The same for a deployment of one instance."""
        [instance_id] = self.instances(deployment_id)
        return self.keeper(instance_id)

    def copies(self, deployment_id: str) -> list[psutil.Process]:
        """The processes forked from its keepers."""
        pids = self.pids()
        return [
            child
            for instance_id in self.instances(deployment_id)
            for child in psutil.Process(pids[f"i-{instance_id}"]).children(recursive=True)
        ]

    def is_healthy(self) -> bool:
        """Whether the API answers."""
        return bringup.is_healthy(self.url)

    def hold_the_database(self) -> contextlib.closing[sqlite3.Connection]:
        """Take SQLite's one write lock, as a backup or a curious administrator would."""
        holder = sqlite3.connect(self.home.database, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        return contextlib.closing(holder)


def configuration(
    model_id: str, *, bandwidth_mbps: int = DEFAULT_BANDWIDTH_MBPS, **choices: Any
) -> dict[str, Any]:
    """What a create or update of a client of the API sends."""
    return configuration_of(DeployOptions(bandwidth_mbps=bandwidth_mbps, **choices), model_id)


def partly(
    *,
    model_id: str | None = None,
    shape: str | None = None,
    ocpus: float | None = None,
    memory_gb: float | None = None,
    instances: int | None = None,
    bandwidth_mbps: int | None = None,
    variables: dict[str, str] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """An update that leaves alone what is None. ``fields`` are the API's, in its spelling."""
    told = {
        "modelConfigurationDetails": {
            "modelId": model_id,
            "instanceConfiguration": {
                "instanceShapeName": shape,
                "modelDeploymentInstanceShapeConfigDetails": {
                    "ocpus": ocpus,
                    "memoryInGBs": memory_gb,
                },
            },
            "scalingPolicy": {"policyType": "FIXED_SIZE", "instanceCount": instances},
            "bandwidthMbps": bandwidth_mbps,
        },
        "environmentConfigurationDetails": {"environmentVariables": variables},
    }
    return {"modelDeploymentConfigurationDetails": told, **fields}


def wait_for(what: str, condition: Callable[[], Any], *, within_s: float = DEADLINE_S) -> Any:
    """Poll until it holds; its value. Fails the test, naming ``what``, at the deadline."""
    end = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {within_s:g} s")
        time.sleep(POLL_S)
    return value


@pytest.fixture(scope="module")
def operated() -> Iterator[OperatedServer]:
    """One server for a module; what it leaves behind when it goes down fails the test."""
    server = OperatedServer()
    try:
        server.start()
        yield server
    finally:
        server.server.down()
