"""Queries over the logs, in SQL over one view; read-only, and safe beside the writer."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry.files import layout
from havre.telemetry.files.layout import UNROUTED, EntryKind
from havre.telemetry.files.query import TIME_LIMIT_S, Queries, Rows, file_id
from havre.telemetry.files.schema import quote, select_json, select_nothing, select_parquet

ROWS = 10_000


class LogReader:
    """Thread-safe; several queries run at once."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._queries = Queries("entries")

    def query(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        *,
        category: EntryKind | None,
        deployments: Collection[str] | None,
        time_from_ms: int,
        time_to_ms: int,
        limit: int = ROWS,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> Rows:
        """The rows of ``sql``, one SELECT over the view ``entries``; it blocks.

        The view has the columns of ``schema.columns_of``, of this category (None: both logs) and
        these deployments (None: all) and of these times (``time``, both ends included). ``sql``
        must not hold what users wrote: that goes to ``parameters``, one for each ``?``. At most
        ``limit`` rows are returned.

        Raises QueryTooLong after ``time_limit_s``, QueryTooLarge when memory does not suffice,
        Unavailable when the files cannot be read.
        """
        kinds: list[EntryKind] = [category] if category else list(Category)
        return self._queries.run(
            lambda: _Views(
                [_View(self._home, kind, deployments, time_from_ms, time_to_ms) for kind in kinds]
            ),
            sql,
            parameters,
            limit=limit,
            time_limit_s=time_limit_s,
        )

    def close(self) -> None:
        self._queries.close()


class _Views:
    """Those of several categories, as one."""

    def __init__(self, views: Sequence["_View"]) -> None:
        self._views = views
        self.sql = " UNION ALL ".join(view.sql for view in views)
        self.files = [path for view in views for path in view.files]

    def is_there(self) -> bool:
        return all(view.is_there() for view in self._views)

    def is_current(self) -> bool:
        return all(view.is_current() for view in self._views)


class _View:
    """The files that hold the entries at one moment, each entry in exactly one of them."""

    def __init__(
        self,
        home: Home,
        category: EntryKind,
        deployments: Collection[str] | None,
        from_ms: int,
        to_ms: int,
    ) -> None:
        names = layout.deployments(home, category)
        if deployments is not None:
            names = sorted({*deployments, UNROUTED})
        # In the order in which an entry moves: ``is_current`` notices what moves meanwhile.
        self._live = _live_files(home, category, names)
        folders = {layout.closed_folder(home, category, deployment) for deployment in names}
        closed = {
            folder: layout.closed_files(folder) for folder in folders | {home.telemetry / category}
        }
        segments: list[Path] = []
        for deployment in names:
            current = layout.current_segments(
                layout.segments(layout.segments_folder(home, category, deployment)),
                closed[layout.closed_folder(home, category, deployment)],
            )
            segments += [segment.path for segment in current if segment.overlaps(from_ms, to_ms)]
        lines = [path for path, identity in self._live.items() if identity]
        lines += [path for files in closed.values() for path in files.values()]
        self.files = lines + segments
        parts = [select_json(category, lines)] if lines else []
        parts += [select_parquet(category, segments)] if segments else []
        condition = f"time BETWEEN {int(from_ms)} AND {int(to_ms)}"
        if deployments is not None:
            condition += f" AND deployment IN ({', '.join(map(quote, deployments)) or 'NULL'})"
        union = " UNION ALL ".join(parts or [select_nothing(category)])
        self.sql = f"SELECT * FROM ({union}) WHERE {condition}"

    def is_there(self) -> bool:
        return all(path.exists() for path in self.files)

    def is_current(self) -> bool:
        """Whether the live files are the same: else their entries may have been missed."""
        return all(file_id(path) == identity for path, identity in self._live.items())


def _live_files(home: Home, category: EntryKind, deployments: list[str]) -> dict[Path, Any]:
    if category is Category.ACCESS:
        paths = [layout.live_access(home)]
    else:
        paths = [layout.live_file(home, category, deployment) for deployment in deployments]
    return {path: file_id(path) for path in paths}
