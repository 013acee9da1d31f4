"""Runs an artifact for a moment as an instance runs it: the real keeper, one copy, a real request.

It may read and write the files that an instance may, and so changes nothing in the artifact. What
is found here is, word for word, what a deployment would report.
"""

import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import havre
from havre.domain.errors import EngineFault
from havre.domain.instance import CheckRequest, InstanceSpec
from havre.engines import checks, keeper
from havre.engines.confinement import plan
from havre.engines.launcher import install
from havre.environments.definition import BuiltEnvironment
from havre.home import Home
from havre.reconciler.variables import model_variables

STOP_GRACE_S = 5.0
LOG_TAIL_LINES = 12

_POLL_S = 0.05
_FREE = 10  # descriptors below are the keeper's
_BECOME = """
import json, os, sys
listener, control, ours, allowed, *command = sys.argv[1:]
sys.path.insert(0, ours)
from havre.supervisor import landlock
from havre.supervisor.confinement import file_rules
from havre.supervisor.protocol import Confinement
from havre.supervisor.system_calls import PR_SET_NO_NEW_PRIVS, prctl
os.dup2(int(listener), 3)
os.dup2(int(control), 4)
# Where files cannot be restricted a deployment's are not either, which the server tells.
rules = file_rules(Confinement.from_json(json.loads(allowed)), warn=lambda _: None)
if rules is not None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    landlock.obey(rules)
os.execv(command[0], command)
"""
_OURS = str(Path(havre.__file__).parent.parent)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: str


class Trial:
    """A keeper that has been started; it ends with the ``with`` that began it."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path, limit_s: float) -> None:
        self._process = process
        self._folder = folder
        self._limit_s = limit_s

    def failure(self) -> str:
        """Wait until the model is loaded; why it was not, or empty."""
        deadline = time.monotonic() + self._limit_s
        while time.monotonic() < deadline:
            state = keeper.read_state(self._folder / "state.json")
            if state is not None and state.phase == keeper.FAILED:
                return state.reason
            if state is not None and state.phase == keeper.READY and state.ready > 0:
                return ""
            if _has_ended(self._process):
                last = self.log_tail().rpartition("\n")[2]
                return f"Python ended while loading; its log ends with: {last}"
            time.sleep(_POLL_S)
        return f"the model was not loaded within {self._limit_s:g} s"

    def sample(self) -> CheckRequest | None:
        """The request to try that came with the artifact."""
        try:
            return checks.sample(self._folder / "i.ctl")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineFault(f"the trial's keeper does not answer: {error}") from error

    def predict(self, request: CheckRequest) -> Answer:
        """The answer to one request; status 0 when there is none in time."""
        with socket.socket(socket.AF_UNIX) as connected:
            connected.settimeout(self._limit_s)
            try:
                connected.connect(str(self._folder / "i.sock"))
                connection = http.client.HTTPConnection("localhost")
                connection.sock = connected
                headers = {"content-type": request.content_type}
                connection.request("POST", "/predict", request.body, headers)
                answer = connection.getresponse()
                return Answer(answer.status, answer.read().decode(errors="replace"))
            except TimeoutError:
                return Answer(0, f"no answer within {self._limit_s:g} s")
            except (OSError, http.client.HTTPException) as error:
                return Answer(0, f"the copy ended without an answer ({error})")

    def log_tail(self) -> str:
        """The end of what the model wrote: the predict log."""
        text = (self._folder / "predict.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])


@contextmanager
def started(
    artifact: Path, built: BuiltEnvironment, home: Home, *, limit_s: float
) -> Iterator[Trial]:
    """Start a keeper on the artifact in its environment. Raises OSError."""
    with ExitStack() as kept:
        folder = Path(tempfile.mkdtemp(prefix="havre-verify-"))
        kept.callback(shutil.rmtree, folder, ignore_errors=True)
        sockets = [kept.enter_context(_listen(folder / name)) for name in ("i.sock", "i.ctl")]
        spec = InstanceSpec(
            id="verify",
            deployment_id="verify",
            revision="verify",
            artifact=artifact.resolve(),
            interpreter=built.interpreter,
            copies=1,
            cpus=1.0,
            memory_bytes=0,
            environment=model_variables(
                deployment_id="verify",
                tenancy_id="verify",
                python_version=built.python_version,
                interpreter=built.interpreter,
                user={},
            ),
            predict_timeout_s=limit_s,
            start_timeout_s=limit_s,
        )
        (folder / "spec.json").write_text(json.dumps(keeper.spec_json(spec, folder / "state.json")))
        (folder / "tmp").mkdir()
        launcher = install(home)
        allowed = plan(spec, home, launcher).confinement
        allowed = replace(
            allowed,
            readable=(*allowed.readable, str(folder)),
            writable=(*allowed.writable, str(folder)),
        )
        log = kept.enter_context((folder / "predict.log").open("wb"))
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", _BECOME, *(str(each) for each in sockets)),
                *(_OURS, json.dumps(asdict(allowed))),
                *(str(built.interpreter), str(launcher), str(folder / "spec.json")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**spec.environment, "HOME": str(folder), "TMPDIR": str(folder / "tmp")},
            pass_fds=sockets,
            start_new_session=True,
        )
        kept.callback(_end, process)
        yield Trial(process, folder, limit_s)


@contextmanager
def _listen(path: Path) -> Iterator[int]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        descriptor = fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, _FREE)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the keeper and all that it or the model started in its session."""
    deadline = time.monotonic() + STOP_GRACE_S
    os.killpg(process.pid, signal.SIGTERM)
    while not _has_ended(process) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Without reaping it: its number stays its own, and its group's."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
