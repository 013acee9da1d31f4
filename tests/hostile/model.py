"""A model that does whatever it is told to, and how to tell it. Standard library only: it is also
used by programs that run as another user, whose Python has nothing else.
"""

import base64
import json
import socket
from pathlib import Path

from havre.domain.instance import InstanceSpec
from havre.domain.workload import PythonWorkload
from havre.home import Home

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
DAEMON = """
import os, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writer, str(os.getpid()).encode())
        os.execve('/bin/sleep', ['sleep', '600'], {})
    os._exit(0)
answer = int(os.read(reader, 20))
"""
"""Code that starts a process which leaves its group; the answer is its pid."""
DEPLOYMENT = "ocid1.datasciencemodeldeployment.oc1.iad."


def hostile_instance(
    home: Home,
    name: str,
    interpreter: Path,
    *,
    score: str = SCORE,
    copies: int = 1,
    cpus: float = 2.0,
    memory_bytes: int = 1 << 29,
) -> InstanceSpec:
    """``name`` is one letter. The artifact lies where the catalog would unpack it."""
    artifact = home.unpacked / (name * 64)
    artifact.mkdir(exist_ok=True)
    (artifact / "score.py").write_text(score)
    return InstanceSpec(
        id=name * 12,
        deployment_id=DEPLOYMENT + name,
        revision="r1",
        workload=PythonWorkload(interpreter, "", artifact),
        copies=copies,
        cpus=cpus,
        memory_bytes=memory_bytes,
        variables={"HAVRE_TEST_HOME": str(home.root), "PATH": "/usr/bin:/bin"},
    )


class Line:
    """A connection to an instance that is kept between requests."""

    def __init__(self, path: Path) -> None:
        self._caller = socket.socket(socket.AF_UNIX)
        self._caller.settimeout(30)
        self._caller.connect(str(path))
        self._stream = self._caller.makefile("rb")

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._caller.close()

    def request(self, code: str) -> tuple[int, bytes]:
        """The status and the body of the answer; 0 when the copy died over it.

        The answer's ``prediction`` is what ``answer`` is after the code, or the error it ended
        with.
        """
        body = json.dumps({"code": base64.b64encode(code.encode()).decode()}).encode()
        self._caller.sendall(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        # Not until the end of the connection: a forked child may hold it open.
        try:
            line, length = self._stream.readline(), 0
            for header in iter(self._stream.readline, b"\r\n"):
                if not header:
                    break
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            return (int(line.split(b" ")[1]) if line else 0), self._stream.read(length)
        except ConnectionResetError:
            return 0, b""
