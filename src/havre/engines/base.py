"""The contract of an engine: where instances run.

An engine keeps no wishes of its own: the reconciler says start or stop, looks again, and decides
anew. Every call is idempotent by instance id and safe to repeat after a crash at any instruction.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from havre.domain.instance import (
    CheckAnswer,
    CheckRequest,
    InstanceSpec,
    InstanceStatus,
    RecordedRequest,
)
from havre.domain.policy import Capture


class Engine(Protocol):
    def start(self, spec: InstanceSpec) -> None:
        """Begin to run an instance and return at once, without waiting for its model to load.

        Starting an id that already runs changes nothing. Starting one that failed or is gone starts
        it afresh. Raises EngineFault when the machine cannot (disk full, supervisor unreachable).
        """

    def inspect(self, instance_id: str) -> InstanceStatus:
        """What the instance is now; phase GONE for an id that was never started or was stopped, and
        for one that ended while nobody watched, which says nothing of its model.

        Before `start` returns: GONE. While the model loads: STARTING. Never blocks on the model:
        a keeper that does not answer within a second is judged by its process alone.
        Raises EngineFault when the truth cannot be known at present.
        """

    def instances(self) -> list[InstanceStatus]:
        """Every instance that this engine knows of, of all deployments, leftovers included."""

    def stop(self, instance_id: str) -> None:
        """End the instance at once, with everything it started, and remove its files but its log.

        Who wants its requests finished takes it out of the route first, and looks until it is idle.
        Returns when nothing of it runs. Unknown ids are fine. Raises EngineFault.
        """

    def check(self, instance_id: str, requests: Sequence[CheckRequest]) -> list[CheckAnswer]:
        """Ask the model, in a process of its own beside the copies; an answer for each, in order.

        Blocks: up to the predict timeout for each request, and as long as loading takes if copies
        load their own model. A request that ends that process or takes too long has status 0, and
        the next is asked of another; after four such, the rest have status 0 unasked. All this goes
        for each 128 requests, or 8 MiB: so many are asked in one go. Nothing is counted, recorded
        or seen by the copies, but the predict log is the same. Raises EngineFault when the instance
        is not READY or its keeper does not answer.
        """

    def sample(self, instance_id: str) -> CheckRequest | None:
        """The sample request that came with the artifact: ``test_input.json``, or the first example
        in its ``input_schema.json``; None where there is neither. Raises EngineFault as `check`.
        """

    def record(self, instance_id: str, most: int) -> None:
        """From now on keep the last ``most`` live requests and their answers, in memory; 0: none.

        Each copy has 1 MiB for it; the oldest go first, and what is larger is not kept. Streams and
        requests that did not reach the model are not kept. `InstanceStatus.recording` shows it. An
        instance that an earlier version of havre started keeps none. Raises EngineFault as `check`.
        """

    def recorded(self, instance_id: str) -> list[RecordedRequest]:
        """Those kept, of all copies, the oldest first; they stay. Raises EngineFault as `check`."""

    def capture(self, instance_id: str, wanted: Capture) -> None:
        """From now on write these requests with their answers where the telemetry process collects
        them. `InstanceStatus.capture` shows it. An instance that an earlier version of havre
        started captures none. Raises EngineFault as `check`.
        """

    def changes(self) -> Iterator[str]:
        """Ids of instances that may have changed by themselves, as it happens, without end.

        A hint that saves waiting for the next look, not a record: some may be missed, some may be
        told twice. Ends, or raises EngineFault, when the connection to the engine does.
        """
