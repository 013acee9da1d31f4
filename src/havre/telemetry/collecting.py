"""The loop of the telemetry process: collectors, one after the other, each a few times a second."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from havre.domain.errors import HavreError
from havre.telemetry.layout import Kind

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TICK_S = 0.5
COMPLAIN_AGAIN_S = 60.0

_log = logging.getLogger(__name__)


class Collector(Protocol):
    """Something to look at again and again; it may be killed at any moment, and goes on from files.

    ``collect`` returns at once when there is nothing to do. What it raises is told, and does not
    stop the others.
    """

    name: str

    def collect(self, now_ms: int) -> None: ...


class Observer(Protocol):
    """Sees each closed file's entries before they go into segments. What it raises is told, and the
    file is converted another time.

    ``connection`` has them in the table ``batch``, with the columns of ``entries.columns_of``.
    After a crash the same ``number`` of the same ``source`` may come again, with the same entries:
    who counts must keep which were counted. ``source`` is the category of the access log's, which
    are all deployments', and ``predict/<deployment>`` or ``capture/<deployment>`` of the others.
    """

    def observe(
        self, connection: "DuckDBPyConnection", *, category: Kind, source: str, number: int
    ) -> None: ...


class Tally:
    """Counts since this process began, by name and label, which is a category.

    ``kept`` and ``lost``: entries. ``failed_writes``: of the load balancer, each of up to half a
    second of entries. ``failed_conversions``: of closed files.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, label: str, number: int = 1) -> None:
        self._counts[name, label] += number

    def __getitem__(self, key: tuple[str, str]) -> int:
        return self._counts[key]


def run(
    collectors: Sequence[Collector], stopping: threading.Event, *, tick_s: float = TICK_S
) -> None:
    """Collect until ``stopping`` is set."""
    complained: dict[str, tuple[str, float]] = {}
    while not stopping.is_set():
        for collector in collectors:
            if stopping.is_set():
                return
            try:
                collector.collect(time.time_ns() // 1_000_000)
            except Exception as error:
                _complain(complained, collector.name, error)
        stopping.wait(tick_s)


def _complain(complained: dict[str, tuple[str, float]], name: str, error: Exception) -> None:
    """Once a minute at most: what fails, fails at every tick."""
    now = time.monotonic()
    before, when = complained.get(name, ("", 0.0))
    if str(error) != before or now > when + COMPLAIN_AGAIN_S:
        complained[name] = (str(error), now)
        _log.error("%s: %s", name, error, exc_info=not isinstance(error, OSError | HavreError))
