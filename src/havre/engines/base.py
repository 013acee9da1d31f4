"""The contract of an engine: where instances run.

An engine keeps no wishes of its own: the reconciler says start or stop, looks again, and decides
anew. Every call is idempotent by instance id and safe to repeat after a crash at any instruction.
"""

from collections.abc import Iterator
from typing import Protocol

from havre.domain.instance import InstanceSpec, InstanceStatus


class Engine(Protocol):
    def start(self, spec: InstanceSpec) -> None:
        """Begin to run an instance and return at once, without waiting for its model to load.

        Starting an id that already runs changes nothing. Starting one that failed or is gone starts
        it afresh. Raises EngineFault when the machine cannot (disk full, supervisor unreachable).
        """

    def inspect(self, instance_id: str) -> InstanceStatus:
        """What the instance is now; phase GONE for an id that was never started or was stopped.

        Before `start` returns: GONE. While the model loads: STARTING. Never blocks on the model:
        a keeper that does not answer within a second is judged by its process alone.
        Raises EngineFault when the truth cannot be known at present.
        """

    def instances(self) -> list[InstanceStatus]:
        """Every instance that this engine knows of, of all deployments, leftovers included."""

    def drain(self, instance_id: str) -> None:
        """Ask the instance to finish what it has; `inspect` shows `copies_busy` falling to 0."""

    def stop(self, instance_id: str) -> None:
        """End the instance at once, with everything it started, and remove its files but its log.

        Returns when nothing of it runs. Unknown ids are fine. Raises EngineFault.
        """

    def changes(self) -> Iterator[str]:
        """Ids of instances that may have changed by themselves, as it happens, without end.

        A hint that saves waiting for the next look, not a record: some may be missed, some may be
        told twice. Ends, or raises EngineFault, when the connection to the engine does.
        """
