"""Closed files become segments: compressed, one per deployment.

Whenever the process dies, either the closed file is still there or all its segments are: it is
removed last, and until then it supersedes them (``layout.current_segments``).
"""

import logging
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from havre.durable import make_folder, sync_folder
from havre.home import Home
from havre.telemetry.counters import Counter, Counters
from havre.telemetry.files import layout
from havre.telemetry.files.duck import connect
from havre.telemetry.files.layout import CAPTURE, UNROUTED, EntryKind, Segment
from havre.telemetry.files.observer import Observer
from havre.telemetry.files.parquet import write_parquet
from havre.telemetry.files.schema import ROUTED, columns_of, quote, select_json, select_parquet

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_MB = 256
ROW_GROUP, BODIES_ROW_GROUP = 50_000, "16MB"
"""Size of a Parquet row group: in rows, or in bytes for captured requests, which are long."""
FAST, SMALL = 1, 3
"""Levels of compression: for segments that will be merged soon, and for merged ones."""

_NOTICES = uuid.UUID("6c1d2a52-6a0e-4b7c-9a53-0b7f5b8f3f0e")

_log = logging.getLogger(__name__)


class Converter:
    """Used by one thread; opens its database for the first file."""

    def __init__(self, home: Home, counters: Counters, observers: Sequence[Observer] = ()) -> None:
        self._home = home
        self._counters = counters
        self._observers = observers
        self._connection: DuckDBPyConnection | None = None
        self._written: set[Path] = set()

    def take_written(self) -> set[Path]:
        """The folders into which segments have been written since the last call."""
        written, self._written = self._written, set()
        return written

    def convert(self, category: EntryKind, closed: Path, number: int, *, notice: str = "") -> int:
        """Write the file's entries into segments and remove it; returns how many there were.

        Each deployment in it gets the ``notice``, if there is one, as an entry of its own. Raises
        OSError and duckdb.Error, with the closed file in its place.
        """
        connection = self._database()
        connection.execute(
            "CREATE OR REPLACE TABLE batch AS " + select_json(category, [closed], is_routed=True)
        )
        try:
            for observer in self._observers:
                observer.observe(connection, category=category, number=number)
            if notice:
                self._add_notice(connection, number, notice)
            written = self._write(connection, category, number)
        finally:
            connection.execute("DROP TABLE batch")
        closed.unlink()
        sync_folder(closed.parent)
        self._counters.add(Counter.STORED, category, written)
        return written

    def merge(self, kind: EntryKind, parts: Sequence[Segment]) -> Segment:
        """Merge segments of one kind and folder that are neighbours by number.

        The new segment supersedes them as soon as it is there; the caller removes them.
        Raises OSError and duckdb.Error.
        """
        folder = parts[0].path.parent
        name = Segment.name(
            from_ms=min(part.from_ms for part in parts),
            to_ms=max(part.to_ms for part in parts),
            first=parts[0].first,
            last=parts[-1].last,
        )
        content = select_parquet(kind, [part.path for part in parts])
        path = folder / name
        write_parquet(self._database(), content, path, options=_options(kind, SMALL))
        merged = Segment.of(path)
        assert merged is not None
        return merged

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _database(self) -> "DuckDBPyConnection":
        if self._connection is None:
            spill = self._home.telemetry / "spill"
            self._connection = connect(memory_mb=MEMORY_MB, spill=spill)
        return self._connection

    def _write(self, connection: "DuckDBPyConnection", category: EntryKind, number: int) -> int:
        groups = connection.execute(
            f"SELECT CASE WHEN {ROUTED} THEN deployment ELSE '' END AS routed_to, "
            "min(time), max(time), count(*) FROM batch GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        by_folder: dict[Path, list[tuple[str, int, int]]] = {}
        for deployment, from_ms, to_ms, _ in groups:
            folder = layout.segments_folder(self._home, category, deployment)
            by_folder.setdefault(folder, []).append((deployment, from_ms, to_ms))
        for folder, parts in by_folder.items():
            make_folder(folder)
            self._written.add(folder)
            for earlier in folder.glob(f"*-{number}-{number}.parquet"):
                earlier.unlink()  # of an attempt that was interrupted
            name = Segment.name(
                from_ms=min(part[1] for part in parts),
                to_ms=max(part[2] for part in parts),
                first=number,
                last=number,
            )
            deployments = ", ".join(quote(part[0]) for part in parts if part[0])
            condition = f"{ROUTED} AND deployment IN ({deployments or 'NULL'})"
            if folder.name == UNROUTED:
                condition = f"NOT {ROUTED} OR {condition}"
            content = f"SELECT {', '.join(columns_of(category))} FROM batch WHERE {condition}"
            write_parquet(connection, content, folder / name, options=_options(category, FAST))
        return sum(count for *_, count in groups)

    def _add_notice(self, connection: "DuckDBPyConnection", number: int, notice: str) -> None:
        rows = connection.execute(
            f"SELECT any_value(category), deployment, max(time), max(ingested), {ROUTED} "
            f"FROM batch WHERE {ROUTED} GROUP BY ALL"
        ).fetchall()
        for category, deployment, time_ms, ingested, routed in rows:
            identity = str(uuid.uuid5(_NOTICES, f"{number}/{deployment}"))
            connection.execute(
                "INSERT INTO batch BY NAME SELECT ? AS category, ? AS deployment, ? AS id, "
                f"? AS time, ? AS ingested, ? AS message, ? AS {ROUTED}",
                [category, deployment, identity, time_ms, ingested, notice, routed],
            )


def drop_oldest(
    closed: Iterable[Path], counters: Counters, kind: EntryKind, *, max_bytes: int
) -> None:
    """Remove the oldest of the closed files that cannot be converted, down to ``max_bytes``."""
    waiting = list(closed)
    while waiting and sum(path.stat().st_size for path in waiting) > max_bytes:
        oldest = waiting.pop(0)
        with oldest.open("rb") as file:
            lost = sum(1 for _ in file)
        oldest.unlink()
        counters.add(Counter.LOST, kind, lost)
        _log.error("dropped %d entries of %s: %s", lost, kind, oldest.name)


def _options(kind: EntryKind, level: int) -> str:
    """Of Parquet's COPY, for a segment."""
    by_bytes = f", ROW_GROUP_SIZE_BYTES '{BODIES_ROW_GROUP}'" if kind == CAPTURE else ""
    return f", COMPRESSION_LEVEL {level}, ROW_GROUP_SIZE {ROW_GROUP}{by_bytes}"
