"""Instances as processes of this machine: a keeper each, started through the supervisor.

Nothing is remembered here. What runs is asked of the supervisor, how it fares of the keeper, and
what was wanted is read from the instance's folder: so a new control plane knows as much.
"""

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from havre import durable
from havre.domain import instance_logs
from havre.domain.errors import EngineFault
from havre.domain.instance import (
    CheckAnswer,
    CheckRequest,
    InstanceSpec,
    InstanceStatus,
    RecordedRequest,
)
from havre.domain.policy import Capture
from havre.domain.states import InstancePhase
from havre.engines import checks, confinement, keeper, launcher, output
from havre.engines.confinement import Places, Plan
from havre.engines.keeper import KeeperState
from havre.home import Home
from havre.supervisor.client import Supervisor
from havre.supervisor.protocol import Phase, ProcessSpec, ProcessStatus

PREFIX = "i-"
STOP_GRACE_S = 1.0
"""Who is stopped is idle, or is not waited for any longer."""
SHUTDOWN_GRACE_S = 10.0
START_MARGIN_S = 2.0
"""Beyond the time limit that the keeper itself enforces, for models that hang in C."""
LOG_TAIL_BYTES = 4096


class ProcessEngine:
    """Implements `Engine` on one home."""

    def __init__(self, home: Home, supervisor: Supervisor) -> None:
        self._home = home
        self._supervisor = supervisor

    def start(self, spec: InstanceSpec) -> None:
        process = self._supervisor.inspect(PREFIX + spec.id)
        if process is not None:
            if self._status(spec.id, process).phase not in (
                InstancePhase.FAILED,
                InstancePhase.GONE,
            ):
                return
            self._supervisor.stop(PREFIX + spec.id, grace_s=STOP_GRACE_S)
        try:
            program = launcher.install(self._home)
            launcher.compile_for(spec.interpreter, program)
            plan = confinement.plan(spec, self._home, program)
            self._prepare(spec, plan)
        except OSError as error:
            raise EngineFault(f"instance {spec.id} cannot be prepared: {error}") from error
        self._supervisor.start(self._process_spec(spec, plan, program))

    def inspect(self, instance_id: str) -> InstanceStatus:
        return self._status(instance_id, self._supervisor.inspect(PREFIX + instance_id))

    def instances(self) -> list[InstanceStatus]:
        processes = {
            process.name.removeprefix(PREFIX): process
            for process in self._supervisor.list()
            if process.name.startswith(PREFIX)
        }
        # A folder without a process is what a crash between the two leaves.
        folders = (path.name for path in self._home.instances.iterdir() if path.is_dir())
        known = sorted({*processes, *folders})
        return [self._status(instance_id, processes.get(instance_id)) for instance_id in known]

    def stop(self, instance_id: str) -> None:
        self._supervisor.stop(PREFIX + instance_id, grace_s=STOP_GRACE_S)
        try:
            for path in (self._socket(instance_id), self._control(instance_id)):
                path.unlink(missing_ok=True)
            self._remove(instance_id)
        except OSError as error:
            raise EngineFault(
                f"the files of instance {instance_id} cannot be removed: {error}"
            ) from error

    def check(self, instance_id: str, requests: Sequence[CheckRequest]) -> list[CheckAnswer]:
        with self._ready_keeper(instance_id) as control:
            return list(checks.check(control, requests, limit_s=self._check_limit_s(instance_id)))

    def sample(self, instance_id: str) -> CheckRequest | None:
        with self._ready_keeper(instance_id) as control:
            return checks.sample(control)

    def record(self, instance_id: str, most: int) -> None:
        with self._ready_keeper(instance_id) as control:
            checks.record(control, most)

    def recorded(self, instance_id: str) -> list[RecordedRequest]:
        with self._ready_keeper(instance_id) as control:
            return checks.recorded(control)

    def capture(self, instance_id: str, wanted: Capture) -> None:
        with self._ready_keeper(instance_id) as control:
            checks.capture(control, wanted)

    def changes(self) -> Iterator[str]:
        for process in self._supervisor.watch():
            if process.name.startswith(PREFIX):
                yield process.name.removeprefix(PREFIX)

    # Starting.

    def _prepare(self, spec: InstanceSpec, plan: Plan) -> None:
        """Its folders. What the engine reads again stays ours: the model could forge it."""
        places = self._places(spec.id)
        self._home.instance_logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove(spec.id)
        places.folder.mkdir(mode=0o700, parents=True)
        output.begin(self._home.instance_logs, spec)
        told = keeper.spec_json(spec, places.state_file, places.output)
        told["confinement_notes"] = plan.notes
        durable.write_file(places.spec, json.dumps(told).encode())
        for folder in places.owned:
            folder.mkdir(mode=0o700)
        if (user := plan.confinement.user) is not None:
            for folder in places.owned:
                os.chown(folder, user.uid, user.gid)
            for path, mode in ((places.spec, 0o440), (places.folder, 0o550)):
                os.chown(path, 0, user.gid)
                path.chmod(mode)

    def _remove(self, instance_id: str) -> None:
        """Its folder, but not what its copies have printed."""
        places = self._places(instance_id)
        output.keep(places.output, self._home.instance_logs, instance_id)
        durable.remove_tree(places.folder)

    def _process_spec(self, spec: InstanceSpec, plan: Plan, program: Path) -> ProcessSpec:
        places = self._places(spec.id)
        own = {"HOME": str(places.home), "TMPDIR": str(places.temporary)}
        return ProcessSpec(
            name=PREFIX + spec.id,
            argv=(str(spec.interpreter), str(program), str(places.spec)),
            environment={**spec.environment, **own},
            folder=str(places.home),
            log=str(self._log(spec.id)),
            listen=(str(self._socket(spec.id)), str(self._control(spec.id))),
            stop_grace_s=SHUTDOWN_GRACE_S,
            confinement=plan.confinement,
            gives_way=True,
        )

    # Asking.

    @contextmanager
    def _ready_keeper(self, instance_id: str) -> Iterator[Path]:
        """The control socket to ask; what goes wrong there becomes an EngineFault."""
        phase = self.inspect(instance_id).phase
        if phase is not InstancePhase.READY:
            raise EngineFault(f"instance {instance_id} is {phase} and cannot be asked")
        try:
            yield self._control(instance_id)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineFault(
                f"the keeper of instance {instance_id} does not answer: {error}"
            ) from error

    def _check_limit_s(self, instance_id: str) -> float:
        """How long one request of a check may take, as the keeper was told."""
        wanted = self._read_spec(instance_id)
        state = keeper.read_state(self._places(instance_id).state_file)
        loads = state is not None and state.mode == keeper.PER_COPY
        load_s = float(wanted.get("start_timeout_s", 0.0)) if loads else 0.0
        return float(wanted.get("predict_timeout_s", 0.0)) + load_s

    # Looking.

    def _status(self, instance_id: str, process: ProcessStatus | None) -> InstanceStatus:
        wanted = self._read_spec(instance_id)
        if process is not None and wanted.get("protocol", keeper.PROTOCOL) != keeper.PROTOCOL:
            return self._status_of_another_protocol(instance_id, wanted, process)
        state = keeper.read_state(self._places(instance_id).state_file)
        if process is None:
            if state is not None and state.phase == keeper.FAILED:
                return self._tell(instance_id, wanted, InstancePhase.FAILED, reason=state.reason)
            return self._tell(instance_id, wanted, InstancePhase.GONE)
        if process.phase is Phase.RUNNING:
            return self._status_of_running(instance_id, wanted, process, state)
        if process.orphans and state is not None and state.phase in (keeper.READY, keeper.DRAINING):
            return self._tell(
                instance_id,
                wanted,
                InstancePhase.DEGRADED,
                process=process,
                state=state,
                copies_ready=min(process.orphans, int(wanted.get("copies", 0))),
                reason=f"its keeper {_how_it_ended(process)}; its copies serve on",
            )
        has_failed = state is not None and state.phase == keeper.FAILED
        if process.exit_code is None and not has_failed:
            # The machine went down, or the supervisor died first: nothing against the model.
            reason = "its process ended while nobody watched"
            return self._tell(instance_id, wanted, InstancePhase.GONE, reason=reason)
        reason = self._explain_death(instance_id, process, state)
        return self._tell(
            instance_id, wanted, InstancePhase.FAILED, process=process, state=state, reason=reason
        )

    def _status_of_running(
        self,
        instance_id: str,
        wanted: dict[str, Any],
        process: ProcessStatus,
        state: KeeperState | None,
    ) -> InstanceStatus:
        # A keeper that is loading cannot answer: it is not asked.
        answer = None
        if state is not None and state.phase != keeper.STARTING:
            answer = keeper.ask(self._control(instance_id), "status")
            state = answer or state
        if state is None or state.phase == keeper.STARTING:
            limit_s = float(wanted.get("start_timeout_s", 0.0))
            has_served = state is not None and state.answered > 0
            if wanted and not has_served and _age_s(process) > limit_s + START_MARGIN_S:
                return self._give_up(instance_id, wanted, limit_s)
            return self._tell(
                instance_id,
                wanted,
                InstancePhase.STARTING,
                process=process,
                state=state,
                pid=process.pid,
                reason="" if state is None else state.reason,
            )
        phase = InstancePhase.FAILED if state.phase == keeper.FAILED else InstancePhase.READY
        return self._tell(
            instance_id,
            wanted,
            phase,
            process=process,
            state=state,
            pid=process.pid,
            copies_ready=state.ready,
            reason=state.reason,
            is_silent=answer is None,
        )

    def _status_of_another_protocol(
        self, instance_id: str, wanted: dict[str, Any], process: ProcessStatus
    ) -> InstanceStatus:
        """Another version of havre started it: its requests are served, and it is replaced.

        Nothing it says is understood here but that it has served; one that has not is not waited
        for.
        """
        copies = int(wanted.get("copies", 0))
        lives = process.phase is Phase.RUNNING or process.orphans
        if not lives or not keeper.has_served(self._places(instance_id).state_file):
            return self._tell(instance_id, wanted, InstancePhase.GONE, process=process)
        return self._tell(
            instance_id,
            wanted,
            InstancePhase.DEGRADED,
            process=process,
            pid=process.pid,
            copies_ready=copies if process.phase is Phase.RUNNING else min(process.orphans, copies),
            reason="it runs an earlier version of havre's code; it is being replaced",
        )

    def _give_up(self, instance_id: str, wanted: dict[str, Any], limit_s: float) -> InstanceStatus:
        """End an instance whose model never finishes loading, and keep why."""
        reason = f"the model was not loaded within {limit_s:g} s"
        self._supervisor.stop(PREFIX + instance_id, grace_s=0.0)
        state = {
            "protocol": keeper.PROTOCOL,
            "phase": keeper.FAILED,
            "reason": reason,
            **dict.fromkeys(("pid", "ready", "busy", "restarts", "answered"), 0),
            **dict.fromkeys(("shared_bytes", "copy_bytes"), 0),
            "notes": [],
        }
        try:
            durable.write_file(self._places(instance_id).state_file, json.dumps(state).encode())
        except OSError as error:
            raise EngineFault(f"instance {instance_id}: {reason}, and {error}") from error
        return self._tell(instance_id, wanted, InstancePhase.FAILED, reason=reason)

    def _tell(
        self,
        instance_id: str,
        wanted: dict[str, Any],
        phase: InstancePhase,
        *,
        process: ProcessStatus | None = None,
        state: KeeperState | None = None,
        pid: int = 0,
        copies_ready: int = 0,
        reason: str = "",
        is_silent: bool = False,
    ) -> InstanceStatus:
        state = state or KeeperState()
        warnings = process.warnings if process else ()
        return InstanceStatus(
            id=instance_id,
            deployment_id=str(wanted.get("deployment", "")),
            revision=str(wanted.get("revision", "")),
            phase=phase,
            socket=self._socket(instance_id),
            copies=int(wanted.get("copies", 0)),
            copies_ready=copies_ready,
            copies_busy=min(state.busy, copies_ready),
            restarts=state.restarts,
            pid=pid,
            reason=reason,
            notes=(*wanted.get("confinement_notes", ()), *warnings, *state.notes),
            memory_bytes=state.copy_bytes,
            shared_bytes=state.shared_bytes,
            answered=state.answered,
            failed=state.failed,
            streaming=min(state.streaming, copies_ready),
            latency=state.latency,
            recording=state.recording,
            capture=state.capture,
            is_silent=is_silent,
        )

    def _explain_death(
        self, instance_id: str, process: ProcessStatus, state: KeeperState | None
    ) -> str:
        if state is not None and state.phase == keeper.FAILED and state.reason:
            return state.reason
        reason = f"the model's process {_how_it_ended(process)}"
        line = _last_words(self._log(instance_id))
        return f"{reason}; its log ends with: {line}" if line else reason

    def _read_spec(self, instance_id: str) -> dict[str, Any]:
        """What the keeper was told; empty when it cannot be read."""
        try:
            wanted = json.loads(self._places(instance_id).spec.read_bytes())
        except (OSError, ValueError):
            return {}
        return wanted if isinstance(wanted, dict) else {}

    # Places.

    def _places(self, instance_id: str) -> Places:
        return Places(self._home.instances / instance_id)

    def _log(self, instance_id: str) -> Path:
        return self._home.instance_logs / instance_logs.of_keeper(instance_id)

    def _socket(self, instance_id: str) -> Path:
        return self._home.instance_sockets / f"{instance_id}.sock"

    def _control(self, instance_id: str) -> Path:
        return self._home.control_socket(instance_id)


def _age_s(process: ProcessStatus) -> float:
    """Seconds since the process began; both figures count from the machine's boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_time / os.sysconf("SC_CLK_TCK")


def _how_it_ended(process: ProcessStatus) -> str:
    code = process.exit_code
    if code is None:
        return "ended while nobody watched"
    if code == -signal.SIGKILL and process.out_of_memory:
        return "was ended by the system: out of memory, it needs more than its shape has"
    if code == -signal.SIGKILL:
        return "was killed by signal 9: probably out of memory"
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"exited with code {code}"


def _last_words(log: Path) -> str:
    """The last line that the model itself wrote: the keeper's own do not tell why it ended."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    theirs = (line.strip() for line in reversed(lines) if not keeper.OWN_LINE.match(line))
    return next((line for line in theirs if line), "")
