"""Reads captured requests: the last ones, or those of a period as one Parquet file."""

import os
from pathlib import Path
from typing import Any

from havre.home import Home
from havre.telemetry.files.layout import CAPTURE
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.files.schema import quote

TIME_LIMIT_S = 600.0


class Captures:
    """Of one home; read-only, and safe beside the writer."""

    def __init__(self, home: Home) -> None:
        self._reader = LogReader(home)

    def last(
        self, deployment: str, *, from_ms: int, to_ms: int, limit: int
    ) -> list[dict[str, Any]]:
        """Rows with the columns of ``schema.CAPTURED``, the oldest first.

        Raises what LogReader.query raises.
        """
        result = self._reader.query(
            f"SELECT * FROM entries ORDER BY time DESC, position DESC, id LIMIT {int(limit)}",
            category=CAPTURE,
            deployments=[deployment],
            time_from_ms=from_ms,
            time_to_ms=to_ms,
        )
        return [dict(zip(result.columns, row, strict=True)) for row in reversed(result.rows)]

    def export(self, deployment: str, path: Path, *, from_ms: int, to_ms: int) -> int:
        """Write a Parquet file, ordered by its positions only; returns how many rows it has.

        Raises OSError, and what LogReader.query raises; then no file is left.
        """
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        # Created here: for a missing folder DuckDB raises no OSError.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            result = self._reader.query(
                f"COPY (SELECT * FROM entries) TO {quote(str(temporary))} "
                "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES '16MB')",
                category=CAPTURE,
                deployments=[deployment],
                time_from_ms=from_ms,
                time_to_ms=to_ms,
                time_limit_s=TIME_LIMIT_S,
            )
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return int(result.rows[0][0])

    def close(self) -> None:
        self._reader.close()
