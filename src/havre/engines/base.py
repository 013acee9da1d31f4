"""The contract of an engine: where instances run.

An engine decides nothing by itself: the reconciler starts and stops instances, looks again, and
decides again. Every call is idempotent by instance id and safe to repeat after a crash at any
instruction.
"""

from collections.abc import Iterator
from typing import Protocol

from havre.domain.instance import InstanceSpec, InstanceStatus
from havre.engines.model_channel import ModelChannel


class Engine(Protocol):
    def start(self, spec: InstanceSpec) -> None:
        """Begin to run an instance and return at once, without waiting for its model to load.

        Starting an id that already runs changes nothing. Starting one that failed or is gone starts
        it again. Raises EngineFault when the machine cannot (disk full, supervisor unreachable).
        """

    def inspect(self, instance_id: str) -> InstanceStatus:
        """What the instance is now; phase GONE for an id that was never started or was stopped, and
        for one that ended while nobody watched, which proves nothing against its model.

        Before `start` returns: GONE. While the model loads: STARTING. Never blocks on the model:
        a keeper that does not answer within a second is judged by its process alone. Never acts:
        an instance that was not ready in time is FAILED, and runs until it is stopped.
        Raises EngineFault when the truth cannot be known at present.
        """

    def instances(self) -> list[InstanceStatus]:
        """Every instance that this engine knows of, of all deployments, leftovers included."""

    def stop(self, instance_id: str) -> None:
        """End the instance at once, with everything it started, and remove its files but its log.

        Who wants its requests finished takes it out of the route first, and looks until it is idle.
        Returns when nothing of it runs and its files are out of the way, whatever they are. Unknown
        ids are fine. Raises EngineFault.
        """

    def changes(self) -> Iterator[str]:
        """Ids of instances that may have changed by themselves, as it happens, without end.

        A hint that saves waiting for the next look, not a record: some may be missed, some may be
        reported twice. Ends, or raises EngineFault, when the connection to the engine does.
        """

    def channel(self, instance_id: str) -> ModelChannel | None:
        """Where the instance's model can be asked apart from its traffic; None where it cannot.

        Costs nothing and needs no instance: the channel itself finds out whether there is one.
        """


class LocalEngine(Engine, Protocol):
    """An engine whose instances take this home's disk."""

    def end(self, instance_id: str, reason: str) -> None:
        """End an instance as one that has failed, and keep the reason; safe to repeat.

        Raises EngineFault.
        """
