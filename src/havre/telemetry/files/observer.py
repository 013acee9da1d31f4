"""What sees each closed file before it is converted."""

from typing import TYPE_CHECKING, Protocol

from havre.telemetry.files.layout import EntryKind

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Observer(Protocol):
    """Sees each closed file's entries before they go into segments. What it raises is logged, and
    the file is converted later.

    ``connection`` has them in the table ``batch``, with the columns of ``schema.columns_of``.
    After a crash the same ``number`` may come again, with the same entries: an observer that counts
    must remember which numbers it has counted.
    """

    def observe(
        self, connection: "DuckDBPyConnection", *, category: EntryKind, number: int
    ) -> None: ...
