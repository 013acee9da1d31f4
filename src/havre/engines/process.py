"""Instances as processes of this machine: a keeper each, started through the supervisor.

Nothing is remembered here. What runs is asked of the supervisor, how it fares of the keeper, and
what it was started with is read from the instance's folder: so a new control plane knows as much.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from havre import full_disk
from havre.domain.errors import EngineFault
from havre.domain.instance import InstanceSpec, InstanceStatus
from havre.domain.states import InstancePhase
from havre.engines import (
    confinement,
    copy_code,
    endings,
    instance_folder,
    keeper_process,
    keeper_protocol,
)
from havre.engines.confinement import InstanceConfinement, Permissions, own_variables
from havre.engines.instance_reader import InstanceReader
from havre.engines.java import java_variables
from havre.engines.keeper_channel import KeeperChannel
from havre.engines.keeper_process import Standing
from havre.engines.keeper_protocol import KeeperState
from havre.home import Home
from havre.supervisor.client import SupervisorClient
from havre.supervisor.protocol import INSTANCE_PREFIX as PREFIX
from havre.supervisor.protocol import Phase, ProcessSpec, ProcessStatus

STOP_GRACE_S = 1.0
"""Who is stopped is idle, or is not waited for any longer."""
SHUTDOWN_GRACE_S = 10.0
START_MARGIN_S = 2.0
"""Beyond the time limit that the keeper itself enforces, for models that hang in C."""

logger = logging.getLogger(__name__)


class ProcessEngine:
    """Implements `Engine` on one home."""

    def __init__(
        self, home: Home, supervisor: SupervisorClient, permissions: Permissions = Permissions()
    ) -> None:
        self._home = home
        self._reader = InstanceReader(home)
        self._supervisor = supervisor
        self._permissions = permissions

    def start(self, spec: InstanceSpec) -> None:
        process = self._supervisor.inspect(PREFIX + spec.id)
        if process is not None:
            if self._status(spec.id, process).phase not in (
                InstancePhase.FAILED,
                InstancePhase.GONE,
            ):
                return
            self._stop_process(spec.id, process)
        try:
            program = copy_code.install(self._home, spec.workload.interpreter)
            plan = confinement.confinement_for(spec, self._home, program, self._permissions)
            instance_folder.prepare(self._home, spec, plan)
        except OSError as error:
            cause = full_disk.cause(error, self._home.instances)
            raise EngineFault(f"instance {spec.id} cannot be prepared: {cause}") from error
        if not plan.refusal:  # else `inspect` reports it
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
        known = sorted({*processes, *instance_folder.known(self._home)})
        return [self._status(instance_id, processes.get(instance_id)) for instance_id in known]

    def stop(self, instance_id: str) -> None:
        self._stop_process(instance_id, self._supervisor.inspect(PREFIX + instance_id))
        try:
            for path in (self._reader.address(instance_id).path, self._reader.control(instance_id)):
                path.unlink(missing_ok=True)
            instance_folder.clear(self._home, instance_id)
        except OSError as error:
            # Nothing of it runs: its deployment is not held up for what lies there.
            logger.warning("files of instance %s are left behind: %s", instance_id, error)

    def end(self, instance_id: str, reason: str) -> None:
        """End an instance as one that has failed, and keep the reason; safe to repeat.

        Raises EngineFault.
        """
        try:
            instance_folder.condemn(self._home, instance_id, reason)
        except OSError as error:
            logger.warning("instance %s: %s; that is not kept: %s", instance_id, reason, error)
        self._supervisor.stop(PREFIX + instance_id, grace_s=0.0)

    def changes(self) -> Iterator[str]:
        for process in self._supervisor.watch():
            if process.name.startswith(PREFIX):
                yield process.name.removeprefix(PREFIX)

    def channel(self, instance_id: str) -> KeeperChannel:
        return KeeperChannel(
            instance_id,
            self._reader.control(instance_id),
            inspect=self.inspect,
            check_limit_s=self._check_limit_s,
            end_keeper=self._end_keeper,
        )

    # Starting.

    def _process_spec(
        self, spec: InstanceSpec, plan: InstanceConfinement, program: Path
    ) -> ProcessSpec:
        paths = self._reader.paths(spec.id)
        own = own_variables(plan.confinement, paths)
        variables = {k: v for k, v in spec.variables.items() if k not in plan.left_out}
        return ProcessSpec(
            name=PREFIX + spec.id,
            argv=(str(spec.workload.interpreter), str(program), str(paths.spec)),
            environment={**variables, **own, **java_variables(paths, variables)},
            folder=str(paths.home),
            log=str(self._reader.log(spec.id)),
            listen=(str(self._reader.address(spec.id).path), str(self._reader.control(spec.id))),
            stop_grace_s=SHUTDOWN_GRACE_S,
            confinement=plan.confinement,
            batch_scheduling=True,
        )

    # Stopping.

    def _stop_process(self, instance_id: str, process: ProcessStatus | None) -> None:
        if process is not None and process.phase is Phase.RUNNING:
            spec, state = self._reader.spec(instance_id), self._reader.last_state(instance_id)
            if reason := _overdue(spec, process, state):
                self._log_end(instance_id, reason)
        self._supervisor.stop(PREFIX + instance_id, grace_s=STOP_GRACE_S)

    def _log_end(self, instance_id: str, reason: str) -> None:
        try:
            instance_folder.log_end(self._home, instance_id, reason)
        except OSError as error:
            logger.warning("instance %s: %s; that is not logged: %s", instance_id, reason, error)

    # Asking.

    def _end_keeper(self, instance_id: str) -> None:
        process = self._supervisor.inspect(PREFIX + instance_id)
        if process is not None and process.phase is Phase.RUNNING:
            keeper_process.end(process)

    def _check_limit_s(self, instance_id: str) -> float:
        """How long one request of a check may take, as its keeper keeps it."""
        spec = self._reader.spec(instance_id)
        state = self._reader.last_state(instance_id)
        loads = state is not None and state.mode == keeper_protocol.PER_COPY
        load_s = float(spec.get("start_timeout_s", 0.0)) if loads else 0.0
        return float(spec.get("predict_timeout_s", 0.0)) + load_s

    # Looking.

    def _status(self, instance_id: str, process: ProcessStatus | None) -> InstanceStatus:
        spec = self._reader.spec(instance_id)
        if reason := instance_folder.verdict_on(self._home, instance_id):
            return self._make_status(instance_id, spec, InstancePhase.FAILED, reason=reason)
        if (
            process is not None
            and spec.get("protocol", keeper_protocol.PROTOCOL) != keeper_protocol.PROTOCOL
        ):
            return self._status_of_another_protocol(instance_id, spec, process)
        state = self._reader.last_state(instance_id)
        if process is None:
            if refusal := spec.get("refusal"):
                return self._make_status(
                    instance_id, spec, InstancePhase.FAILED, reason=str(refusal)
                )
            if state is not None and state.phase == keeper_protocol.FAILED:
                return self._make_status(
                    instance_id, spec, InstancePhase.FAILED, reason=state.reason
                )
            return self._make_status(instance_id, spec, InstancePhase.GONE)
        if process.phase is Phase.RUNNING:
            return self._status_of_running(instance_id, spec, process, state)
        if (
            process.orphans
            and state is not None
            and state.phase in (keeper_protocol.READY, keeper_protocol.DRAINING)
        ):
            return self._make_status(
                instance_id,
                spec,
                InstancePhase.DEGRADED,
                process=process,
                state=state,
                copies_ready=min(process.orphans, int(spec.get("copies", 0))),
                reason=f"its keeper {endings.how_it_ended(process)}; its copies serve on",
            )
        has_failed = state is not None and state.phase == keeper_protocol.FAILED
        if process.exit_code is None and not has_failed:
            # The machine went down, or the supervisor died first: nothing against the model.
            reason = "its process ended while nobody watched"
            return self._make_status(instance_id, spec, InstancePhase.GONE, reason=reason)
        reason = self._explain_death(instance_id, process, state)
        return self._make_status(
            instance_id, spec, InstancePhase.FAILED, process=process, state=state, reason=reason
        )

    def _status_of_running(
        self,
        instance_id: str,
        spec: dict[str, Any],
        process: ProcessStatus,
        state: KeeperState | None,
    ) -> InstanceStatus:
        reported = self._reader.ask(instance_id, state)
        state = reported or state
        if state is None or state.phase == keeper_protocol.STARTING:
            if reason := _overdue(spec, process, state):
                return self._make_status(instance_id, spec, InstancePhase.FAILED, reason=reason)
            return self._make_status(
                instance_id,
                spec,
                InstancePhase.STARTING,
                process=process,
                state=state,
                pid=process.pid,
                reason="" if state is None else state.reason,
            )
        phase = (
            InstancePhase.FAILED if state.phase == keeper_protocol.FAILED else InstancePhase.READY
        )
        return self._make_status(
            instance_id,
            spec,
            phase,
            process=process,
            state=state,
            pid=process.pid,
            copies_ready=state.ready,
            reason=state.reason,
            standing=keeper_process.standing(process.pid) if reported is None else None,
        )

    def _status_of_another_protocol(
        self, instance_id: str, spec: dict[str, Any], process: ProcessStatus
    ) -> InstanceStatus:
        """Another version of havre started it: its requests are served, and it is replaced.

        Nothing that it reports is understood here but that it has served; one that has not is not
        waited for.
        """
        copies = int(spec.get("copies", 0))
        lives = process.phase is Phase.RUNNING or process.orphans
        state_file = self._reader.paths(instance_id).state_file
        if not lives or not keeper_protocol.has_served(state_file, below=self._home.instances):
            return self._make_status(instance_id, spec, InstancePhase.GONE, process=process)
        return self._make_status(
            instance_id,
            spec,
            InstancePhase.DEGRADED,
            process=process,
            pid=process.pid,
            copies_ready=copies if process.phase is Phase.RUNNING else min(process.orphans, copies),
            reason="it runs an earlier version of havre's code; it is being replaced",
        )

    def _make_status(
        self,
        instance_id: str,
        spec: dict[str, Any],
        phase: InstancePhase,
        *,
        process: ProcessStatus | None = None,
        state: KeeperState | None = None,
        pid: int = 0,
        copies_ready: int = 0,
        reason: str = "",
        standing: Standing | None = None,
    ) -> InstanceStatus:
        """``standing``: of a keeper that does not answer."""
        state = state or KeeperState()
        copies = int(spec.get("copies", 0))
        copies_ready = min(copies_ready, copies)
        warnings = process.warnings if process else ()
        return InstanceStatus(
            id=instance_id,
            deployment_id=str(spec.get("deployment", "")),
            revision=str(spec.get("revision", "")),
            phase=phase,
            address=self._reader.address(instance_id),
            copies=copies,
            copies_ready=copies_ready,
            copies_busy=min(state.busy, copies_ready),
            restarts=state.restarts,
            pid=pid,
            reason=reason,
            notes=(*spec.get("confinement_notes", ()), *warnings, *state.notes),
            memory_bytes=state.copy_bytes,
            shared_bytes=state.shared_bytes,
            answered=state.answered,
            failed=state.failed,
            streaming=min(state.streaming, copies_ready),
            in_hand_s=() if standing is not None else state.in_hand_s[:copies_ready],
            latency=state.latency,
            recording=state.recording,
            capture=state.capture,
            is_silent=standing is not None,
            is_held_up=standing is not None and standing.is_held_up,
            keeper_cpu_s=0.0 if standing is None else standing.cpu_s,
        )

    def _explain_death(
        self, instance_id: str, process: ProcessStatus, state: KeeperState | None
    ) -> str:
        if state is not None and state.phase == keeper_protocol.FAILED and state.reason:
            return state.reason
        reason = f"the model's process {endings.how_it_ended(process)}"
        line = endings.last_log_line(self._reader.log(instance_id), below=self._home.instance_logs)
        return f"{reason}; its log ends with: {line}" if line else reason


def _overdue(spec: Mapping[str, Any], process: ProcessStatus, state: KeeperState | None) -> str:
    """Why an instance that runs and is not ready has failed; empty while it may go on.

    The keeper itself ends a model that loads for too long; it cannot while the model hangs in C.
    """
    is_starting = state is None or state.phase == keeper_protocol.STARTING
    has_served = state is not None and state.answered > 0
    limit_s = float(spec.get("start_timeout_s", 0.0))
    within_s = limit_s + float(spec.get("min_ready_s", 0.0)) + START_MARGIN_S
    if not spec or not is_starting or has_served or keeper_process.age_s(process) <= within_s:
        return ""
    if state is not None and state.reason:
        return f"the instance was not ready within {limit_s:g} s: {state.reason}"
    return f"the model was not loaded within {limit_s:g} s"
