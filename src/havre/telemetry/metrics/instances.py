"""What every instance of the home says of itself, and what it uses: one look."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from havre.balancer.admin import Admin
from havre.balancer.files import Files
from havre.balancer.table import Table
from havre.domain.errors import Unavailable
from havre.domain.route import Route
from havre.engines import keeper
from havre.engines.confinement import Places
from havre.engines.keeper import KeeperState
from havre.engines.process import PREFIX
from havre.home import Home
from havre.supervisor import records
from havre.supervisor.identity import is_running
from havre.supervisor.records import Record
from havre.telemetry.metrics.usage import Usage

ASKED_AT_ONCE = 8
"""A keeper that hangs costs a second: it holds up nobody else's."""


@dataclass(frozen=True, slots=True)
class Instance:
    """``cpu_s`` is processor time since it began; ``waiting`` requests have no copy yet. ``cpus``
    (hardware threads) and ``memory_limit_bytes`` are its shape's, 0 if that has no limit.
    """

    id: str
    deployment: str
    copies: int
    state: KeeperState
    waiting: int
    cpu_s: float
    cpus: float
    memory_bytes: int
    memory_limit_bytes: int


class Instances:
    """Looks at the files of a home, its keepers and its load balancer; starts and stops nothing."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._files = Files(home)
        self._admin = Admin(home.admin_socket)
        self._usage = Usage(home)
        self._seen: set[str] = set()
        self._pool = ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="keeper")

    def routes(self) -> Mapping[str, Route]:
        """What the load balancer was last asked to serve, by deployment. Raises Unavailable."""
        stored = self._files.read(self._files.table)
        return {} if stored is None else Table.from_json(stored).routes

    def look(self) -> list[Instance]:
        """Those that run. What does not answer counts with its last word."""
        found, _ = records.load_all(self._home.processes)
        running = [
            record
            for record in found
            if record.spec.name.startswith(PREFIX) and is_running(record.identity)
        ]
        active = self._active_requests()
        self._usage.begin()
        looked = list(self._pool.map(lambda record: self._look_at(record, active), running))
        names = {record.spec.name for record in running}
        self._usage.forget(self._seen - names)
        self._seen = names
        return [each for each in looked if each is not None]

    def close(self) -> None:
        self._pool.shutdown(wait=False)

    def _look_at(self, record: Record, active: Mapping[str, int]) -> Instance | None:
        """None for one that is being removed."""
        name = record.spec.name
        instance_id = name.removeprefix(PREFIX)
        places = Places(self._home.instances / instance_id)
        wanted = _read_spec(places)
        if wanted is None:
            return None
        state = keeper.read_state(places.state_file) or KeeperState()
        if state.phase != keeper.STARTING:  # one that is loading cannot answer
            state = keeper.ask(self._home.control_socket(instance_id), "status") or state
        confinement = record.spec.confinement
        memory_bytes = self._usage.memory_bytes(name)
        if memory_bytes is None:
            memory_bytes = state.shared_bytes + state.copy_bytes * state.ready
        in_it = active.get(record.spec.listen[0], 0) if record.spec.listen else 0
        return Instance(
            id=instance_id,
            deployment=str(wanted["deployment"]),
            copies=int(wanted["copies"]),
            state=state,
            waiting=max(0, in_it - state.busy),
            cpu_s=self._usage.cpu_s(name, record.identity),
            cpus=confinement.cpus if confinement is not None else 0.0,
            memory_bytes=memory_bytes,
            memory_limit_bytes=confinement.memory_bytes if confinement is not None else 0,
        )

    def _active_requests(self) -> dict[str, int]:
        """By the path of the instance's socket; nothing while the load balancer is away."""
        try:
            return self._admin.active_requests()
        except Unavailable:
            return {}


def _read_spec(places: Places) -> dict[str, Any] | None:
    try:
        return dict(json.loads(places.spec.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
