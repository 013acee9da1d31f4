"""What the telemetry process counts of itself; every count is a series of ``GET /metrics``."""

import collections
import threading
from enum import StrEnum


class Counter(StrEnum):
    """The label of the first five says of which log, that of the others which signal of OTLP."""

    STORED = "stored"
    """Entries that are in segments."""
    DROPPED = "dropped"
    """Entries above the rate limit."""
    LOST = "lost"
    """Entries that a full disk did not take, or whose file could not be converted."""
    WRITE_FAILURES = "write_failures"
    """Writes of the load balancer, each of up to half a second of entries."""
    CONVERSION_FAILURES = "conversion_failures"
    """Conversions of a closed file, which is tried again."""
    EXPORTED = "exported"
    """Log records or metric points that the collector has accepted."""
    EXPORT_REJECTED = "export_rejected"
    """Those that it has rejected for good."""
    EXPORT_FAILED = "export_failed"
    """Those in requests that failed: log records are sent again."""


class Counters:
    """Counts since this process began, by counter and label. Thread-safe."""

    def __init__(self) -> None:
        self._counts: collections.Counter[tuple[Counter, str]] = collections.Counter()
        self._lock = threading.Lock()

    def add(self, counter: Counter, label: str, number: int = 1) -> None:
        with self._lock:
            self._counts[counter, label] += number

    def __getitem__(self, key: tuple[Counter, str]) -> int:
        with self._lock:
            return self._counts[key]

    def to_json(self) -> dict[str, dict[str, int]]:
        """By counter, then by label."""
        counts: dict[str, dict[str, int]] = {}
        with self._lock:
            for (counter, label), number in self._counts.items():
                counts.setdefault(counter, {})[label] = number
        return counts
