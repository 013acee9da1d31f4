"""Rotation of the logs of the server's own programs, by copying and truncating.

A log that has grown is copied beside itself, over the earlier copy, and truncated. Its writer
appends and notices nothing; what it writes between the two is lost.
"""

import os
import shutil
from pathlib import Path

from havre.home import Home

INTERVAL_MS = 60_000
MAX_BYTES = 16 * 1024 * 1024
ROTATED_SUFFIX = ".1"
"""Ends the name of the rotated file: ``load-balancer.log.1``."""


class LogRotation:
    """The collector that rotates them. ``max_bytes`` is the limit of each."""

    name = "log rotation"

    def __init__(self, home: Home, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = home.logs
        self._max_bytes = max_bytes
        self._next_collection_ms = 0

    def collect(self, now_ms: int) -> None:
        """One pass. Raises OSError."""
        if self._next_collection_ms - INTERVAL_MS <= now_ms < self._next_collection_ms:
            return
        self._next_collection_ms = now_ms + INTERVAL_MS
        for path in sorted(self._folder.glob("*.log")):
            if path.stat().st_size > self._max_bytes:
                _copy_truncate(path)


def _copy_truncate(path: Path) -> None:
    rotated = path.with_name(f"{path.name}{ROTATED_SUFFIX}")
    with path.open("rb") as log, open(rotated, "wb", opener=_private) as copy:
        shutil.copyfileobj(log, copy)
    os.truncate(path, 0)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
