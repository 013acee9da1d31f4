"""Closed files become segments: compressed, one per deployment.

Whatever instant the process dies at, the closed file is still there, or all its segments are: it is
removed last, and until then its segments count for nothing (``layout.counting``).
"""

import logging
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from havre.durable import make_folder, sync_folder
from havre.home import Home
from havre.telemetry import layout
from havre.telemetry.collecting import Observer, Tally
from havre.telemetry.entries import ROUTED, columns_of, quote, select_json, select_parquet
from havre.telemetry.layout import CAPTURE, UNROUTED, Kind, Segment
from havre.telemetry.parquet import write_parquet
from havre.telemetry.sql import connect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_MB = 256
ROW_GROUP, BODIES_TOGETHER = 50_000, "16MB"
"""Rows that lie together in a file; of those with bodies, which are long, so many bytes."""
FAST, SMALL = 1, 3
"""Levels of compression: of what will be merged soon, of what was."""

_NOTICES = uuid.UUID("6c1d2a52-6a0e-4b7c-9a53-0b7f5b8f3f0e")

_log = logging.getLogger(__name__)


class Converter:
    """Used by one thread; its database is made with the first file."""

    def __init__(self, home: Home, tally: Tally, observers: Sequence[Observer] = ()) -> None:
        self._home = home
        self._tally = tally
        self._observers = observers
        self._connection: DuckDBPyConnection | None = None

    def convert(
        self, category: Kind, closed: Path, number: int, *, notice: str = "", source: str = ""
    ) -> int:
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
                observer.observe(
                    connection, category=category, source=source or str(category), number=number
                )
            if notice:
                self._add_notice(connection, number, notice)
            written = self._write(connection, category, number)
        finally:
            connection.execute("DROP TABLE batch")
        closed.unlink()
        sync_folder(closed.parent)
        self._tally.add("kept", category, written)
        return written

    def merge(self, kind: Kind, parts: Sequence[Segment]) -> Segment:
        """Have one segment of several of a kind: neighbours by number, of one folder.

        They count for nothing from the moment it is there; removing them is left to the caller.
        Raises OSError and duckdb.Error.
        """
        place = parts[0].path.parent
        name = Segment.name(
            from_ms=min(each.from_ms for each in parts),
            to_ms=max(each.to_ms for each in parts),
            first=parts[0].first,
            last=parts[-1].last,
        )
        content = select_parquet(kind, [each.path for each in parts])
        path = place / name
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

    def _write(self, connection: "DuckDBPyConnection", category: Kind, number: int) -> int:
        found = connection.execute(
            f"SELECT CASE WHEN {ROUTED} THEN deployment ELSE '' END AS place, "
            "min(time), max(time), count(*) FROM batch GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        by_folder: dict[Path, list[tuple[str, int, int]]] = {}
        for deployment, from_ms, to_ms, _ in found:
            folder = layout.folder(self._home, category, deployment)
            by_folder.setdefault(folder, []).append((deployment, from_ms, to_ms))
        for folder, parts in by_folder.items():
            make_folder(folder)
            for earlier in folder.glob(f"*-{number}-{number}.parquet"):
                earlier.unlink()  # of an attempt that did not come to its end
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
        return sum(count for *_, count in found)

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


def give_up_oldest(closed: Iterable[Path], tally: Tally, kind: Kind, *, most_bytes: int) -> None:
    """Of closed files that cannot be converted, the oldest first, no more than this is kept."""
    waiting = list(closed)
    while waiting and sum(path.stat().st_size for path in waiting) > most_bytes:
        oldest = waiting.pop(0)
        with oldest.open("rb") as file:
            lost = sum(1 for _ in file)
        oldest.unlink()
        tally.add("lost", kind, lost)
        _log.error("%d entries of %s were given up: %s", lost, kind, oldest.name)


def _options(kind: Kind, level: int) -> str:
    """Of a segment's Parquet."""
    most = f", ROW_GROUP_SIZE_BYTES '{BODIES_TOGETHER}'" if kind == CAPTURE else ""
    return f", COMPRESSION_LEVEL {level}, ROW_GROUP_SIZE {ROW_GROUP}{most}"
