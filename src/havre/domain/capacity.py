"""Whether the machine can take one more deployment.

A shape is a limit, not a reservation: by default only copies are counted, against the machine's
threads times a generous factor, because idle copies cost little. ``strict`` treats shapes as
reservations of threads and memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from havre.domain.deployment import DeploymentSpec
from havre.domain.errors import LimitExceeded
from havre.domain.shape import GIB, SHAPES, THREADS_PER_OCPU

_GPU_SHAPES = frozenset(shape.name for shape in SHAPES if shape.is_gpu)


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is: hardware threads, bytes of memory, GPUs."""

    threads: int
    memory_bytes: int
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """What deployments ask for, in the units of Machine; ``copies`` besides."""

    copies: int = 0
    threads: float = 0.0
    memory_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: "Demand") -> "Demand":
        return Demand(
            self.copies + other.copies,
            self.threads + other.threads,
            self.memory_bytes + other.memory_bytes,
            self.gpus + other.gpus,
        )

    def larger(self, other: "Demand") -> "Demand":
        """The larger of each figure."""
        return Demand(
            max(self.copies, other.copies),
            max(self.threads, other.threads),
            max(self.memory_bytes, other.memory_bytes),
            max(self.gpus, other.gpus),
        )

    def exceeds(self, other: "Demand") -> bool:
        """Whether any figure is larger than the other's."""
        return (
            self.copies > other.copies
            or self.threads > other.threads
            or self.memory_bytes > other.memory_bytes
            or self.gpus > other.gpus
        )


def gpus_of(shape_name: str) -> int:
    """GPUs of one instance; the names of GPU shapes end in their number."""
    return int(shape_name.rpartition(".")[2]) if shape_name in _GPU_SHAPES else 0


def demand_of(spec: DeploymentSpec) -> Demand:
    """What all instances of a deployment ask for; the surge of a rollout does not count."""
    count = spec.instance_count
    return Demand(
        copies=spec.copies * count,
        threads=spec.shape.ocpus * THREADS_PER_OCPU * count,
        memory_bytes=spec.shape.memory_bytes * count,
        gpus=gpus_of(spec.shape.name) * count,
    )


def total(demands: Iterable[Demand]) -> Demand:
    return sum(demands, Demand())


def admit(
    asked: Demand, *, used: Demand, machine: Machine, strict: bool, overcommit_factor: float
) -> None:
    """Raises LimitExceeded with what is asked, used and there.

    ``used`` is what the other deployments ask for. A GPU is never shared between deployments.
    """
    problems = []
    if asked.gpus and asked.gpus + used.gpus > machine.gpus:
        problems.append(
            f"GPUs: {asked.gpus} asked, {used.gpus} used, this machine has {machine.gpus}; "
            "choose a shape with fewer GPUs or none"
        )
    if strict:
        if asked.threads + used.threads > machine.threads:
            problems.append(
                f"hardware threads ({THREADS_PER_OCPU} per OCPU): {asked.threads:g} asked, "
                f"{used.threads:g} used, this machine has {machine.threads}"
            )
        if asked.memory_bytes + used.memory_bytes > machine.memory_bytes:
            problems.append(
                f"memory: {_gb(asked.memory_bytes)} asked, {_gb(used.memory_bytes)} used, "
                f"this machine has {_gb(machine.memory_bytes)}"
            )
    limit = int(machine.threads * overcommit_factor)
    if not strict and asked.copies + used.copies > limit:
        problems.append(
            f"copies: {asked.copies} asked, {used.copies} used, this machine takes {limit} "
            f"({machine.threads} hardware threads x {overcommit_factor:g}); lower WEB_CONCURRENCY "
            "or instanceCount, deactivate a deployment, or raise the setting overcommit_factor"
        )
    if problems:
        raise LimitExceeded("; ".join(problems))


def _gb(memory_bytes: int) -> str:
    return f"{memory_bytes / GIB:.1f} GB"
