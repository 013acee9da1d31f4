"""Follows the files of one deployment, within a rate limit.

A flood is bounded: so many lines a second are kept, after a quiet time some more. The others are
dropped and counted; where a file is far ahead of what could be kept, it is not even read.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from havre.telemetry.files.layout import CAPTURE, EntryKind
from havre.telemetry.logs import captured, output_files, printed
from havre.telemetry.logs.offsets import FileOffset, Offsets
from havre.telemetry.logs.output_files import OutputFile, Source

HOLD_S = 3.0
"""How long a line waits for its mark: a long request is marked every second."""
KEEPER_HOLD_S = 0.4
BURST_S = 10.0
MAX_DOWN_S = 3600.0
"""The rate limit refills for at most so long a time without collection."""
LINE_BYTES = 1024
"""A longer line counts as several."""
MAX_BEHIND = 8 * 1024 * 1024
READ_BYTES, MAX_READ_BYTES = 256 * 1024, 1024 * 1024
"""Bytes read at once; the second only where one request has printed more than the first."""

_log = logging.getLogger(__name__)


class Entry(Protocol):
    """What was read at offset ``at``: ``lines`` lines, of ``size`` characters."""

    @property
    def at(self) -> int: ...
    @property
    def time_ms(self) -> int: ...
    @property
    def lines(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def fields(self) -> Mapping[str, Any]: ...


class _Read(Protocol):
    def __call__(
        self, data: bytes, at: int, *, settled_until: int, now_ms: int
    ) -> tuple[Sequence[Entry], int]: ...


class RateLimit:
    """A token bucket: how many lines may be kept, at ``rate`` a second."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.left = rate * BURST_S

    def refill(self, passed_s: float) -> None:
        """So much time has passed since the last call."""
        passed_s = min(max(0.0, passed_s), MAX_DOWN_S)
        capacity = self.rate * max(BURST_S, passed_s)
        self.left = max(self.left, min(capacity, self.left + self.rate * passed_s))

    def consume(self, size: int) -> bool:
        """Returns whether there was enough left for so many characters."""
        cost = 1 + size // LINE_BYTES
        if cost > self.left:
            return False
        self.left -= cost
        return True


@dataclass(slots=True)
class Batch:
    """What one pass has read of one file of ``size`` bytes, from the offset ``before`` on."""

    source: Source
    offset: FileOffset
    before: int
    size: int
    entries: list[Entry] = field(default_factory=list)
    dropped_lines: int = 0
    unread_bytes: int = 0

    @property
    def lines(self) -> int:
        return sum(entry.lines for entry in self.entries)


@dataclass(slots=True)
class _SizeAt:
    """Since when a file has had the size ``end``, or more."""

    since: float = 0.0
    end: int = -1


class Tailer:
    """Resumes each file at its offset, within the rate limit."""

    def __init__(self, kind: EntryKind, rate_limit: RateLimit) -> None:
        self._rate_limit = rate_limit
        self._parse: _Read = captured.read if kind == CAPTURE else printed.read
        # A captured request is one line: a part of it is of no use.
        self._read_bytes = MAX_READ_BYTES if kind == CAPTURE else READ_BYTES
        self._sizes: dict[str, _SizeAt] = {}

    def forget(self, key: str) -> None:
        self._sizes.pop(key, None)

    def read(self, offsets: Offsets, source: Source, *, now_ms: int, until: float) -> Batch | None:
        """Read on in one file, advancing its offset; None if there is nothing new.

        ``until``: when to leave the rest for the next pass (``monotonic()``).
        """
        with output_files.opened(source) as file:
            if file is None:
                return None
            offset = offsets.files.get(source.key)
            if offset is None:
                offset = FileOffset(at=source.begins, inode=file.inode)
            elif offset.inode != file.inode or file.size < offset.at:
                offset = FileOffset(0, file.inode, offset.life + 1, offset.last)
            elif file.size == offset.at and not source.is_over:
                return None
            offsets.files[source.key] = offset
            batch = Batch(source, offset, offset.at, file.size)
            try:
                self._skip(batch, file)
                self._read(batch, file, self._settled_until(batch, file), now_ms, until)
            except OSError as error:
                _log.error("%s cannot be read: %s", source.path, error)
                offset.at = batch.before
                return None
            return batch

    def _skip(self, batch: Batch, file: OutputFile) -> None:
        """Skip what would not be kept anyway: reading it takes longer than printing it did."""
        offset = batch.offset
        max_behind = max(MAX_BEHIND, int(self._rate_limit.left) * LINE_BYTES)
        if file.size - offset.at <= max_behind:
            return
        until = file.size - MAX_READ_BYTES
        _, data = file.read(until, READ_BYTES)
        until += data.find(b"\n") + 1
        batch.dropped_lines += file.count_lines(offset.at, until)
        batch.unread_bytes += until - offset.at
        offset.at = until

    def _settled_until(self, batch: Batch, file: OutputFile) -> int:
        """The offset up to which lines have waited for their marks long enough."""
        source, at = batch.source, batch.offset.at
        if source.is_over:
            return file.size
        size = self._sizes.setdefault(source.key, _SizeAt())
        now = time.monotonic()
        hold_s = KEEPER_HOLD_S if source.copy is None else HOLD_S
        if size.end > at and now < size.since + hold_s:
            return at
        settled_until = size.end if size.end > at else at
        size.since, size.end = now, file.size
        return settled_until

    def _read(
        self, batch: Batch, file: OutputFile, settled_until: int, now_ms: int, until: float
    ) -> None:
        offset, read_bytes = batch.offset, self._read_bytes
        by_ms = min(now_ms, file.changed_ms)
        while True:
            begins, data = file.read(offset.at, read_bytes)
            offset.at = begins
            if not data:
                return
            is_full = begins + len(data) < file.size
            entries, end = self._parse(data, begins, settled_until=settled_until, now_ms=by_ms)
            if end == begins and is_full:
                if len(data) == read_bytes < MAX_READ_BYTES:
                    read_bytes = MAX_READ_BYTES
                    continue
                # Too much to wait for its mark: take it without.
                forced = begins + (data.rfind(b"\n") + 1 or len(data))
                entries, end = self._parse(data, begins, settled_until=forced, now_ms=by_ms)
            self._admit(batch, entries)
            offset.at = end
            if end == begins or end >= file.size or time.monotonic() > until:
                return
            read_bytes = self._read_bytes

    def _admit(self, batch: Batch, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self._rate_limit.consume(entry.size):
                batch.entries.append(entry)
            else:
                batch.dropped_lines += entry.lines
