"""Queries over stored points; read-only, and safe beside the writer."""

import json
from collections.abc import Collection
from pathlib import Path

from havre.domain.errors import LimitExceeded
from havre.domain.metrics import RESOURCE
from havre.home import Home
from havre.queries.mql_eval import Point, Stream
from havre.queries.mql_parser import Selection
from havre.telemetry.files import layout
from havre.telemetry.files.query import Queries, QueryTooLarge, QueryTooLong, file_id
from havre.telemetry.files.turns import Turns
from havre.telemetry.metrics.points import (
    COLUMNS,
    live_file,
    points_folder,
    select_json,
    select_parquet,
)

MAX_STREAMS = 20_000
MAX_POINTS = 500_000
MAX_WAITING = 8
"""Together with those of the logs fewer than the API's threads."""


class MetricStore:
    """Thread-safe. Every method blocks, and raises Unavailable when the files cannot be read."""

    def __init__(self, home: Home) -> None:
        self._folder = points_folder(home)
        self._queries = Queries("points", Turns(max_waiting=MAX_WAITING))

    def streams(
        self, selection: Selection, from_ms: int, to_ms: int, *, deployments: Collection[str] | None
    ) -> list[Stream]:
        """The streams that ``mql_eval.evaluate`` reads, of these deployments (None: all).

        Raises LimitExceeded for more points than a query may read.
        """
        streams = [
            (text, dimensions)
            for text, dimensions in self._dimensions(selection.metric, from_ms, to_ms)
            if deployments is None or dimensions.get(RESOURCE) in deployments
            if all(condition.holds(dimensions) for condition in selection.conditions)
        ]
        if not streams:
            return []
        rows = self._ask(
            "SELECT dimensions, time, value, times FROM points WHERE name = ? AND time >= ? "
            "AND time < ? AND list_contains(?, dimensions)",
            [selection.metric, from_ms, to_ms, [text for text, _ in streams]],
            from_ms,
            to_ms,
            limit=MAX_POINTS,
        )
        points: dict[str, list[Point]] = {text: [] for text, _ in streams}
        for text, time, value, times in rows:
            points[text].append(Point(time, value, times))
        return [Stream(dimensions, points[text]) for text, dimensions in streams]

    def known(self, from_ms: int, to_ms: int) -> list[tuple[str, dict[str, str]]]:
        """Names and dimensions of all streams that have a point in this time."""
        rows = self._ask(
            "SELECT DISTINCT name, dimensions FROM points WHERE time >= ? AND time < ? "
            "ORDER BY name, dimensions",
            [from_ms, to_ms],
            from_ms,
            to_ms,
            limit=MAX_STREAMS,
        )
        return [(name, json.loads(text)) for name, text in rows]

    def close(self) -> None:
        self._queries.close()

    def _dimensions(
        self, metric: str, from_ms: int, to_ms: int
    ) -> list[tuple[str, dict[str, str]]]:
        """Dimensions of the streams, as stored and parsed."""
        rows = self._ask(
            "SELECT DISTINCT dimensions FROM points WHERE name = ? AND time >= ? AND time < ? "
            "ORDER BY dimensions",
            [metric, from_ms, to_ms],
            from_ms,
            to_ms,
            limit=MAX_STREAMS,
        )
        return [(text, json.loads(text)) for (text,) in rows]

    def _ask(
        self, sql: str, parameters: list[object], from_ms: int, to_ms: int, *, limit: int
    ) -> list[tuple]:  # type: ignore[type-arg]
        try:
            result = self._queries.run(
                lambda: _View(self._folder, from_ms, to_ms), sql, parameters, limit=limit
            )
        except (QueryTooLarge, QueryTooLong) as error:
            raise LimitExceeded(
                f"{error.message}: choose a shorter time, or name the deployment"
            ) from error
        if result.is_cut:
            raise LimitExceeded(
                f"the query reads more than {limit} points or streams: "
                "choose a shorter time, or name the deployment"
            )
        return result.rows


class _View:
    """The files that hold the points at one moment, each point in exactly one of them."""

    def __init__(self, folder: Path, from_ms: int, to_ms: int) -> None:
        # In the order in which a point moves: ``is_current`` notices what moves meanwhile.
        self._live = live_file(folder)
        self._identity = file_id(self._live)
        closed = layout.closed_files(folder)
        current = layout.current_segments(layout.segments(folder), closed)
        segments = [segment.path for segment in current if segment.overlaps(from_ms, to_ms)]
        lines = [*([self._live] if self._identity else []), *closed.values()]
        self.files = lines + segments
        parts = [select_json(lines)] if lines else []
        parts += [select_parquet(segments)] if segments else []
        self.sql = " UNION ALL ".join(parts or [_NOTHING])

    def is_there(self) -> bool:
        return all(path.exists() for path in self.files)

    def is_current(self) -> bool:
        return file_id(self._live) == self._identity


_NOTHING = (
    "SELECT "
    + ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in COLUMNS.items())
    + " WHERE false"
)
