"""Work on an upload's bytes that goes on beside the upload: hashing and writing to the disk take
turns in nobody's thread then, and use a processor each.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Beside:
    """Calls, made in their order in a thread of their own. ``most`` of them may be under way or
    wait; the next ``add`` waits for the oldest, so what they hold in memory is bounded.

    What a call raises, the ``add`` or ``finish`` that waits for it raises.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._calls: deque[Future[None]] = deque()

    def add(self, call: Callable[..., None], *arguments: Any) -> None:
        while len(self._calls) >= self._most:
            self._calls.popleft().result()
        self._calls.append(self._thread.submit(call, *arguments))

    def finish(self) -> None:
        """Wait for all calls."""
        while self._calls:
            self._calls.popleft().result()

    def close(self) -> None:
        """Wait for the call under way and drop the others."""
        self._thread.shutdown(cancel_futures=True)
