"""Slow tasks beside the passes: at most one for each key, in threads of their own.

The next pass looks up what has come of a task. Nothing of this survives a crash: the next control
plane begins its tasks again.
"""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent import futures
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from havre.domain.rollout.planner_input import Outcome, Stage

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Task:
    """``at`` is when its outcome was recorded, in monotonic seconds. ``faults``: how often in a row
    it has ended without an outcome, through no fault of what it is about.
    """

    outcome: Outcome = field(default_factory=Outcome)
    at: float = 0.0
    faults: int = 0


class Background(Generic[K]):
    """Thread-safe. A task calls `finish` as the last thing that it does."""

    def __init__(self, pool: futures.Executor) -> None:
        self._pool = pool
        self._tasks: dict[K, Task] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def task(self, key: K) -> Task:
        with self._lock:
            return self._tasks.get(key, Task())

    def begin(self, key: K, act: Callable[[], None]) -> None:
        """Run ``act`` in a thread of the pool, unless a task of this key runs or has an outcome."""
        with self._lock:
            before = self._tasks.get(key, Task())
            if before.outcome.stage is not Stage.NONE:
                return
            self._tasks[key] = Task(Outcome(Stage.RUNNING), time.monotonic(), before.faults)
        self._pool.submit(act)

    def is_running(self, key: K) -> bool:
        """False also for a task that still runs but was dropped, or is to end with all others."""
        return not self._closing.is_set() and self.task(key).outcome.stage is Stage.RUNNING

    def finish(self, key: K, outcome: Outcome, *, faults: int = 0) -> bool:
        """Record the outcome, with NONE to begin again; returns False where none is wanted."""
        with self._lock:
            running = self._tasks.get(key, Task()).outcome.stage is Stage.RUNNING
            if self._closing.is_set() or not running:
                return False
            if outcome.stage is Stage.NONE and not faults:
                del self._tasks[key]  # as if it had never begun
            else:
                self._tasks[key] = Task(outcome, time.monotonic(), faults)
            return True

    def drop(self, is_dropped: Callable[[K, Task], bool]) -> None:
        """Forget tasks; one that runs is not wanted any more."""
        with self._lock:
            for key in [key for key, task in self._tasks.items() if is_dropped(key, task)]:
                del self._tasks[key]

    def pause(self, seconds: float) -> None:
        """For a task: wait, but not beyond the end of all."""
        self._closing.wait(seconds)

    def close(self) -> None:
        """Begin no more tasks. Those that run are not waited for, and not wanted any more."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
