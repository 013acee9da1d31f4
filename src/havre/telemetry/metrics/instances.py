"""Samples of all instances of a home: what they report, and what they use."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from havre.balancer.registry import balancer_process
from havre.domain.address import Address
from havre.domain.errors import Unavailable
from havre.domain.route import Route
from havre.engines.instance_reader import InstanceReader, InstanceReading, RunningInstance
from havre.home import Home
from havre.telemetry.metrics.usage import Usage

MAX_CONCURRENT = 8
"""A keeper that hangs takes a second: it must not delay the others."""


@dataclass(frozen=True, slots=True)
class InstanceSample:
    """``cpu_s`` is CPU time since its start; ``waiting`` requests have no copy yet. ``cpus``
    (hardware threads) and ``memory_limit_bytes`` are its shape's, 0 if that has no limit.
    """

    id: str
    deployment: str
    copies: int
    state: InstanceReading
    waiting: int
    cpu_s: float
    cpus: float
    memory_bytes: int
    memory_limit_bytes: int


class Instances:
    """Reads files of a home, asks its keepers and its load balancer; starts and stops nothing."""

    def __init__(self, home: Home) -> None:
        self._reader = InstanceReader(home)
        self._balancer = balancer_process(home)
        self._usage = Usage(home)
        self._known: set[str] = set()
        self._pool = ThreadPoolExecutor(MAX_CONCURRENT, thread_name_prefix="keeper")

    def routes(self) -> Mapping[str, Route]:
        """What the load balancer was last asked to serve, by deployment. Raises Unavailable."""
        return self._balancer.routes()

    def sample(self) -> list[InstanceSample]:
        """Running instances. One whose keeper does not respond counts with its last state."""
        running = self._reader.running()
        active = self._active_requests()
        self._usage.begin()
        samples = list(self._pool.map(lambda instance: self._sample(instance, active), running))
        names = {instance.name for instance in running}
        self._usage.forget(self._known - names)
        self._known = names
        return [sample for sample in samples if sample is not None]

    def close(self) -> None:
        self._pool.shutdown(wait=False)

    def _sample(
        self, running: RunningInstance, active: Mapping[Address, int]
    ) -> InstanceSample | None:
        """None if it is being removed."""
        state = self._reader.read(running.id)
        if state is None:
            return None
        memory_bytes = self._usage.memory_bytes(running.name)
        if memory_bytes is None:
            memory_bytes = state.shared_bytes + state.copy_bytes * state.ready
        in_flight = active.get(self._reader.address(running.id), 0)
        return InstanceSample(
            id=running.id,
            deployment=state.deployment,
            copies=state.copies,
            state=state,
            waiting=max(0, in_flight - state.busy),
            cpu_s=self._usage.cpu_s(running.name, running.leader),
            cpus=running.cpus,
            memory_bytes=memory_bytes,
            memory_limit_bytes=running.memory_limit_bytes,
        )

    def _active_requests(self) -> Mapping[Address, int]:
        """By the instance's address; empty while the load balancer is away."""
        try:
            return self._balancer.active_requests()
        except Unavailable:
            return {}
