"""Questions to the points that are kept; read-only, and safe beside whoever writes them."""

import json
from collections.abc import Collection
from pathlib import Path

from havre.domain.errors import LimitExceeded
from havre.domain.metrics import RESOURCE
from havre.domain.mql import Selection
from havre.domain.mql_values import Point, Stream
from havre.home import Home
from havre.telemetry import layout
from havre.telemetry.asking import Questions, identity_of
from havre.telemetry.metrics.points import (
    COLUMNS,
    live_file,
    points_folder,
    select_json,
    select_parquet,
)

MOST_STREAMS = 20_000
MOST_POINTS = 500_000


class MetricStore:
    """Thread-safe. Every method blocks, and raises Unavailable when the files cannot be read."""

    def __init__(self, home: Home) -> None:
        self._folder = points_folder(home)
        self._questions = Questions("points")

    def streams(
        self, selection: Selection, from_ms: int, to_ms: int, *, deployments: Collection[str] | None
    ) -> list[Stream]:
        """What `havre.domain.mql_values.evaluate` asks for, of these deployments (None: all).

        Raises LimitExceeded for more points than a query may look at.
        """
        wanted = [
            (text, dimensions)
            for text, dimensions in self._dimensions(selection.metric, from_ms, to_ms)
            if deployments is None or dimensions.get(RESOURCE) in deployments
            if all(condition.holds(dimensions) for condition in selection.conditions)
        ]
        if not wanted:
            return []
        found = self._ask(
            "SELECT dimensions, time, value, times FROM points WHERE name = ? AND time >= ? "
            "AND time < ? AND list_contains(?, dimensions)",
            [selection.metric, from_ms, to_ms, [text for text, _ in wanted]],
            from_ms,
            to_ms,
            limit=MOST_POINTS,
        )
        points: dict[str, list[Point]] = {text: [] for text, _ in wanted}
        for text, time, value, times in found:
            points[text].append(Point(time, value, times))
        return [Stream(dimensions, points[text]) for text, dimensions in wanted]

    def known(self, from_ms: int, to_ms: int) -> list[tuple[str, dict[str, str]]]:
        """Names and dimensions of all streams that have a point in this time."""
        found = self._ask(
            "SELECT DISTINCT name, dimensions FROM points WHERE time >= ? AND time < ? "
            "ORDER BY name, dimensions",
            [from_ms, to_ms],
            from_ms,
            to_ms,
            limit=MOST_STREAMS,
        )
        return [(name, json.loads(text)) for name, text in found]

    def close(self) -> None:
        self._questions.close()

    def _dimensions(
        self, metric: str, from_ms: int, to_ms: int
    ) -> list[tuple[str, dict[str, str]]]:
        """As they are kept, and read."""
        found = self._ask(
            "SELECT DISTINCT dimensions FROM points WHERE name = ? AND time >= ? AND time < ? "
            "ORDER BY dimensions",
            [metric, from_ms, to_ms],
            from_ms,
            to_ms,
            limit=MOST_STREAMS,
        )
        return [(text, json.loads(text)) for (text,) in found]

    def _ask(
        self, sql: str, parameters: list[object], from_ms: int, to_ms: int, *, limit: int
    ) -> list[tuple]:  # type: ignore[type-arg]
        answer = self._questions.ask(
            lambda: _View(self._folder, from_ms, to_ms), sql, parameters, limit=limit
        )
        if answer.is_cut:
            raise LimitExceeded(
                f"the query looks at more than {limit} points or streams: "
                "choose a shorter time, or name the deployment"
            )
        return answer.rows


class _View:
    """The files that hold the points at one moment, each point in one of them."""

    def __init__(self, folder: Path, from_ms: int, to_ms: int) -> None:
        # In the order in which a point goes: what moves on meanwhile is seen by ``is_current``.
        self._live = live_file(folder)
        self._identity = identity_of(self._live)
        closed = layout.closed_files(folder)
        found = layout.counting(layout.segments(folder), closed)
        segments = [each.path for each in found if each.overlaps(from_ms, to_ms)]
        lines = [*([self._live] if self._identity else []), *closed.values()]
        self._files = lines + segments
        parts = [select_json(lines)] if lines else []
        parts += [select_parquet(segments)] if segments else []
        self.sql = " UNION ALL ".join(parts or [_NOTHING])

    def is_there(self) -> bool:
        return all(path.exists() for path in self._files)

    def is_current(self) -> bool:
        return identity_of(self._live) == self._identity


_NOTHING = (
    "SELECT "
    + ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in COLUMNS.items())
    + " WHERE false"
)
