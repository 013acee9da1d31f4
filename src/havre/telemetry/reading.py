"""How far the files of one deployment have been read, and what of them is kept.

A flood is bounded: so many lines a second are kept, after a quiet time some more. The others are
counted; where a file is far ahead of what could be kept, it is not even looked at.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from havre.domain import captured, printed
from havre.telemetry import output_files
from havre.telemetry.layout import CAPTURE, Kind
from havre.telemetry.output_files import OutputFile, Source
from havre.telemetry.positions import Place, Positions

HOLD_S = 3.0
"""So long a line waits for its mark: a request that takes long is marked every second."""
KEEPER_HOLD_S = 0.4
BURST_S = 10.0
MOST_DOWN_S = 3600.0
"""Of lines that were printed while nobody collected, those of this time count as in time."""
LINE_BYTES = 1024
"""What is longer counts as several lines."""
MOST_BEHIND = 8 * 1024 * 1024
READ, MOST_READ = 256 * 1024, 1024 * 1024
"""Bytes looked at together; more only where a request has printed more than that."""

_log = logging.getLogger(__name__)


class Entry(Protocol):
    """What was read at ``at`` of a file: ``lines`` of it, of ``size`` characters."""

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
        self, data: bytes, at: int, *, patience: int, now_ms: int
    ) -> tuple[Sequence[Entry], int]: ...


class Allowance:
    """How many lines may be kept, at ``rate`` a second."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.left = rate * BURST_S

    def earn(self, passed_s: float) -> None:
        """Nobody collected for so long: lines of that time are not too many for it."""
        passed_s = min(max(0.0, passed_s), MOST_DOWN_S)
        most = self.rate * max(BURST_S, passed_s)
        self.left = max(self.left, min(most, self.left + self.rate * passed_s))

    def spend(self, size: int) -> bool:
        """Whether there was enough left for so many characters."""
        cost = 1 + size // LINE_BYTES
        if cost > self.left:
            return False
        self.left -= cost
        return True


@dataclass(slots=True)
class Taken:
    """What one look at one file has brought: from ``before`` to ``at``, of ``size`` bytes."""

    source: Source
    place: Place
    before: int
    size: int
    entries: list[Entry] = field(default_factory=list)
    dropped_lines: int = 0
    unread_bytes: int = 0

    @property
    def lines(self) -> int:
        return sum(entry.lines for entry in self.entries)


@dataclass(slots=True)
class _Watch:
    """Since when the end of a file was at ``end``, or beyond."""

    since: float = 0.0
    end: int = -1


class Reading:
    """Reads on where it was, within the allowance."""

    def __init__(self, kind: Kind, allowance: Allowance) -> None:
        self._allowance = allowance
        self._parse: _Read = captured.read if kind == CAPTURE else printed.read
        # A captured request is one line: a part of it says nothing.
        self._at_once = MOST_READ if kind == CAPTURE else READ
        self._watches: dict[str, _Watch] = {}

    def forget(self, key: str) -> None:
        self._watches.pop(key, None)

    def take(
        self, positions: Positions, source: Source, *, now_ms: int, until: float
    ) -> Taken | None:
        """Read on in one file, moving its place; None if there is nothing new.

        ``until``: when to leave the rest for another time (``monotonic()``).
        """
        with output_files.opened(source.path) as file:
            if file is None:
                return None
            place = positions.files.get(source.key)
            if place is None:
                place = Place(at=source.begins, inode=file.inode)
            elif place.inode != file.inode or file.size < place.at:
                place = Place(0, file.inode, place.life + 1)
            elif file.size == place.at and not source.is_over:
                return None
            positions.files[source.key] = place
            taken = Taken(source, place, place.at, file.size)
            try:
                self._skip(taken, file)
                self._read(taken, file, self._patience(taken, file), now_ms, until)
            except OSError as error:
                _log.error("%s cannot be read: %s", source.path, error)
                place.at = taken.before
                return None
            return taken

    def _skip(self, taken: Taken, file: OutputFile) -> None:
        """Leave out what would not be kept anyway: reading it takes longer than printing it did."""
        place = taken.place
        most = max(MOST_BEHIND, int(self._allowance.left) * LINE_BYTES)
        if file.size - place.at <= most:
            return
        until = file.size - MOST_READ
        _, data = file.read(until, READ)
        until += data.find(b"\n") + 1
        taken.dropped_lines += file.count_lines(place.at, until)
        taken.unread_bytes += until - place.at
        place.at = until

    def _patience(self, taken: Taken, file: OutputFile) -> int:
        """How far the file has waited for marks for long enough."""
        source, at = taken.source, taken.place.at
        if source.is_over:
            return file.size
        watch = self._watches.setdefault(source.key, _Watch())
        now = time.monotonic()
        hold_s = KEEPER_HOLD_S if source.copy is None else HOLD_S
        if watch.end > at and now < watch.since + hold_s:
            return at
        patience = watch.end if watch.end > at else at
        watch.since, watch.end = now, file.size
        return patience

    def _read(
        self, taken: Taken, file: OutputFile, patience: int, now_ms: int, until: float
    ) -> None:
        place, most = taken.place, self._at_once
        by_ms = min(now_ms, file.changed_ms)
        while True:
            begins, data = file.read(place.at, most)
            place.at = begins
            if not data:
                return
            is_full = begins + len(data) < file.size
            entries, end = self._parse(data, begins, patience=patience, now_ms=by_ms)
            if end == begins and is_full:
                if len(data) == most < MOST_READ:
                    most = MOST_READ
                    continue
                # Too much to wait for its mark.
                forced = begins + (data.rfind(b"\n") + 1 or len(data))
                entries, end = self._parse(data, begins, patience=forced, now_ms=by_ms)
            self._admit(taken, entries)
            place.at = end
            if end == begins or end >= file.size or time.monotonic() > until:
                return
            most = self._at_once

    def _admit(self, taken: Taken, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self._allowance.spend(entry.size):
                taken.entries.append(entry)
            else:
                taken.dropped_lines += entry.lines
