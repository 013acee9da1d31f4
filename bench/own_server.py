"""A server of havre's, for the measurements that are of havre alone."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.processes import parent_of
from havre.cli.configuration import DeployOptions, configuration_of
from havre.client import Client
from havre.home import Home
from havre.operate.connection import connect
from havre.packing import pack

HAVRE = Path(sys.executable).with_name("havre")
SLUG = "bench"
POLL_S = 0.002
MOST_MBPS = 8000


class OwnServer:
    """What runs in a home. ``client`` is there while it is up."""

    client: Client

    def __init__(self, home: Home) -> None:
        self.home = home

    def havre(self, *words: str) -> str:
        """What a command prints. Raises CalledProcessError."""
        command = [str(HAVRE), *words, "--home", str(self.home.root)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def up(self) -> Iterator[None]:
        self.havre("up", "--port", "0", "--detach")
        try:
            self.client = connect(self.home)
            yield
        finally:
            self.havre("down")

    def supervisor(self) -> int:
        """The process that all the others are below."""
        return parent_of(self.control_plane())

    def control_plane(self) -> int:
        return self._told("pid")

    def balancer(self) -> int:
        return self._told("balancer_pid")

    def _told(self, what: str) -> int:
        pid: int = json.loads(self.havre("status", "--json"))[what]
        return pid

    def save(self, artifact: Path) -> str:
        """The id of a model with this folder as its artifact."""
        model_id: str = self.client.create_model("bench")["id"]
        with tempfile.TemporaryDirectory(dir=self.home.root) as scratch:
            pack(artifact, Path(scratch) / "artifact.zip")
            self.client.upload_artifact(model_id, Path(scratch) / "artifact.zip")
        return model_id

    def create(self, model_id: str, *, copies: int) -> dict[str, Any]:
        """A deployment, still CREATING."""
        configuration = configuration_of(
            DeployOptions(bandwidth_mbps=MOST_MBPS, variables={"WEB_CONCURRENCY": str(copies)}),
            model_id,
        )
        return self.client.create_deployment("bench", configuration)[0]

    def wait_until_active(self, deployment: dict[str, Any]) -> None:
        while (now := self.client.deployment(deployment["id"]))["lifecycleState"] == "CREATING":
            time.sleep(POLL_S)
        if now["lifecycleState"] != "ACTIVE":
            raise SystemExit(json.dumps(now, indent=1))

    def delete(self, deployment: dict[str, Any]) -> None:
        for _ in self.client.follow(self.client.delete_deployment(deployment["id"])):
            pass


@contextmanager
def own_server(*, python: str = "", requirements: Path | None = None) -> Iterator[OwnServer]:
    """A new home whose default environment holds ``requirements`` (nothing); not up yet.

    SIGTERM ends what runs in it and removes it, too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hv") as scratch:
        server = OwnServer(Home(Path(scratch) / "home"))
        needed = requirements or Path(scratch) / "requirements.txt"
        if requirements is None:
            needed.touch()
        version = python or f"{sys.version_info.major}.{sys.version_info.minor}"
        server.havre("env", "publish", SLUG, "--requirements", str(needed), "--python", version)
        (server.home.root / "havre.toml").write_text(f'default_environment = "{SLUG}"\n')
        yield server


def write_artifact(folder: Path, score: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "score.py").write_text(score)
    return folder


def predict(deployment: dict[str, Any], body: str, http: httpx.Client) -> Any:
    """The answer. Raises httpx.HTTPStatusError."""
    answer = http.post(
        f"{deployment['modelDeploymentUrl']}/predict",
        content=body,
        headers={"content-type": "application/json"},
    )
    return answer.raise_for_status().json()
