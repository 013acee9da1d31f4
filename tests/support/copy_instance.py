"""A real keeper and its copies on Unix sockets of their own, and the promise that nothing stays."""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
DEADLINE_S = 40.0
LAUNCHER = Path(__file__).parents[2] / "src" / "havre_copy" / "launch.py"
STRICTEST = Path(__file__).parent / "strictest.py"
PREDICT = "/ocid1.test/predict"
NO_RESPONSE = (OSError, http.client.HTTPException)
STREAM = "/ocid1.test/predictWithResponseStream"
ECHO = "import os\ndef load_model():\n    return 1\n"
ECHO += (
    "def predict(data, model=load_model()):\n    return {'prediction': data, 'pid': os.getpid()}"
)
AT_GATE = """
import os, time

def wait_at(gate):
    with open(gate + ".waits", "a") as file:
        file.write("%d\\n" % os.getpid())
    while not os.path.exists(gate):
        time.sleep(0.005)
"""
"""For a score.py: ``wait_at(name)`` holds a prediction until the test opens that gate."""


def wait_until(look: Callable[[], T], what: str = "the condition", within: float = DEADLINE_S) -> T:
    """The first true result."""
    deadline = time.monotonic() + within
    while True:
        if result := look():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true in {within:g} s")
        time.sleep(0.01)


def interpreter(version: str) -> Path | None:
    """CPython of a version such as ``3.8``: on PATH or kept by pyenv."""
    if version == "{}.{}".format(*sys.version_info):
        return Path(sys.executable)
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    kept = sorted(root.glob(f"versions/{version}.*/bin/python"))
    for candidate in [*kept, *filter(None, [shutil.which(f"python{version}")])]:
        shown = subprocess.run([candidate, "-V"], capture_output=True, text=True, check=False)
        if shown.stdout.startswith(f"Python {version}."):
            return Path(candidate)
    return None


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)
        self.sock.settimeout(self.timeout)


@dataclass
class Instance:
    """One started keeper. Its folder holds the sockets, the spec, the state file and the log."""

    folder: Path
    process: subprocess.Popen[bytes]
    sent: list[str] = field(default_factory=list)
    """Paths of the requests that ``post`` has sent: whole, but perhaps not answered yet."""

    @property
    def socket_path(self) -> str:
        return str(self.folder / "i")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def state(self) -> dict[str, Any]:
        """What the state file says; empty before it exists."""
        try:
            return json.loads((self.folder / "state.json").read_text())
        except FileNotFoundError:
            return {}

    def connect(self, timeout: float = DEADLINE_S) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        # Without a timeout, or else it fails where it should wait for a place in the queue.
        connection.connect(self.socket_path)
        connection.settimeout(timeout)
        return connection

    def raw(self, request: bytes, timeout: float = DEADLINE_S) -> bytes:
        """Everything that comes back for these bytes."""
        with self.connect(timeout) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def post(
        self,
        body: Any,
        path: str = PREDICT,
        *,
        headers: dict[str, str] | None = None,
        timeout: float = DEADLINE_S,
    ) -> Response:
        """Anything but bytes goes as JSON. Raises OSError or HTTPException if there is none."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})}
        connection = _Connection(self.socket_path, timeout)
        try:
            # Whoever is refused before all of it is sent has a response all the same.
            with suppress(BrokenPipeError):
                connection.request("POST", path, payload, sent)
            self.sent.append(path)
            response = connection.getresponse()
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, lowered, response.read())
        finally:
            connection.close()

    def ask(self, op: str, **more: Any) -> dict[str, Any]:
        """One operation of the control socket."""
        with self.control() as connection:
            connection.sendall(json.dumps({"op": op, **more}).encode() + b"\n")
            return json.loads(connection.makefile().readline())

    def control(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.folder / "c"))
        connection.settimeout(DEADLINE_S)
        return connection

    def check(self, *bodies: bytes) -> list[tuple[int, bytes]]:
        """Status and body of each response, in order."""
        return [
            (response["status"], base64.b64decode(response.get("body_base64", "")))
            for response in self.check_all(*bodies)
        ]

    def check_all(self, *bodies: bytes) -> list[dict[str, Any]]:
        """The keeper's replies, one for each request."""
        requests = [{"body_base64": base64.b64encode(body).decode()} for body in bodies]
        with self.control() as connection:
            asked = {"op": "check", "requests": requests}
            connection.sendall(json.dumps(asked).encode() + b"\n")
            lines = connection.makefile()
            return [json.loads(lines.readline()) for _ in bodies]

    def ready(self, copies: int | None = None) -> "Instance":
        """Wait until all its copies take requests."""

        def look() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the keeper ended: {self.state.get('reason')}\n{self.log}")
            # While the model loads only the file answers.
            if self.state.get("phase") != "ready":
                return False
            status = self.ask("status")
            return status["ready"] >= (copies or status["copies"])

        try:
            wait_until(look, "ready copies", within=90)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None
        return self

    def failed(self) -> str:
        """Wait until the keeper gives up; why."""
        assert self.process.wait(DEADLINE_S) == 3, self.log
        assert self.state["phase"] == "failed"
        return self.state["reason"]

    def at_gate(self, gate: str = "gate") -> list[int]:
        """Pids of the copies that have come to a gate (see AT_GATE), one for each prediction."""
        try:
            return [int(line) for line in (self.folder / f"{gate}.waits").read_text().split()]
        except FileNotFoundError:
            return []

    def open_gate(self, gate: str = "gate") -> None:
        """What waits there goes on, and so does what comes later."""
        (self.folder / gate).touch()

    def connections(self) -> int:
        """How many the keeper has open: they have numbers far above those of its other files."""
        return sum(int(number) > 200 for number in os.listdir(f"/proc/{self.process.pid}/fd"))

    def copies(self) -> list[int]:
        """Pids of the keeper's children."""
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    def end(self) -> None:
        self.process.poll() is None and self.process.kill()
        self.process.wait()
        # The process group is the test's own; orphaned copies are in it.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        shutil.rmtree(self.folder)


class Launch:
    """Starts instances of a folder's worth of files."""

    def __init__(self) -> None:
        self.started: list[Instance] = []

    def __call__(
        self,
        files: dict[str, str | bytes] | str | Path,
        *,
        python: Path | None = None,
        environment: dict[str, str] | None = None,
        open_files: int | None = None,
        strictest: bool = False,
        **spec: Any,
    ) -> Instance:
        """``files`` by name, the text of score.py alone, or an artifact's folder.

        ``strictest``: confined as far as a model ever is.
        """
        folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="hv"))
        artifact = files if isinstance(files, Path) else folder / "artifact"
        if not isinstance(files, Path):
            artifact.mkdir()
            for name, content in ({"score.py": files} if isinstance(files, str) else files).items():
                data = content.encode() if isinstance(content, str) else content
                (artifact / name).parent.mkdir(exist_ok=True)
                (artifact / name).write_bytes(data)
        stated = {
            "protocol": 1,
            "instance": "testinstance",
            "deployment": "ocid1.test",
            "revision": "r1",
            "artifact": str(artifact),
            "copies": 2,
            "state_file": str(folder / "state.json"),
            **spec,
        }
        (folder / "spec.json").write_text(json.dumps(stated))
        if "output" in spec:
            (folder / spec["output"]).mkdir()
        variables = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
        variables |= {"OPENBLAS_NUM_THREADS": "1", **(environment or {})}
        with (
            socket.socket(socket.AF_UNIX) as listener,
            socket.socket(socket.AF_UNIX) as control,
            open(folder / "log", "ab") as log,
        ):
            listener.bind(str(folder / "i"))
            listener.listen(128)
            control.bind(str(folder / "c"))
            control.listen(16)
            process = subprocess.Popen(
                # A shell puts the sockets where a supervisor would: descriptors 3 and 4.
                [
                    "/bin/bash",
                    "-c",
                    f"{f'ulimit -n {open_files}; ' if open_files else ''}"
                    f"exec 8<&{listener.fileno()} 9<&{control.fileno()}; "
                    'exec 3<&8 4<&9 8<&- 9<&-; exec "$@"',
                    "sh",
                    *([sys.executable, str(STRICTEST), str(folder)] if strictest else []),
                    str(python or sys.executable),
                    str(LAUNCHER),
                    str(folder / "spec.json"),
                ],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(listener.fileno(), control.fileno()),
                start_new_session=True,
            )
        instance = Instance(folder, process)
        self.started.append(instance)
        return instance


@pytest.fixture
def launch() -> Iterator[Launch]:
    launcher = Launch()
    yield launcher
    for instance in launcher.started:
        instance.end()


def in_background(call: Callable[[], T]) -> Callable[[], T | Exception]:
    """Begin a call in a thread; the returned function waits for its result or exception."""
    result: list[T | Exception] = []

    def run() -> None:
        try:
            result.append(call())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> T | Exception:
        thread.join(DEADLINE_S)
        assert result, "the call did not end"
        return result[0]

    return wait


@contextmanager
def closed_gate(instance: Instance) -> Iterator[None]:
    """Its only copy is kept busy meanwhile, so that what is sent waits.

    predict() must hold the request ``"gate"`` at the gate of that name, and return "opened".
    """
    sent, waited = len(instance.sent), len(instance.at_gate())
    response = in_background(lambda: instance.post("gate"))
    wait_until(lambda: len(instance.at_gate()) > waited and len(instance.sent) > sent)
    try:
        yield
    finally:
        instance.open_gate()
        opened = response()
        assert isinstance(opened, Response), opened
        assert opened.json == "opened"


def all_at_once(instance: Instance, asks: list[Callable[[], T]]) -> list[T | Exception]:
    """What each ask (a single ``post``) comes to, all of them having waited for the one copy."""
    with closed_gate(instance):
        sent = len(instance.sent)
        results = [in_background(ask) for ask in asks]
        wait_until(lambda: len(instance.sent) == sent + len(asks))
        wait_until(lambda: instance.connections() == 1 + len(asks))
        instance.ask("status")  # by now the keeper has put all of them into the queue
    return [result() for result in results]
