"""Captured requests, read: the last ones, or all of a time as one Parquet file."""

import os
from pathlib import Path
from typing import Any

from havre.home import Home
from havre.telemetry.entries import quote
from havre.telemetry.layout import CAPTURE
from havre.telemetry.store import LogStore

TIME_LIMIT_S = 600.0


class Captures:
    """Of one home; read-only, and safe beside whoever writes them."""

    def __init__(self, home: Home) -> None:
        self._store = LogStore(home)

    def last(self, deployment: str, *, from_ms: int, to_ms: int, most: int) -> list[dict[str, Any]]:
        """Rows with the columns of ``entries.CAPTURED``, the oldest first.

        Raises what LogStore.query raises.
        """
        answer = self._store.query(
            f"SELECT * FROM entries ORDER BY time DESC, id LIMIT {int(most)}",
            category=CAPTURE,
            deployments=[deployment],
            time_from_ms=from_ms,
            time_to_ms=to_ms,
        )
        return [dict(zip(answer.columns, row, strict=True)) for row in reversed(answer.rows)]

    def export(self, deployment: str, path: Path, *, from_ms: int, to_ms: int) -> int:
        """Write a Parquet file, in no order; returns how many rows it has.

        Raises OSError, and what LogStore.query raises; then nothing is left of it.
        """
        beside = path.with_name(f".{path.name}.{os.getpid()}.new")
        # Made here: what DuckDB says of a folder that is not there is no OSError.
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            answer = self._store.query(
                f"COPY (SELECT * FROM entries) TO {quote(str(beside))} "
                "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES '16MB')",
                category=CAPTURE,
                deployments=[deployment],
                time_from_ms=from_ms,
                time_to_ms=to_ms,
                time_limit_s=TIME_LIMIT_S,
            )
            beside.rename(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        return int(answer.rows[0][0])

    def close(self) -> None:
        self._store.close()
