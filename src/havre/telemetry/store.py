"""Questions to the logs, in SQL over one view; read-only, and safe beside whoever writes them."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry import layout
from havre.telemetry.asking import TIME_LIMIT_S, Questions, Rows, identity_of
from havre.telemetry.entries import quote, select_json, select_nothing, select_parquet
from havre.telemetry.layout import UNROUTED, Kind

ROWS = 10_000


class LogStore:
    """Thread-safe; several questions run at once."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._questions = Questions("entries")

    def query(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        *,
        category: Kind | None,
        deployments: Collection[str] | None,
        time_from_ms: int,
        time_to_ms: int,
        limit: int = ROWS,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> Rows:
        """What ``sql``, one SELECT over the view ``entries``, answers; it blocks.

        The view has the columns of ``havre.telemetry.entries.columns_of``, of this category (None:
        both logs) and these deployments (None: all) and of these times (``time``, both ends
        included). ``sql`` must not hold what users wrote: that goes to ``parameters``, one for each
        ``?``. At most ``limit`` rows are returned.

        Raises QueryTooLong after ``time_limit_s``, QueryTooLarge when memory does not suffice,
        Unavailable when the files cannot be read.
        """
        asked: list[Kind] = [category] if category else list(Category)
        return self._questions.ask(
            lambda: _Views(
                [_View(self._home, each, deployments, time_from_ms, time_to_ms) for each in asked]
            ),
            sql,
            parameters,
            limit=limit,
            time_limit_s=time_limit_s,
        )

    def close(self) -> None:
        self._questions.close()


class _Views:
    """Those of several categories, as one."""

    def __init__(self, views: Sequence["_View"]) -> None:
        self._views = views
        self.sql = " UNION ALL ".join(view.sql for view in views)

    def is_there(self) -> bool:
        return all(view.is_there() for view in self._views)

    def is_current(self) -> bool:
        return all(view.is_current() for view in self._views)


class _View:
    """The files that hold the entries at one moment, each entry in one of them."""

    def __init__(
        self,
        home: Home,
        category: Kind,
        deployments: Collection[str] | None,
        from_ms: int,
        to_ms: int,
    ) -> None:
        wanted = layout.deployments(home, category)
        if deployments is not None:
            wanted = sorted({*deployments, UNROUTED})
        # In the order in which an entry goes: what moves on meanwhile is seen by ``is_current``.
        self._live = _live_files(home, category, wanted)
        places = {layout.closed_folder(home, category, each) for each in wanted}
        closed = {
            place: layout.closed_files(place) for place in places | {home.telemetry / category}
        }
        segments: list[Path] = []
        for deployment in wanted:
            found = layout.counting(
                layout.segments(layout.folder(home, category, deployment)),
                closed[layout.closed_folder(home, category, deployment)],
            )
            segments += [each.path for each in found if each.overlaps(from_ms, to_ms)]
        lines = [path for path, identity in self._live.items() if identity]
        lines += [path for files in closed.values() for path in files.values()]
        self._files = lines + segments
        parts = [select_json(category, lines)] if lines else []
        parts += [select_parquet(category, segments)] if segments else []
        condition = f"time BETWEEN {int(from_ms)} AND {int(to_ms)}"
        if deployments is not None:
            condition += f" AND deployment IN ({', '.join(map(quote, deployments)) or 'NULL'})"
        union = " UNION ALL ".join(parts or [select_nothing(category)])
        self.sql = f"SELECT * FROM ({union}) WHERE {condition}"

    def is_there(self) -> bool:
        return all(path.exists() for path in self._files)

    def is_current(self) -> bool:
        """Whether what was live still is: else its entries may have been missed."""
        return all(identity_of(path) == identity for path, identity in self._live.items())


def _live_files(home: Home, category: Kind, deployments: list[str]) -> dict[Path, Any]:
    if category is Category.ACCESS:
        paths = [layout.live_access(home)]
    else:
        paths = [layout.live_file(home, category, each) for each in deployments]
    return {path: identity_of(path) for path in paths}
