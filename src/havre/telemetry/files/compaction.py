"""Keeps segments few and bounded: merges small ones, removes the oldest.

Pure functions over a folder's content decide; there is one merge per pass, so that the rest of the
process never waits long.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry.files import layout, retention
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.layout import KINDS, EntryKind, Segment
from havre.telemetry.files.listing import Listing
from havre.telemetry.files.parquet import TEMPORARY_PREFIX

INTERVAL_MS = 30_000
QUIET_MS = 3_600_000
"""How long a folder that needed nothing is skipped, unless something is written to it."""
DAY_MS = 86_400_000
SETTLED_MS = 3_600_000
"""How long after its end a day is merged as a whole."""
MERGE_COUNT = 16
"""How many neighbours of one level become one segment of the next."""
LEVELS = (256 * 1024, 4 * 1024 * 1024)
"""Sizes (bytes) at which the levels after the first begin."""
MAX_MERGED_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sized:
    segment: Segment
    size: int

    @property
    def level(self) -> int:
        return sum(self.size >= bound for bound in LEVELS)

    @property
    def day(self) -> int:
        return self.segment.from_ms // DAY_MS


def expired(
    segments: Sequence[Sized], *, now_ms: int, retention_days: int, max_bytes: int
) -> list[Segment]:
    """Those with nothing younger than ``retention_days``, and the oldest beyond ``max_bytes``."""
    kept: list[Sized] = []
    gone: list[Segment] = []
    room = max_bytes
    for sized in sorted(segments, key=lambda sized: sized.segment.to_ms, reverse=True):
        room -= sized.size
        too_old = sized.segment.to_ms < now_ms - retention_days * DAY_MS
        if too_old or room < 0:
            gone.append(sized.segment)
        else:
            kept.append(sized)
    return gone


def next_merge(segments: Sequence[Sized], *, now_ms: int, max_bytes: int) -> list[Segment]:
    """The next segments to merge, neighbours by number; empty if there are none.

    They are of one day, so that retention by age is never a day late. While the day lasts, runs of
    ``MERGE_COUNT`` are merged, after it everything that is small. ``max_bytes`` is the limit of a
    merged segment.
    """
    ordered = sorted(segments, key=lambda sized: sized.segment.first)
    for level in range(len(LEVELS) + 1):
        for run in _runs(ordered, level, max_bytes):
            is_over = (run[0].day + 1) * DAY_MS + SETTLED_MS < now_ms
            if len(run) >= MERGE_COUNT or (is_over and len(run) >= 2 and level == len(LEVELS)):
                return [sized.segment for sized in run]
    return []


class Compaction:
    """The collector of all segments. ``max_bytes`` are per deployment and category;
    ``retention_days`` are for those whose log does not say how long.
    """

    name = "segments"

    def __init__(
        self, home: Home, converter: Converter, *, retention_days: int, max_bytes: int
    ) -> None:
        self._home = home
        self._converter = converter
        self._retention_days = retention_days
        self._max_bytes = max_bytes
        self._next_collection_ms = 0
        self._listings = {kind: Listing(home.telemetry / kind) for kind in KINDS}
        # Folders that needed nothing: their retention in days, and when they were checked. No other
        # process writes there.
        self._quiet: dict[Path, tuple[int, int]] = {}

    def collect(self, now_ms: int) -> None:
        """One pass. Raises OSError, SystemFault, duckdb.Error: the last error; the other folders
        have been handled."""
        if self._next_collection_ms - INTERVAL_MS <= now_ms < self._next_collection_ms:
            return
        self._next_collection_ms = now_ms + INTERVAL_MS
        retention_of = retention.read(self._home)
        for folder in self._converter.take_written():
            self._quiet.pop(folder, None)
        failure: Exception | None = None
        present: set[Path] = set()
        for category in KINDS:
            for deployment in self._listings[category].folders():
                folder = layout.segments_folder(self._home, category, deployment)
                present.add(folder)
                days = self._retention_days
                if isinstance(category, Category):
                    days = retention_of.get((deployment, category), days)
                if not self._is_quiet(folder, days, now_ms):
                    try:
                        self._maintain(category, deployment, folder, now_ms, retention_days=days)
                    except Exception as error:
                        failure = error
        self._quiet = {folder: quiet for folder, quiet in self._quiet.items() if folder in present}
        if failure is not None:
            raise failure

    def _is_quiet(self, folder: Path, retention_days: int, now_ms: int) -> bool:
        days, checked_ms = self._quiet.get(folder, (-1, 0))
        return days == retention_days and checked_ms <= now_ms < checked_ms + QUIET_MS

    def _maintain(
        self,
        category: EntryKind,
        deployment: str,
        folder: Path,
        now_ms: int,
        *,
        retention_days: int,
    ) -> None:
        closed = layout.closed_files(layout.closed_folder(self._home, category, deployment))
        acted = self._act(category, folder, closed, now_ms, retention_days=retention_days)
        if not acted and not closed:
            self._quiet[folder] = retention_days, now_ms

    def _act(
        self,
        category: EntryKind,
        folder: Path,
        closed: Collection[int],
        now_ms: int,
        *,
        retention_days: int,
    ) -> bool:
        """Returns whether there was something to do."""
        listed = layout.segments(folder)
        current = layout.current_segments(listed, closed)
        superseded = set() if closed else set(listed) - set(current)
        half_written = list(folder.glob(f"{TEMPORARY_PREFIX}*"))
        for path in (*half_written, *(segment.path for segment in superseded)):
            path.unlink()
        sizes = [Sized(segment, segment.path.stat().st_size) for segment in current]
        gone = set(
            expired(
                sizes,
                now_ms=now_ms,
                retention_days=retention_days,
                max_bytes=self._max_bytes,
            )
        )
        for segment in gone:
            segment.path.unlink()
        sizes = [sized for sized in sizes if sized.segment not in gone]
        parts = next_merge(
            sizes, now_ms=now_ms, max_bytes=min(MAX_MERGED_BYTES, self._max_bytes // 8)
        )
        if closed:
            parts = []
        if parts:
            self._converter.merge(category, parts)
            for part in parts:
                part.path.unlink()
        elif not sizes and category is Category.ACCESS:
            _remove_if_empty(folder)
        return bool(half_written or superseded or gone or parts)


def _runs(ordered: Sequence[Sized], level: int, max_bytes: int) -> list[list[Sized]]:
    """Runs of neighbours of this level or a lower one, of one day, of ``max_bytes`` at most."""
    runs: list[list[Sized]] = []
    run: list[Sized] = []
    for sized in ordered:
        fits = sized.level <= level and sized.size < max_bytes
        if run and (
            not fits
            or sized.day != run[0].day
            or sum(other.size for other in run) + sized.size > max_bytes
        ):
            runs.append(run)
            run = []
        if fits:
            run.append(sized)
    return [*runs, run] if run else runs


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # something was added
