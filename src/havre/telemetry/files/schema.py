"""The columns of an entry, the same for both logs, and the SQL that reads them from JSON lines.

Lines that are incomplete, or not ours, are skipped: the last one of a live file may be half
written, and after a full disk one in the middle may be.
"""

from collections.abc import Iterable
from pathlib import Path

from havre.domain.access_log import FIELDS
from havre.domain.logs import Category
from havre.domain.ocid import DEPLOYMENT_OCID_PATTERN
from havre.telemetry.files.layout import CAPTURE, EntryKind

COLUMNS = {
    "category": "VARCHAR",
    "deployment": "VARCHAR",
    "id": "VARCHAR",
    "time": "BIGINT",
    "position": "BIGINT",
    "ingested": "BIGINT",
    "message": "VARCHAR",
    "request": "VARCHAR",
    "instance": "VARCHAR",
    "copy": "INTEGER",
    "revision": "VARCHAR",
    "method": "VARCHAR",
    "path": "VARCHAR",
    "protocol": "VARCHAR",
    "status": "SMALLINT",
    "flags": "VARCHAR",
    "total_ms": "DOUBLE",
    "copy_ms": "DOUBLE",
    "model_ms": "DOUBLE",
    "bytes_in": "BIGINT",
    "bytes_out": "BIGINT",
    "held_ms": "DOUBLE",
}
"""Name and type of each column of the view ``entries``; times are epoch ms, a position
(``logs/ordering.py``) is an epoch µs: access entries have none."""

CAPTURED = {
    "deployment": "VARCHAR",
    "id": "VARCHAR",
    "time": "BIGINT",
    "position": "BIGINT",
    "ingested": "BIGINT",
    "request_id": "VARCHAR",
    "instance": "VARCHAR",
    "copy": "INTEGER",
    "revision": "VARCHAR",
    "status": "SMALLINT",
    "is_stream": "BOOLEAN",
    "model_us": "BIGINT",
    "lost_before": "INTEGER",
    "request_type": "VARCHAR",
    "request_bytes": "BIGINT",
    "request": "VARCHAR",
    "request_base64": "VARCHAR",
    "response_type": "VARCHAR",
    "response_bytes": "BIGINT",
    "response": "VARCHAR",
    "response_base64": "VARCHAR",
}
"""The same for captured requests; a line leaves out the fields that have no value."""

PREDICT_FIELDS = (
    *("deployment", "id", "time", "position", "ingested", "message"),
    *("request", "instance", "copy", "revision"),
)
"""Fields of a line of the predict log's files, of the types above; those without a value are left
out or null."""

ACCESS_TYPES = {
    **dict.fromkeys(("id", "time", "deployment", "request", "method", "path"), "VARCHAR"),
    **dict.fromkeys(("protocol", "flags", "copy"), "VARCHAR"),
    "status": "VARCHAR",
    **dict.fromkeys(("total_ms", "copy_us", "held_ms"), "DOUBLE"),
    **dict.fromkeys(("bytes_in", "bytes_out"), "BIGINT"),
}
"""The type of each field of `havre.domain.access_log`."""

# Where no route was found, the path names the deployment.
_IN_PATH = f"({DEPLOYMENT_OCID_PATTERN})/+predict"

# OCI's form of the message, `POST /predict 1.1`, where the path is a deployment's.
_SHORT_PATH = "coalesce(nullif(regexp_extract(path, '/predict.*$'), ''), path)"

_ACCESS_COLUMNS = {
    "category": f"'{Category.ACCESS}'",
    "deployment": f"coalesce(deployment, regexp_extract(path, '{_IN_PATH}', 1))",
    "id": "id",
    "time": "began",
    "position": "CAST(NULL AS BIGINT)",
    "ingested": "began + CAST(coalesce(total_ms, 0) AS BIGINT)",
    "message": f"concat_ws(' ', method, {_SHORT_PATH}, replace(protocol, 'HTTP/', ''))",
    "request": "request",
    "instance": "who[1]",
    "copy": "TRY_CAST(who[2] AS INTEGER)",
    "revision": "who[3]",
    "method": "method",
    "path": "path",
    "protocol": "protocol",
    "status": "TRY_CAST(status AS SMALLINT)",
    "flags": "nullif(flags, '-')",
    "total_ms": "total_ms",
    "copy_ms": "copy_us / 1000",
    "model_ms": "TRY_CAST(who[4] AS DOUBLE) / 1000",
    "bytes_in": "bytes_in",
    "bytes_out": "bytes_out",
    "held_ms": "held_ms",
}


ROUTED = "routed"
"""An extra column of the table for conversion: whether the deployment is one of ours."""


def columns_of(kind: EntryKind) -> dict[str, str]:
    """Name and type of each column."""
    return CAPTURED if kind == CAPTURE else COLUMNS


def select_json(kind: EntryKind, files: Iterable[Path], *, is_routed: bool = False) -> str:
    """A SELECT of all columns from live or closed files; there must be at least one.

    With ``is_routed`` it has the column ``ROUTED``, too.
    """
    if kind == CAPTURE:
        source = _read_json(files, CAPTURED)
        columns = list(CAPTURED)
        condition = "id IS NOT NULL AND time IS NOT NULL"
        routed = "true"
    elif kind is Category.ACCESS:
        source = (
            "(SELECT *, epoch_ms(TRY_CAST(time AS TIMESTAMP)) AS began, "
            f"string_split(copy, '/') AS who FROM {_read_json(files, _access_types())})"
        )
        columns = [f"{what} AS {name}" for name, what in _ACCESS_COLUMNS.items()]
        condition = "id IS NOT NULL AND began IS NOT NULL"
        routed = "deployment IS NOT NULL"
    else:
        fields = {name: COLUMNS[name] for name in PREDICT_FIELDS}
        source = _read_json(files, fields)
        columns = [f"'{kind}' AS category", *fields]
        columns += [
            f"CAST(NULL AS {COLUMNS[name]}) AS {name}"
            for name in COLUMNS
            if name not in {*fields, "category"}
        ]
        condition = "id IS NOT NULL AND time IS NOT NULL"
        routed = "true"
    if is_routed:
        columns.append(f"{routed} AS {ROUTED}")
    return f"SELECT {', '.join(columns)} FROM {source} WHERE {condition}"


def select_parquet(kind: EntryKind, files: Iterable[Path]) -> str:
    """The same from segments; columns that a segment lacks are null."""
    rows = f"SELECT * FROM read_parquet({_quoted(files)}, union_by_name = true)"
    all_columns = f"{select_nothing(kind)} UNION ALL BY NAME {rows}"
    return f"SELECT {', '.join(columns_of(kind))} FROM ({all_columns})"


def select_nothing(kind: EntryKind) -> str:
    columns = ", ".join(f"CAST(NULL AS {type_}) AS {n}" for n, type_ in columns_of(kind).items())
    return f"SELECT {columns} WHERE false"


def quote(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _access_types() -> dict[str, str]:
    return {name: ACCESS_TYPES[name] for name in FIELDS}


def _read_json(files: Iterable[Path], fields: dict[str, str]) -> str:
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in fields.items())
    return (
        f"read_json({_quoted(files)}, format = 'newline_delimited', ignore_errors = true, "
        f"columns = {{{columns}}})"
    )


def _quoted(files: Iterable[Path]) -> str:
    return f"[{', '.join(quote(str(path)) for path in files)}]"
