"""Work on an upload's bytes in a thread of its own: hashing and writing to the disk do not wait for
the network then, and use a processor each.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class SerialWorker:
    """Makes calls one after the other, in their order, in a thread of its own.

    Up to ``max_pending`` of them run or wait; the next ``add`` waits for the oldest, so that what
    they hold in memory is bounded. What a call raises, the ``add`` or ``finish`` that waits for it
    raises.
    """

    def __init__(self, max_pending: int) -> None:
        self._max_pending = max_pending
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._calls: deque[Future[None]] = deque()

    def add(self, call: Callable[..., None], *arguments: Any) -> None:
        while len(self._calls) >= self._max_pending:
            self._calls.popleft().result()
        self._calls.append(self._thread.submit(call, *arguments))

    def finish(self) -> None:
        """Wait for all calls."""
        while self._calls:
            self._calls.popleft().result()

    def close(self) -> None:
        """Wait for the call that runs and drop the others."""
        self._thread.shutdown(cancel_futures=True)
