"""The live file of one deployment, of one kind: appended to, closed now and then, converted."""

import os
import time
from pathlib import Path

from havre.durable import sync_folder
from havre.telemetry import layout
from havre.telemetry.collecting import Tally
from havre.telemetry.conversion import Converter, give_up_oldest
from havre.telemetry.layout import Kind

CLOSE_AT_BYTES = 16 * 1024 * 1024
AGAIN_S = 10.0
"""Pause after a conversion that failed."""


class LiveFile:
    """Whoever appends says where: what lies beyond is of a write that may not have ended.

    ``most_bytes`` bounds what waits for a conversion that fails.
    """

    def __init__(
        self,
        folder: Path,
        kind: Kind,
        converter: Converter,
        tally: Tally,
        *,
        deployment: str,
        most_bytes: int,
        close_after_s: float,
    ) -> None:
        self._folder = folder
        self._kind: Kind = kind
        self._path = folder / layout.LIVE
        self._converter = converter
        self._tally = tally
        self._source = f"{kind}/{deployment}"
        self._most_bytes = most_bytes
        self._close_after_s = close_after_s
        self._since: float | None = None
        self._not_before = 0.0

    def resume(self, at: int) -> int:
        """Cut off what is beyond ``at``; returns how much is there."""
        size = layout.size(self._path) or 0
        if size > at:
            os.truncate(self._path, at)
        return min(size, at)

    def append(self, text: str, at: int) -> int:
        """Returns how many bytes there are more. Raises OSError, and nothing has been written."""
        data = text.encode()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.lseek(descriptor, at, os.SEEK_SET)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, at)
                raise
        finally:
            os.close(descriptor)
        return len(data)

    def is_due(self, size: int) -> bool:
        """Whether it is time to close the file; ``size`` in bytes."""
        now = time.monotonic()
        if not size:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return size >= CLOSE_AT_BYTES or now >= self._since + self._close_after_s

    def close(self, now_ms: int) -> None:
        """The next entry begins another file. Raises OSError."""
        numbers = [*layout.closed_files(self._folder)]
        numbers += [segment.last for segment in layout.segments(self._folder)]
        number = max(now_ms, max(numbers, default=0) + 1)
        self._path.rename(self._folder / layout.closed_name(number))
        # Should the machine go down, its old name must not come back to a state without it.
        sync_folder(self._folder)
        self._since = None

    def convert(self) -> None:
        """What is closed becomes segments. Raises OSError, duckdb.Error; it is tried again."""
        now = time.monotonic()
        closed = layout.closed_files(self._folder)
        if not closed or now < self._not_before:
            return
        try:
            for number, path in closed.items():
                self._converter.convert(self._kind, path, number, source=self._source)
        except Exception:
            self._tally.add("failed_conversions", self._kind)
            self._not_before = now + AGAIN_S
            waiting = layout.closed_files(self._folder).values()
            give_up_oldest(waiting, self._tally, self._kind, most_bytes=self._most_bytes)
            raise
