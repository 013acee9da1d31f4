"""Runs an artifact for a moment as an instance runs it: the real keeper, one copy,
a real request.

It is confined as an instance is, so that it can change nothing in the artifact and does not outlive
the command: artifacts of strangers can be tried. What fails here fails a deployment with the same
message.
"""

import http.client
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from havre import temporary
from havre.domain.errors import EngineFault
from havre.domain.instance import CheckRequest, InstanceSpec
from havre.domain.workload import PythonWorkload
from havre.engines import checks, copy_code, endings, keeper_protocol
from havre.engines.confinement import InstancePaths, Permissions, confinement_for, own_variables
from havre.engines.java import java_variables
from havre.home import Home
from havre.supervisor import confined
from havre.supervisor.confined import Confined
from havre.supervisor.protocol import Confinement, ProcessSpec
from havre.supervisor.reach import max_memory_bytes, unique
from havre.supervisor.spawn import SpawnFault
from havre.trees import everything_below, let_others_read
from havre.unprivileged import unreachable_part, why_not_separate_users

STOP_GRACE_S = 5.0
LOG_TAIL_LINES = 12
LOG = "predict.log"

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class TrialResponse:
    status: int
    body: str


class KeeperTrial:
    """A started keeper; it ends with the ``with`` that started it.

    ``notes``: what of its confinement this machine cannot enforce, and why.
    """

    def __init__(
        self, process: Confined, folder: Path, limit_s: float, notes: tuple[str, ...]
    ) -> None:
        self.notes = notes
        self._process = process
        self._folder = folder
        self._limit_s = limit_s

    def failure(self) -> str:
        """Wait until the model is loaded; why it was not, or empty."""
        deadline = time.monotonic() + self._limit_s
        while time.monotonic() < deadline:
            # Asked first: once it has ended, the file has its last state.
            has_ended = self._process.wait(_POLL_S) is not None
            state = keeper_protocol.read_state(self._folder / "state" / "state.json")
            if state is not None and state.phase == keeper_protocol.FAILED:
                return state.reason
            if state is not None and state.phase == keeper_protocol.READY and state.ready > 0:
                return ""
            if has_ended:
                last = endings.last_line_of(self._log().splitlines())
                return f"Python ended while loading; its log ends with: {last}"
        return f"the model was not loaded within {self._limit_s:g} s"

    def sample(self) -> CheckRequest | None:
        """The request to try that came with the artifact."""
        try:
            return checks.sample(self._folder / "i.ctl")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineFault(f"the trial's keeper does not answer: {error}") from error

    def predict(self, request: CheckRequest) -> TrialResponse:
        """The response to one request; status 0 when there is none in time."""
        with socket.socket(socket.AF_UNIX) as connected:
            connected.settimeout(self._limit_s)
            try:
                connected.connect(str(self._folder / "i.sock"))
                connection = http.client.HTTPConnection("localhost")
                connection.sock = connected
                headers = {"content-type": request.content_type}
                connection.request("POST", "/predict", request.body, headers)
                response = connection.getresponse()
                return TrialResponse(response.status, response.read().decode(errors="replace"))
            except TimeoutError:
                return TrialResponse(0, f"no response within {self._limit_s:g} s")
            except (OSError, http.client.HTTPException) as error:
                return TrialResponse(0, f"the copy ended without a response ({error})")

    def log_tail(self) -> str:
        """The end of what the model wrote: the predict log."""
        return "\n".join(self._log().splitlines()[-LOG_TAIL_LINES:])

    def _log(self) -> str:
        return (self._folder / LOG).read_text(errors="replace")


@contextmanager
def started(
    workload: PythonWorkload,
    home: Home,
    *,
    variables: Mapping[str, str],
    limit_s: float,
    permissions: Permissions = Permissions(),
) -> Iterator[KeeperTrial]:
    """Start a keeper on the workload; ``variables`` are all that its process gets.

    Raises OSError, EngineFault.
    """
    with ExitStack() as kept:
        folder = kept.enter_context(temporary.folder("verify", is_passable=True))
        interpreter = workload.interpreter
        artifact = _within_reach(workload.artifact.resolve(), folder)
        paths = InstancePaths(folder)
        spec = InstanceSpec(
            id=folder.name,
            deployment_id=folder.name,
            revision="verify",
            workload=replace(workload, artifact=artifact),
            copies=1,
            cpus=0.0,
            memory_bytes=0,
            variables=dict(variables),
            predict_timeout_s=limit_s,
            start_timeout_s=limit_s,
        )
        program = copy_code.install(home, interpreter)
        planned = confinement_for(spec, home, program, permissions)
        if planned.refusal:
            raise EngineFault(f"the trial cannot be started: {planned.refusal}")
        allowed = _moved(planned.confinement, InstancePaths(home.instances / spec.id), paths)
        paths.spec.write_text(json.dumps(keeper_protocol.spec_json(spec, paths.state_file)))
        folders = [paths.home, paths.temporary, paths.state_file.parent]
        for writable in folders:
            writable.mkdir(mode=0o700)
        if (user := allowed.user) is not None:
            for writable in folders:
                os.chown(writable, user.uid, user.gid)
            for path, mode in ((paths.spec, 0o440), (folder, 0o750)):
                os.chown(path, os.geteuid(), user.gid)
                path.chmod(mode)
        process = ProcessSpec(
            name="verify",
            argv=(str(interpreter), str(program), str(paths.spec)),
            environment={
                **spec.variables,
                **own_variables(allowed, paths),
                **java_variables(paths, spec.variables),
            },
            folder=str(paths.home),
            log=str(folder / LOG),
            listen=(str(folder / "i.sock"), str(folder / "i.ctl")),
            stop_grace_s=STOP_GRACE_S,
            confinement=allowed,
        )
        try:
            running = kept.enter_context(confined.started(process, home))
        except SpawnFault as fault:
            raise EngineFault(f"the trial did not start: {fault}") from fault
        yield KeeperTrial(running, folder, limit_s, (*planned.notes, *running.warnings))


def _moved(allowed: Confinement, stated: InstancePaths, paths: InstancePaths) -> Confinement:
    """An instance's confinement, with the trial's folders in place of the instance's."""
    theirs = [str(path) for path in stated.owned]
    return replace(
        allowed,
        memory_bytes=max_memory_bytes(),
        readable=(*allowed.readable, str(paths.folder)),
        writable=unique(
            [
                *(path for path in allowed.writable if path not in theirs),
                *(paths.home, paths.temporary, paths.state_file.parent),
            ]
        ),
        temporary=str(paths.temporary),
    )


def _within_reach(artifact: Path, folder: Path) -> Path:
    """The artifact, or a copy of it where the user of the model could not read it.

    A server would have unpacked it into the home.
    """
    if why_not_separate_users():
        return artifact
    files = (Path(path) for path, _ in everything_below(artifact))
    if not any(unreachable_part(path) for path in (artifact, *files)):
        return artifact
    copy = folder / "artifact"
    shutil.copytree(artifact, copy, symlinks=True)
    let_others_read(copy)
    folder.chmod(0o711)
    return copy
