"""Reports passes that do not end, and the step that each is at.

A pass calls the database, a supervisor and keepers, all with time limits: one that takes over a
minute hangs in something that has none. It cannot be ended from outside; so it is logged and
counted, and its worker is replaced by another.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STUCK_S = 60.0
LOG_AGAIN_S = 600.0
MAX_REPLACED = 48
"""Workers that hang and have been replaced, at any time."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Watched:
    """One pass. ``is_replaced``: another worker was started in place of its own."""

    deployment_id: str
    began: float
    step: str = "starting"
    logged_at: float | None = None
    is_replaced: bool = False


class PassMonitor:
    """Thread-safe. ``replace`` starts another worker, and returns whether it did; the worker of a
    pass that was replaced ends with it.
    """

    def __init__(
        self, replace: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._replace = replace
        self._clock = clock
        self._passes: dict[int, Watched] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watching(self, deployment_id: str) -> Iterator[Watched]:
        """This thread's pass, from now until the end of the block."""
        watched = Watched(deployment_id, self._clock())
        with self._lock:
            self._passes[threading.get_ident()] = watched
        try:
            yield watched
        finally:
            with self._lock:
                del self._passes[threading.get_ident()]
            if watched.logged_at is not None:
                took_s = self._clock() - watched.began
                logger.warning("%s: the pass that hung ended after %.0f s", deployment_id, took_s)

    def at(self, step: str) -> None:
        """Set the step that the pass of this thread is at."""
        watched = self._passes.get(threading.get_ident())
        if watched is not None:
            watched.step = step

    def report_stuck(self) -> int:
        """Log the passes that hang, and replace their workers; returns how many hang."""
        now = self._clock()
        with self._lock:
            stuck = [watched for watched in self._passes.values() if now - watched.began >= STUCK_S]
            for watched in stuck:
                if watched.logged_at is None or now - watched.logged_at >= LOG_AGAIN_S:
                    watched.logged_at = now
                    logger.error(
                        "%s: a pass of the reconciler has not ended in %.0f s; it is at: %s",
                        watched.deployment_id,
                        now - watched.began,
                        watched.step,
                    )
            replaced = sum(watched.is_replaced for watched in stuck)
            for watched in stuck:
                if not watched.is_replaced and replaced < MAX_REPLACED:
                    watched.is_replaced = self._replace()
                    replaced += watched.is_replaced
        return len(stuck)
