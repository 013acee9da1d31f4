"""The logs of the server's own programs stay short, however long it runs.

One that has grown is copied beside itself, in place of what was copied before, and emptied. Its
writer appends, and notices nothing; what it writes between the two is lost.
"""

import os
import shutil
from pathlib import Path

from havre.home import Home

LOOK_MS = 60_000
MOST_BYTES = 16 * 1024 * 1024
EARLIER = ".1"
"""Ends the name of the copy: ``envoy.log.1``."""


class OwnLogs:
    """The collector of what these logs hold too much of. ``most_bytes`` are for each."""

    name = "own logs"

    def __init__(self, home: Home, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder = home.logs
        self._most_bytes = most_bytes
        self._next_look_ms = 0

    def collect(self, now_ms: int) -> None:
        """One look. Raises OSError."""
        if self._next_look_ms - LOOK_MS <= now_ms < self._next_look_ms:
            return
        self._next_look_ms = now_ms + LOOK_MS
        for path in sorted(self._folder.glob("*.log")):
            if path.stat().st_size > self._most_bytes:
                _begin_anew(path)


def _begin_anew(path: Path) -> None:
    earlier = path.with_name(f"{path.name}{EARLIER}")
    with path.open("rb") as written, open(earlier, "wb", opener=_private) as kept:
        shutil.copyfileobj(written, kept)
    os.truncate(path, 0)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
