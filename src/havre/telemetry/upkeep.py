"""Segments are few and bounded: small ones are merged, the oldest go.

What to do is decided by pure functions over what a folder holds; one merge per look, so that the
rest of the process never waits long.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry import layout, retention
from havre.telemetry.conversion import Converter
from havre.telemetry.layout import KINDS, Kind, Segment
from havre.telemetry.parquet import BESIDE

LOOK_MS = 30_000
QUIET_MS = 3_600_000
"""A folder that nothing was to do for is left alone for so long, if nothing comes."""
DAY_MS = 86_400_000
SETTLED_MS = 3_600_000
"""A day is merged as a whole when it has been over for so long."""
TOGETHER = 16
"""So many neighbours of one level make one of the next."""
LEVELS = (256 * 1024, 4 * 1024 * 1024)
"""Bytes at which the next level begins: of nothing, of a few minutes, of hours."""
MOST_MERGED_BYTES = 32 * 1024 * 1024


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


def outlived(
    found: Sequence[Sized], *, now_ms: int, retention_days: int, most_bytes: int
) -> list[Segment]:
    """Which go: those with nothing younger than ``retention_days``, and the oldest of too many."""
    kept: list[Sized] = []
    gone: list[Segment] = []
    room = most_bytes
    for each in sorted(found, key=lambda each: each.segment.to_ms, reverse=True):
        room -= each.size
        too_old = each.segment.to_ms < now_ms - retention_days * DAY_MS
        if too_old or room < 0:
            gone.append(each.segment)
        else:
            kept.append(each)
    return gone


def mergeable(found: Sequence[Sized], *, now_ms: int, most_bytes: int) -> list[Segment]:
    """The next segments to make one of, neighbours by number; empty if there are none.

    Of one day: so that retention by age is never a day late. Runs of ``TOGETHER`` while the day
    lasts, everything that is small when it is over. ``most_bytes`` is the most for one.
    """
    ordered = sorted(found, key=lambda each: each.segment.first)
    for level in range(len(LEVELS) + 1):
        for run in _runs(ordered, level, most_bytes):
            is_over = (run[0].day + 1) * DAY_MS + SETTLED_MS < now_ms
            if len(run) >= TOGETHER or (is_over and len(run) >= 2 and level == len(LEVELS)):
                return [each.segment for each in run]
    return []


class Upkeep:
    """The collector of all segments. ``most_bytes`` are per deployment and category;
    ``retention_days`` are for those whose log does not say how long.
    """

    name = "segments"

    def __init__(
        self, home: Home, converter: Converter, *, retention_days: int, most_bytes: int
    ) -> None:
        self._home = home
        self._converter = converter
        self._retention_days = retention_days
        self._most_bytes = most_bytes
        self._next_look_ms = 0
        # Folders for which nothing was to do: when they had last changed, for how many days entries
        # are kept, and when that was seen.
        self._quiet: dict[Path, tuple[int, int, int]] = {}

    def collect(self, now_ms: int) -> None:
        """One look. Raises OSError, SystemFault, duckdb.Error."""
        if self._next_look_ms - LOOK_MS <= now_ms < self._next_look_ms:
            return
        self._next_look_ms = now_ms + LOOK_MS
        told = retention.read(self._home)
        for category in KINDS:
            closed: dict[Path, Collection[int]] = {}
            for deployment in layout.deployments(self._home, category):
                place = layout.closed_folder(self._home, category, deployment)
                if place not in closed:
                    closed[place] = layout.closed_files(place)
                days = self._retention_days
                if isinstance(category, Category):
                    days = told.get((deployment, category), days)
                self._keep(category, deployment, closed[place], now_ms, retention_days=days)

    def _keep(
        self,
        category: Kind,
        deployment: str,
        closed: Collection[int],
        now_ms: int,
        *,
        retention_days: int,
    ) -> None:
        place = layout.folder(self._home, category, deployment)
        changed = place.stat().st_mtime_ns
        *known, looked_ms = self._quiet.get(place, (0, 0, 0))
        if [changed, retention_days] == known and looked_ms <= now_ms < looked_ms + QUIET_MS:
            return
        if not self._act(category, place, closed, now_ms, retention_days=retention_days):
            self._quiet[place] = changed, retention_days, now_ms

    def _act(
        self,
        category: Kind,
        place: Path,
        closed: Collection[int],
        now_ms: int,
        *,
        retention_days: int,
    ) -> bool:
        """Whether there was something to do."""
        listed = layout.segments(place)
        counting = layout.counting(listed, closed)
        superseded = set() if closed else set(listed) - set(counting)
        half_written = list(place.glob(f"{BESIDE}*"))
        for path in (*half_written, *(each.path for each in superseded)):
            path.unlink()
        found = [Sized(each, each.path.stat().st_size) for each in counting]
        gone = set(
            outlived(
                found,
                now_ms=now_ms,
                retention_days=retention_days,
                most_bytes=self._most_bytes,
            )
        )
        for segment in gone:
            segment.path.unlink()
        found = [each for each in found if each.segment not in gone]
        parts = mergeable(
            found, now_ms=now_ms, most_bytes=min(MOST_MERGED_BYTES, self._most_bytes // 8)
        )
        if closed:
            parts = []
        if parts:
            self._converter.merge(category, parts)
            for part in parts:
                part.path.unlink()
        elif not found and category is Category.ACCESS:
            _remove_if_empty(place)
        return bool(half_written or superseded or gone or parts)


def _runs(ordered: Sequence[Sized], level: int, most_bytes: int) -> list[list[Sized]]:
    """Neighbours of this level or a lower one, of one day, together of ``most_bytes`` at most."""
    runs: list[list[Sized]] = []
    run: list[Sized] = []
    for each in ordered:
        fits = each.level <= level and each.size < most_bytes
        if run and (
            not fits
            or each.day != run[0].day
            or sum(other.size for other in run) + each.size > most_bytes
        ):
            runs.append(run)
            run = []
        if fits:
            run.append(each)
    return [*runs, run] if run else runs


def _remove_if_empty(place: Path) -> None:
    try:
        place.rmdir()
    except OSError:
        pass  # something came
