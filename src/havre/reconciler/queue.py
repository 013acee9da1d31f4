"""A queue of keys to work on: each at most once at a time, now or later.

A key that is added while a thread works on it is handed out again afterwards, so no change is ever
missed. Of several times for one key the earliest counts.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class WorkQueue:
    """Thread-safe. ``clock`` is a monotonic clock in seconds. ``on_take`` is called for
    each key that is handed out with how late that is, in seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        on_take: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._on_take = on_take
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._working: set[str] = set()
        self._closed = False

    def add(self, key: str, delay_s: float = 0.0) -> None:
        """Hand the key out after the delay, or earlier if that was asked for before."""
        with self._changed:
            due = self._clock() + delay_s
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._changed.notify()

    def take(self) -> str | None:
        """The next key that is due; waits for one. None when the queue is closed."""
        with self._changed:
            while not self._closed:
                key, wait_s = self._next()
                if key is not None:
                    self._on_take(self._clock() - self._due.pop(key))
                    self._working.add(key)
                    return key
                self._changed.wait(wait_s)
            return None

    def done(self, key: str) -> None:
        """The taker has finished with the key; it may be handed out again."""
        with self._changed:
            self._working.discard(key)
            if key in self._due:
                heapq.heappush(self._heap, (self._due[key], next(self._order), key))
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> tuple[str | None, float | None]:
        while self._heap:
            due, _, key = self._heap[0]
            is_stale = self._due.get(key) != due or key in self._working
            if is_stale:
                heapq.heappop(self._heap)
            elif due > (now := self._clock()):
                return None, due - now
            else:
                heapq.heappop(self._heap)
                return key, None
        return None, None
