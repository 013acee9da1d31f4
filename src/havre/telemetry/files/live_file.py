"""The live file of one deployment, of one kind: appended to, closed now and then, converted."""

import os
import time
from pathlib import Path

from havre.durable import sync_folder
from havre.telemetry.counters import Counter, Counters
from havre.telemetry.files import layout
from havre.telemetry.files.converter import Converter, drop_oldest
from havre.telemetry.files.layout import EntryKind

CLOSE_AT_BYTES = 16 * 1024 * 1024
RETRY_S = 10.0
"""Pause after a conversion that failed."""


class LiveFile:
    """The caller says at which offset to append: what lies beyond is of an interrupted write.

    ``max_bytes`` bounds what waits for a conversion that fails.
    """

    def __init__(
        self,
        folder: Path,
        kind: EntryKind,
        converter: Converter,
        counters: Counters,
        *,
        max_bytes: int,
        close_after_s: float,
    ) -> None:
        self._folder = folder
        self._kind: EntryKind = kind
        self._path = folder / layout.LIVE
        self._converter = converter
        self._counters = counters
        self._max_bytes = max_bytes
        self._close_after_s = close_after_s
        self._since: float | None = None
        self._not_before = 0.0

    def resume(self, at: int) -> int:
        """Truncate to ``at`` bytes; returns the size."""
        size = layout.file_size(self._path) or 0
        if size > at:
            os.truncate(self._path, at)
        return min(size, at)

    def append(self, text: str, at: int) -> int:
        """Returns how many bytes were appended. Raises OSError; then nothing has been written."""
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
        """The next entry starts another file. Raises OSError."""
        numbers = [*layout.closed_files(self._folder)]
        numbers += [segment.last for segment in layout.segments(self._folder)]
        number = max(now_ms, max(numbers, default=0) + 1)
        self._path.rename(self._folder / layout.closed_name(number))
        # If the machine crashes, the old name must not come back beside a state without it.
        sync_folder(self._folder)
        self._since = None

    def convert(self) -> None:
        """Turn closed files into segments. Raises OSError, duckdb.Error; it is tried again."""
        now = time.monotonic()
        closed = layout.closed_files(self._folder)
        if not closed or now < self._not_before:
            return
        try:
            for number, path in closed.items():
                self._converter.convert(self._kind, path, number)
        except Exception:
            self._counters.add(Counter.CONVERSION_FAILURES, self._kind)
            self._not_before = now + RETRY_S
            waiting = layout.closed_files(self._folder).values()
            drop_oldest(waiting, self._counters, self._kind, max_bytes=self._max_bytes)
            raise
