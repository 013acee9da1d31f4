"""Turns of queries: a few run at once and share the memory; the others wait."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from havre.domain.errors import TooBusy

MAX_CONCURRENT = 3
MAX_WAITING = 21
WAIT_S = 20.0


class Turn:
    """``was_alone``: no other turn has overlapped this one."""

    def __init__(self) -> None:
        self.was_alone = True


class Turns:
    """First come, first served. Thread-safe."""

    def __init__(
        self,
        *,
        max_concurrent: int = MAX_CONCURRENT,
        max_waiting: int = MAX_WAITING,
        wait_s: float = WAIT_S,
    ) -> None:
        self._max_concurrent = max_concurrent
        self._max_waiting = max_waiting
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._waiting: deque[Turn] = deque()
        self._running: set[Turn] = set()
        self._is_exclusive = False

    @contextmanager
    def take(self) -> Iterator[Turn]:
        """A turn beside others. Raises TooBusy when too many wait, or the wait is too long."""
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                raise TooBusy("too many queries are waiting; try again soon")
        with self._turn(is_exclusive=False) as turn:
            yield turn

    @contextmanager
    def take_alone(self) -> Iterator[Turn]:
        """A turn with no others, ahead of all that wait: for a query that has had one already.
        Raises TooBusy when the wait is too long."""
        with self._turn(is_exclusive=True) as turn:
            yield turn

    @contextmanager
    def _turn(self, *, is_exclusive: bool) -> Iterator[Turn]:
        turn = Turn()
        with self._changed:
            self._wait(turn, is_exclusive)
            self._is_exclusive = is_exclusive
            for other in self._running:
                other.was_alone = turn.was_alone = False
            self._running.add(turn)
        try:
            yield turn
        finally:
            with self._changed:
                self._running.remove(turn)
                self._is_exclusive = False
                self._changed.notify_all()

    def _wait(self, turn: Turn, is_exclusive: bool) -> None:
        if is_exclusive:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        limit = 1 if is_exclusive else self._max_concurrent
        try:
            if not self._changed.wait_for(
                lambda: (
                    self._waiting[0] is turn
                    and not self._is_exclusive
                    and len(self._running) < limit
                ),
                self._wait_s,
            ):
                raise TooBusy(
                    f"other queries have taken longer than {self._wait_s:g} s; try again soon"
                )
        finally:
            self._waiting.remove(turn)
            self._changed.notify_all()
