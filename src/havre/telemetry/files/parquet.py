"""A Parquet file is whole, or not there."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from havre.durable import sync_folder
from havre.telemetry.files.schema import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TEMPORARY_PREFIX = ".new-"
"""Starts the name of a file that is being written."""


def write_parquet(
    connection: "DuckDBPyConnection", content: str, path: Path, *, options: str = ""
) -> None:
    """Write the rows of the SELECT ``content`` to a temporary file, sync it, rename it.

    ``options`` are more options of COPY, each after a comma. Raises OSError and duckdb.Error, with
    nothing left of it.
    """
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    try:
        connection.execute(
            f"COPY ({content}) TO {quote(str(temporary))} "
            f"(FORMAT parquet, COMPRESSION zstd{options})"
        )
        os.chmod(temporary, 0o600)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
