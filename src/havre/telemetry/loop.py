"""The loop of the telemetry process: collectors, one after the other, each a few times a second."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from havre.domain.errors import HavreError

TICK_S = 0.5
REPEAT_LOG_AFTER_S = 60.0

_log = logging.getLogger(__name__)


class Collector(Protocol):
    """Something to be called repeatedly; it may be killed at any moment and resumes from files.

    ``collect`` returns at once when there is nothing to do. What it raises is logged, and does not
    stop the others.
    """

    name: str

    def collect(self, now_ms: int) -> None: ...


def run(
    collectors: Sequence[Collector], stopping: threading.Event, *, tick_s: float = TICK_S
) -> None:
    """Collect until ``stopping`` is set."""
    logged: dict[str, tuple[str, float]] = {}
    while not stopping.is_set():
        for collector in collectors:
            if stopping.is_set():
                return
            try:
                collector.collect(time.time_ns() // 1_000_000)
            except Exception as error:
                _log_once_a_minute(logged, collector.name, error)
        stopping.wait(tick_s)


def _log_once_a_minute(logged: dict[str, tuple[str, float]], name: str, error: Exception) -> None:
    """A collector that fails does so at every tick."""
    now = time.monotonic()
    before, when = logged.get(name, ("", 0.0))
    if str(error) != before or now > when + REPEAT_LOG_AFTER_S:
        logged[name] = (str(error), now)
        _log.error("%s: %s", name, error, exc_info=not isinstance(error, OSError | HavreError))
