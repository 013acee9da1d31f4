"""One supervised process: its life from the start (or the adoption) to the end of its group."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from havre.supervisor import group, records
from havre.supervisor.backoff import HEALTHY_AFTER_S, Backoff
from havre.supervisor.cgroups import Cgroups, Limits
from havre.supervisor.identity import Identity, boot_id, identify, is_running, open_pidfd
from havre.supervisor.protocol import Phase, ProcessSpec, ProcessStatus, Restart
from havre.supervisor.records import Record
from havre.supervisor.spawn import SpawnFault, remove_socket, spawn

STOP_FAULT_S = 20.0
"""Seconds after SIGKILL from which a stop reports that it does not succeed."""


class SupervisedProcess:
    """The supervisor's side of one process. All times are monotonic seconds, given by the caller.

    ``pidfd`` is open while an adopted process runs: the supervisor is not its parent, so it learns
    of its death from this descriptor. Where there are none it must poll. ``log`` takes a sentence
    for the supervisor's log.
    """

    def __init__(
        self, spec: ProcessSpec, folder: Path, cgroups: Cgroups, log: Callable[[str], None]
    ) -> None:
        self.spec = spec
        self.identity = Identity(0, 0, boot_id())
        self.phase = Phase.EXITED
        self.exit_code: int | None = None
        self.restarts = 0
        self.adopted = False
        self.pidfd: int | None = None
        self.retry_at: float | None = None
        self.kill_at: float | None = None
        self.warnings: tuple[str, ...] = ()
        self.renewed = False
        self._folder = folder
        self._cgroups = cgroups
        self._out_of_memory = 0
        self._log = log
        self._backoff = Backoff()
        self._started_at = 0.0
        self._group_is_gone = True

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_stopping(self) -> bool:
        return self.kill_at is not None

    @property
    def started_at(self) -> float:
        """When it was started or adopted."""
        return self._started_at

    @property
    def group_may_empty(self) -> bool:
        """Whether orphans live whose end nobody reports to us: they are not our descendants."""
        return self.adopted and self.phase is Phase.EXITED and not self._group_is_gone

    @property
    def ends_unnoticed(self) -> bool:
        """Whether nobody will report its end to us: not our child, and no descriptor to be had."""
        return self.adopted and self.phase is Phase.RUNNING and self.pidfd is None

    def has_ended_unnoticed(self) -> bool:
        return self.ends_unnoticed and not is_running(self.identity)

    def status(self) -> ProcessStatus:
        return ProcessStatus(
            name=self.name,
            phase=self.phase,
            pid=self.identity.pid,
            start_time=self.identity.start_time,
            restarts=self.restarts,
            exit_code=self.exit_code,
            adopted=self.adopted,
            orphans=0 if self.phase is Phase.RUNNING else len(self.members()),
            spec_digest=self.spec.digest,
            out_of_memory=self._count_out_of_memory(),
            warnings=self.warnings,
            renewed=self.renewed,
        )

    def start(self, now: float) -> None:
        """Raises SpawnFault or OSError; nothing runs then."""
        limits_processes = "pids" in self._cgroups.missing
        self.warnings = ()
        try:
            reported = spawn(
                self.spec, limits_processes=limits_processes, before_exec=self._receive_child
            )
        except (SpawnFault, OSError):
            self._cgroups.remove(self.name)
            raise
        if reported:
            self.warnings += tuple(reported)
            self._record()
        self.phase, self.exit_code, self.adopted = Phase.RUNNING, None, False
        self.retry_at, self._started_at, self._group_is_gone = None, now, False
        self._out_of_memory = 0

    def adopt(self, record: Record, now: float) -> None:
        """Take over what an earlier supervisor started, in whatever state it is now."""
        self.identity, self.restarts = record.identity, record.restarts
        self.warnings, self.renewed = record.warnings, record.renewed
        self.adopted, self._group_is_gone = True, False
        self._started_at = now
        with suppress(OSError):
            self.pidfd = open_pidfd(record.identity)
        if self.pidfd is not None or is_running(record.identity):
            self.phase = Phase.RUNNING
        else:
            self.phase, self.exit_code = Phase.EXITED, record.exit_code

    def renew(self, spec: ProcessSpec) -> None:
        """Keep another specification for the next start; what runs, runs on. Raises OSError."""
        before = self.spec, self.renewed
        self.spec, self.renewed = spec, True
        try:
            records.save(self._folder, self._as_record())
        except OSError:
            self.spec, self.renewed = before
            raise

    def retry(self, now: float) -> None:
        """Start again after a death; a failure to start counts as another one."""
        self.restarts += 1
        try:
            self.start(now)
        except (SpawnFault, OSError) as error:
            self._log(f"{self.name}: {error}")
            self._back_off(0.0, now)

    def died(self, exit_code: int | None, now: float) -> None:
        """The process itself ended; others of its group may live on."""
        self._count_out_of_memory()
        uptime = now - self._started_at
        self.phase, self.exit_code = Phase.EXITED, exit_code
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        if self.is_stopping:
            return
        self._log(f"{self.name} (pid {self.identity.pid}) {_how(exit_code)} after {uptime:.1f} s")
        if self.spec.restart is Restart.ALWAYS:
            # What it left would hold its place: sockets, locks, files.
            group.signal_members(self.members(), signal.SIGKILL)
            self._back_off(uptime, now)
        else:
            self._record()

    def _count_out_of_memory(self) -> int:
        """Kept: once all have ended, another home's supervisor may remove the group."""
        self._out_of_memory = max(self._out_of_memory, self._cgroups.out_of_memory(self.name))
        return self._out_of_memory

    def members(self) -> list[Identity]:
        """Living processes of the group, itself included, and those that left it to hide."""
        if self._group_is_gone:
            return []
        if self.phase is Phase.RUNNING:
            return list({*group.living_members(self.identity), *self._strays()})
        if group.is_empty(self.identity.pid):
            members = []
        else:
            # The leader of an adopted group may have died while nobody looked.
            environment = self.spec.environment if self.adopted else None
            members = group.living_members(self.identity, environment=environment)
        members = list({*members, *self._strays()})
        self._group_is_gone = not members
        return members

    def group_has_emptied(self) -> bool:
        """Whether the last orphan ended since this was asked last."""
        return not self._group_is_gone and not self.members()

    def kill(self) -> None:
        """End what runs as a crash would; what follows a death follows."""
        self._signal(signal.SIGKILL)

    def begin_stop(self, grace_s: float, now: float) -> None:
        self.kill_at = min(now + grace_s, self.kill_at or now + grace_s)
        self.retry_at = None
        self._signal(signal.SIGTERM)

    def has_stopped(self, now: float) -> bool:
        """Whether nothing runs any more; presses harder once the grace is over.

        Raises TimeoutError when even SIGKILL does not help.
        """
        assert self.kill_at is not None
        if self.phase is not Phase.RUNNING and not self.members():
            return True
        if now >= self.kill_at + STOP_FAULT_S:
            raise TimeoutError(f"{self.name} does not end, {STOP_FAULT_S:g} s after SIGKILL")
        if now >= self.kill_at:
            self._cgroups.kill(self.name)
            self._signal(signal.SIGKILL)
        return False

    def forget(self) -> None:
        """Remove its record, its control group and the sockets that were bound for it."""
        self._cgroups.remove(self.name)
        try:
            records.forget(self._folder, self.name)
            for path in self.spec.listen:
                remove_socket(Path(path))
        except OSError as error:  # a disk that cannot be written to any more: it has stopped, still
            self._log(f"{self.name}: what was kept for it is not removed: {error}")

    def _signal(self, number: signal.Signals) -> None:
        if self.phase is Phase.RUNNING and not self.adopted:
            # Ours, and not reaped yet: the number cannot mean another group.
            try:
                os.killpg(self.identity.pid, number)
            except (ProcessLookupError, PermissionError):
                pass
        else:
            group.signal_members(self.members(), number)

    def _strays(self) -> list[Identity]:
        """Members that are in no group of ours any more: only what is confined has reason to."""
        if self.spec.confinement is None:
            return []
        grouped = self._cgroups.members(self.name)
        strays = [identity for pid in grouped if (identity := identify(pid)) is not None]
        if not self._cgroups.can_hold:
            strays += group.adopted_by_us(self.spec.environment)
        return strays

    def _receive_child(self, pid: int) -> None:
        """The child waits: write down that it is ours, and put it under its limits."""
        identity = identify(pid)
        if identity is None:
            raise SpawnFault(f"{self.name} ended before it began")
        self.identity, self.renewed = identity, False
        confinement = self.spec.confinement
        if confinement is not None:
            limits = Limits(confinement.memory_bytes, confinement.cpus, confinement.processes)
            self.warnings = tuple(self._cgroups.enter(self.name, pid, limits))
        records.save(self._folder, self._as_record())

    def _as_record(self) -> Record:
        return Record(
            spec=self.spec,
            identity=self.identity,
            restarts=self.restarts,
            exit_code=self.exit_code,
            warnings=self.warnings,
            renewed=self.renewed,
        )

    def _record(self) -> None:
        try:
            records.save(self._folder, self._as_record())
        except OSError as error:
            self._log(f"{self.name}: its record was not written: {error}")

    def _back_off(self, uptime_s: float, now: float) -> None:
        self._backoff = self._backoff.after_death(uptime_s)
        delay = self._backoff.delay_s
        self.phase, self.retry_at = Phase.BACKOFF, now + delay
        verdict = "crashed" if uptime_s >= HEALTHY_AFTER_S else "exited too quickly"
        self._log(f"{self.name} {verdict}; it is started again in {delay:g} s")


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended"
    if exit_code < 0:
        return f"was killed by signal {-exit_code}"
    return f"exited with code {exit_code}"
