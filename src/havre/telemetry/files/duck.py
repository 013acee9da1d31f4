"""DuckDB as havre uses it: in memory, small, and never on the network."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_MB = 512
ASYNC_THREADS = 1
"""Threads that read ahead; DuckDB's default of eight is too many for a small process."""


def connect(
    *, memory_mb: int = MEMORY_MB, threads: int = 1, spill: Path | None = None
) -> "DuckDBPyConnection":
    """A database of its own. The library is loaded with the first one.

    ``spill``: a folder for what does not fit into its memory; without one that is an error.
    """
    import duckdb

    return duckdb.connect(
        ":memory:",
        config={
            "threads": threads,
            "async_threads": ASYNC_THREADS,
            "memory_limit": f"{memory_mb}MB",
            # What is needed is linked in; nothing is ever fetched.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": str(spill or ""),
            "preserve_insertion_order": False,
        },
    )
