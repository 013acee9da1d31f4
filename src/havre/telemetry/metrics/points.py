"""Files of points: appended to a live file, converted to Parquet, downsampled, removed.

The files are named as those of the logs (``telemetry/files/layout.py``): a live one, closed ones
that are about to be converted, and segments. Points older than a day are merged by the
minute, a segment for each day; a segment that holds those of others supersedes them.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from havre.domain.metrics import METRICS
from havre.home import Home
from havre.telemetry.files import layout
from havre.telemetry.files.duck import connect
from havre.telemetry.files.layout import Segment
from havre.telemetry.files.parquet import TEMPORARY_PREFIX, write_parquet
from havre.telemetry.files.schema import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

COLUMNS = {
    "time": "BIGINT",
    "name": "VARCHAR",
    "dimensions": "VARCHAR",
    "value": "DOUBLE",
    "times": "BIGINT",
}
"""``time`` is epoch ms; ``dimensions`` a JSON object, its keys sorted; the value was observed so
many ``times``."""

CLOSE_AFTER_MS = 10 * 60_000
CLOSE_AT_BYTES = 4 * 1024 * 1024
DOWNSAMPLE_AFTER_MS = 24 * 3_600_000
COARSE_MS = 60_000
RETENTION_MS = 14 * 24 * 3_600_000
_DAY_MS = 24 * 3_600_000


class MetricPoint(NamedTuple):
    """One line of the live file."""

    time: int
    name: str
    dimensions: Mapping[str, str]
    value: float
    times: int = 1


class PointFiles:
    """The writer: one thread of one process. Every method raises OSError when the disk does,
    ``maintain`` duckdb.Error.
    """

    def __init__(self, home: Home) -> None:
        self.folder = points_folder(home)
        self._live = live_file(self.folder)
        self._live_since: int | None = None
        self._connection: DuckDBPyConnection | None = None

    @property
    def size(self) -> int:
        """Bytes in the live file."""
        return layout.file_size(self._live) or 0

    def truncate(self, size: int) -> None:
        """Remove what was appended after the live file had this size."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.size > size:
            os.truncate(self._live, size)

    def append(self, points: Iterable[MetricPoint]) -> None:
        lines = "".join(
            json.dumps(
                {
                    **point._asdict(),
                    "dimensions": json.dumps(dict(sorted(point.dimensions.items()))),
                }
            )
            + "\n"
            for point in points
        )
        descriptor = os.open(
            self._live, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        with open(descriptor, "wb") as file:
            file.write(lines.encode())

    def close_live(self, now_ms: int) -> bool:
        """Start another live file if it is time to; returns whether it was."""
        if not self.size:
            self._live_since = None
            return False
        if self._live_since is None:
            self._live_since = now_ms
        if now_ms < self._live_since + CLOSE_AFTER_MS and self.size < CLOSE_AT_BYTES:
            return False
        numbers = [segment.last for segment in layout.segments(self.folder)]
        number = max([now_ms, *(last + 1 for last in numbers)])
        self._live.rename(self.folder / layout.closed_name(number))
        self._live_since = None
        return True

    def maintain(self, now_ms: int) -> None:
        """Convert closed files, downsample old segments, remove older ones."""
        for number, path in layout.closed_files(self.folder).items():
            self._convert(number, path)
        self._downsample(now_ms)
        for segment in layout.segments(self.folder):
            if segment.to_ms < now_ms - RETENTION_MS:
                segment.path.unlink()

    def _convert(self, number: int, closed: Path) -> None:
        database = self._database()
        database.execute(f"CREATE OR REPLACE TABLE fresh AS {select_json([closed])}")
        times = database.execute("SELECT min(time), max(time) FROM fresh").fetchone()
        if times is not None and times[0] is not None:
            name = Segment.name(from_ms=times[0], to_ms=times[1], first=number, last=number)
            self._write("SELECT * FROM fresh", name)
        database.execute("DROP TABLE fresh")
        closed.unlink()

    def _downsample(self, now_ms: int) -> None:
        """Each day that has been over for a day becomes one segment, a value for each minute."""
        segments = layout.current_segments(layout.segments(self.folder), ())
        days: dict[int, list[Segment]] = {}
        for segment in segments:
            days.setdefault(segment.from_ms // _DAY_MS, []).append(segment)
        for day, parts in days.items():
            if (day + 1) * _DAY_MS + DOWNSAMPLE_AFTER_MS > now_ms or len(parts) < 2:
                continue
            first, last = min(part.first for part in parts), max(part.last for part in parts)
            if any(
                first <= segment.last and segment.first <= last
                for segment in segments
                if segment not in parts
            ):
                continue  # the clock was set back: it would supersede segments of another day
            name = Segment.name(
                from_ms=min(part.from_ms for part in parts) // COARSE_MS * COARSE_MS,
                to_ms=max(part.to_ms for part in parts),
                first=first,
                last=last,
            )
            self._write(_by_the_minute([part.path for part in parts]), name)
        self._sweep()

    def _sweep(self) -> None:
        """Remove superseded segments and unfinished files."""
        segments = layout.segments(self.folder)
        current = layout.current_segments(segments, ())
        for segment in segments:
            if segment not in current:
                segment.path.unlink()
        for path in self.folder.glob(f"{TEMPORARY_PREFIX}*"):
            path.unlink()

    def _write(self, content: str, name: str) -> None:
        ordered = f"{content} ORDER BY name, dimensions, time"
        write_parquet(self._database(), ordered, self.folder / name)

    def _database(self) -> "DuckDBPyConnection":
        if self._connection is None:
            self._connection = connect(memory_mb=256)
        return self._connection


def points_folder(home: Home) -> Path:
    return home.telemetry / "metrics"


def live_file(folder: Path) -> Path:
    return folder / "live.jsonl"


def select_json(files: Iterable[Path]) -> str:
    """A SELECT of all columns from live or closed files; there must be at least one."""
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
    return (
        f"SELECT {', '.join(COLUMNS)} FROM read_json({_listed(files)}, "
        f"format = 'newline_delimited', ignore_errors = true, columns = {{{columns}}}) "
        "WHERE time IS NOT NULL AND name IS NOT NULL AND times > 0"
    )


def select_parquet(files: Iterable[Path]) -> str:
    """The same from segments."""
    return f"SELECT {', '.join(COLUMNS)} FROM read_parquet({_listed(files)})"


def _by_the_minute(files: Iterable[Path]) -> str:
    """One mean a minute, with its number of observations: sums, counts and means stay the same.

    Points of a latency are merged by bucket: their distribution stays.
    """
    latencies = ", ".join(quote(metric.name) for metric in METRICS if metric.is_latency)
    return (
        "SELECT minute AS time, name, dimensions, sum(value * times) / sum(times) AS value, "
        "CAST(sum(times) AS BIGINT) AS times FROM ("
        f"SELECT *, time - time % {COARSE_MS} AS minute, CASE WHEN name IN ({latencies}) "
        "THEN CAST(floor(2 * log2(greatest(value, 1e-6))) AS INTEGER) END AS bucket "
        f"FROM ({select_parquet(files)})) GROUP BY minute, name, dimensions, bucket"
    )


def _listed(files: Iterable[Path]) -> str:
    return f"[{', '.join(quote(str(path)) for path in files)}]"
