"""What is known of instances that are processes: from their files, their keepers, their records.

Reads and asks, and changes nothing: the engine looks through it, and so does the telemetry process,
which neither starts nor stops any.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from havre.domain import instance_logs
from havre.domain.address import UnixAddress
from havre.engines import instance_folder, keeper_protocol
from havre.engines.confinement import InstancePaths
from havre.engines.keeper_protocol import KeeperState
from havre.home import Home
from havre.supervisor import records
from havre.supervisor.identity import Identity, is_running
from havre.supervisor.protocol import INSTANCE_PREFIX as PREFIX


@dataclass(frozen=True, slots=True)
class RunningInstance:
    """One whose process runs. ``name`` and ``leader`` are the supervisor's for it; ``cpus``
    (hardware threads) and ``memory_limit_bytes`` are its shape's, 0 if that has no limit.
    """

    id: str
    name: str
    leader: Identity
    cpus: float
    memory_limit_bytes: int


@dataclass(frozen=True, slots=True)
class InstanceReading:
    """What its keeper reports now, or reported last. Sizes in bytes, 0 until measured."""

    deployment: str
    copies: int
    ready: int
    busy: int
    restarts: int
    shared_bytes: int
    copy_bytes: int


class InstanceReader:
    """Of the instances of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def running(self) -> list[RunningInstance]:
        """Those whose process runs, by the supervisor's records."""
        loaded, _ = records.load_all(self._home.processes)
        return [
            RunningInstance(
                id=record.spec.name.removeprefix(PREFIX),
                name=record.spec.name,
                leader=record.identity,
                cpus=record.spec.confinement.cpus if record.spec.confinement else 0.0,
                memory_limit_bytes=(
                    record.spec.confinement.memory_bytes if record.spec.confinement else 0
                ),
            )
            for record in loaded
            if record.spec.name.startswith(PREFIX) and is_running(record.identity)
        ]

    def read(self, instance_id: str) -> InstanceReading | None:
        """Blocks for a second at most. None for an instance that is being removed."""
        spec = self.spec(instance_id)
        if not spec:
            return None
        last = self.last_state(instance_id)
        state = self.ask(instance_id, last) or last or KeeperState()
        copies = int(spec["copies"])
        ready = min(state.ready, copies)
        return InstanceReading(
            deployment=str(spec["deployment"]),
            copies=copies,
            ready=ready,
            busy=min(state.busy, ready),
            restarts=state.restarts,
            shared_bytes=state.shared_bytes,
            copy_bytes=state.copy_bytes,
        )

    def spec(self, instance_id: str) -> dict[str, Any]:
        """What its keeper was started with; empty when that cannot be read."""
        return instance_folder.read_spec(self._home, instance_id)

    def last_state(self, instance_id: str) -> KeeperState | None:
        """The keeper's last word on disk; None when there is none that can be read."""
        state_file = self.paths(instance_id).state_file
        return keeper_protocol.read_state(state_file, below=self._home.instances)

    def ask(self, instance_id: str, last: KeeperState | None) -> KeeperState | None:
        """The keeper's word now; None when it does not answer. One that is loading cannot: by its
        ``last`` word it is not asked.
        """
        if last is None or last.phase == keeper_protocol.STARTING:
            return None
        return keeper_protocol.ask(self.control(instance_id), "status")

    def paths(self, instance_id: str) -> InstancePaths:
        return instance_folder.paths(self._home, instance_id)

    def address(self, instance_id: str) -> UnixAddress:
        return UnixAddress(self._home.instance_sockets / f"{instance_id}.sock")

    def control(self, instance_id: str) -> Path:
        """The socket at which its keeper answers."""
        return self._home.control_socket(instance_id)

    def log(self, instance_id: str) -> Path:
        """What its keeper and, until they have files of their own, its copies print."""
        return self._home.instance_logs / instance_logs.of_keeper(instance_id)
