"""A model that does whatever it is told to: what a hostile score.py could do, seen from outside."""

import base64
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor_bench import SupervisorBench, wait_until

from havre.domain.instance import InstanceSpec, InstanceStatus
from havre.engines.process import ProcessEngine
from havre.unprivileged import reachable

SCORE = """
import base64, os
def load_model():
    return {}
def predict(data, model=load_model()):
    told = {}
    try:
        exec(base64.b64decode(data["code"]).decode(), told)
    except BaseException as error:
        return {"prediction": "%s: %s" % (type(error).__name__, error)}
    return {"prediction": told.get("answer")}
"""
DEPLOYMENT = "ocid1.datasciencemodeldeployment.oc1.iad."


def open_interpreter() -> Path:
    """A CPython that every user of this machine can start."""
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        for folder in ("/usr/bin", "/usr/local/bin"):
            path = Path(folder, name)
            if path.exists() and reachable(path):
                return path
    pytest.skip("no Python here that other users can start")


class IsolationBench:
    """Instances of a home, each of a deployment of its own, each doing what it is told."""

    def __init__(self, bench: SupervisorBench) -> None:
        bench.launch()
        self.supervised = bench
        self.home = bench.home
        self.engine = ProcessEngine(bench.home, bench.client)

    def spec(
        self,
        name: str,
        *,
        interpreter: Path | None = None,
        score: str = SCORE,
        copies: int = 1,
        cpus: float = 2.0,
        memory_bytes: int = 1 << 29,
    ) -> InstanceSpec:
        """``name`` is one letter; the artifact lies where the catalog would unpack it."""
        artifact = self.home.unpacked / (name * 64)
        artifact.mkdir(exist_ok=True)
        (artifact / "score.py").write_text(score)
        return InstanceSpec(
            id=name * 12,
            deployment_id=DEPLOYMENT + name,
            revision="r1",
            artifact=artifact,
            interpreter=interpreter or open_interpreter(),
            copies=copies,
            cpus=cpus,
            memory_bytes=memory_bytes,
            environment={"HAVRE_TEST_HOME": str(self.home.root), "PATH": "/usr/bin:/bin"},
        )

    def run(self, name: str, **options: Any) -> "Model":
        spec = self.spec(name, **options)
        self.engine.start(spec)

        def ready() -> InstanceStatus | None:
            status = self.engine.inspect(spec.id)
            assert status.phase.value != "FAILED", (status.reason, self.log(spec.id))
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

    def does(self, code: str) -> Any:
        """What ``answer`` is after the code, or the error it ended with, as text."""
        status, answer = self.request(code)
        assert status == 200, (status, answer, self.log())
        return json.loads(answer)["prediction"]

    def request(self, code: str) -> tuple[int, bytes]:
        """The status and the body; 0 when the copy died over it."""
        body = json.dumps({"code": base64.b64encode(code.encode()).decode()}).encode()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(30)
            caller.connect(str(self.status.socket))
            caller.sendall(
                b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)
            )
            # Not until the end of the connection: a forked child may hold it open.
            try:
                with caller.makefile("rb") as stream:
                    line, length = stream.readline(), 0
                    for header in iter(stream.readline, b"\r\n"):
                        if not header:
                            break
                        if header.lower().startswith(b"content-length:"):
                            length = int(header.split(b":")[1])
                    return (int(line.split(b" ")[1]) if line else 0), stream.read(length)
            except ConnectionResetError:
                return 0, b""

    def log(self) -> str:
        return self._bench.log(self.spec.id)

    def now(self) -> InstanceStatus:
        return self._bench.engine.inspect(self.spec.id)
