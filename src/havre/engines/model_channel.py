"""The contract of a channel to one instance's model, beside the requests that clients send it.

Not every engine has one: a program that is only sent its traffic cannot be asked anything else.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from havre.domain.instance import CheckRequest, CheckResponse, RecordedRequest
from havre.domain.rollout.policy import Capture


def always() -> bool:
    return True


class ModelChannel(Protocol):
    """Every method raises EngineFault when the instance is not READY or its keeper does not answer.

    Nothing is remembered here: a channel may be used for as long as its instance is there.
    """

    def check(
        self, requests: Sequence[CheckRequest], *, should_continue: Callable[[], bool] = always
    ) -> Iterator[CheckResponse]:
        """Ask the model, in a process of its own beside the copies; an answer for each, in order,
        when it is asked for.

        Blocks: up to the predict timeout for each request, and as long as loading takes if copies
        load their own model. A request that ends that process or takes too long has status 0, and
        the next is asked of another; after four such, the rest have status 0 unasked. All this goes
        for each 128 requests, or 8 MiB: so many are asked in one go. Nothing is counted, recorded
        or seen by the copies, but the predict log is the same. Raises EngineFault at once or later,
        and soon after ``should_continue`` returns false.
        """

    def sample(self) -> CheckRequest | None:
        """The sample request that came with the artifact: ``test_input.json``, or the first example
        in its ``input_schema.json``; None where there is neither.
        """

    def record(self, limit: int) -> None:
        """From now on keep the last ``limit`` live requests and their responses; 0: none.

        Each copy has 1 MiB of memory for it; the oldest go first, and what is larger is not kept.
        Streams and requests that did not reach the model are not kept. `InstanceStatus.recording`
        shows it. An instance that an earlier version of havre started keeps none.
        """

    def recorded(
        self, limit: int, *, should_continue: Callable[[], bool] = always
    ) -> list[RecordedRequest]:
        """The last ``limit`` of those kept, of all copies, the oldest first; they stay. 64 MiB at
        most.
        """

    def capture(self, policy: Capture) -> None:
        """From now on write these requests with their responses where the telemetry process
        collects them. `InstanceStatus.capture` shows it. An instance that an earlier version of
        havre started captures none.
        """

    def end_keeper(self) -> None:
        """End the keeper, which stands still: the copies serve on, new connections included, and
        the instance is DEGRADED. Without a keeper that runs: nothing.
        """
