"""A Parquet file is whole, or not there."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from havre.durable import sync_folder
from havre.telemetry.entries import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BESIDE = ".new-"
"""How the name of a file begins that is being written."""


def write_parquet(
    connection: "DuckDBPyConnection", content: str, path: Path, *, options: str = ""
) -> None:
    """Write what the SELECT ``content`` gives: beside, synchronise, rename.

    ``options`` are further ones of COPY, each after a comma. Raises OSError and duckdb.Error, with
    nothing left of it.
    """
    beside = path.with_name(BESIDE + path.name)
    try:
        connection.execute(
            f"COPY ({content}) TO {quote(str(beside))} (FORMAT parquet, COMPRESSION zstd{options})"
        )
        os.chmod(beside, 0o600)
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
