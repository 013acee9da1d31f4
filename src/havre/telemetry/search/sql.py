"""A log query as SQL over the view ``entries`` (``log_reader.py``). Nothing that a user wrote
becomes SQL: literals are parameters, fields and functions are looked up, columns are named by us.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from havre.domain.errors import InvalidParameter
from havre.domain.logs import LogStream
from havre.queries.log_ast import (
    Aggregate,
    Dedup,
    Expression,
    Extend,
    Limit,
    LogQuery,
    NamedExpression,
    Select,
    Sort,
    SortKey,
    Stage,
    Summarize,
    Where,
)
from havre.telemetry.files.schema import COLUMNS
from havre.telemetry.search.expressions import FIELDS, Sql, ValueKind, condition, join, scalar

TIME = "time"
TIES = ("position", "id")
"""Order entries of the same time: as they were printed, then by any stable order."""
_TIMES = {FIELDS[name].text for name in ("datetime", "time", "data.logEmissionTime")}
STREAM_COLUMNS = ("deployment", "category", "compartment", "log_group", "log")
RECORD_COLUMNS = (*COLUMNS, "compartment", "log_group", "log")
"""The first columns of a result that has whole entries; the query's own follow."""

_STREAMS = f"STRUCT({', '.join(f'{name} VARCHAR' for name in STREAM_COLUMNS)})[]"


@dataclass(frozen=True, slots=True)
class Column:
    """``name`` is the user's word for it, never SQL."""

    name: str
    kind: ValueKind


@dataclass(frozen=True, slots=True)
class CompiledQuery:
    """``is_whole``: rows start with RECORD_COLUMNS; ``columns`` are those that follow."""

    sql: str
    parameters: list[Any]
    is_whole: bool
    columns: tuple[Column, ...]


def compile_query(
    query: LogQuery,
    streams: Sequence[LogStream],
    *,
    from_ms: int,
    to_ms: int,
    limit: int,
    offset: int,
) -> CompiledQuery:
    """Entries of these log streams, from ``from_ms`` on and before ``to_ms``, newest first unless
    the query sorts; ``limit`` rows after the first ``offset``, and one more if there is one.

    Raises InvalidParameter for unknown fields and functions.
    """
    stream = _start(streams, from_ms, to_ms)
    for stage in query.stages:
        stream = _apply(stage, stream)
    if query.is_plain and stream.order[0][0] == TIME:
        stream = _cut(stream, limit + 1 + offset)
    return stream.finish(limit, offset)


@dataclass(frozen=True, slots=True)
class _Stream:
    """``source`` is a SELECT; ``names`` what expressions may refer to, as SQL over it.

    ``shown`` are the columns of the result besides whole entries (``is_whole``); ``order`` names
    columns of the source.
    """

    source: Sql
    names: Mapping[str, Sql]
    order: tuple[tuple[str, bool], ...]
    is_whole: bool = True
    shown: tuple[tuple[Column, str], ...] = ()
    made: int = 0

    def with_columns(self, items: Sequence[Sql]) -> tuple["_Stream", list[str]]:
        """With each of these as one more column; and the columns' names."""
        if not items:
            return self, []
        columns = [f"x{self.made + number}" for number in range(len(items))]
        parts: list[str | Sql] = []
        for item, column in zip(items, columns, strict=True):
            parts += [", ", item, f" AS {column}"]
        source = join(ValueKind.ROWS, "SELECT *", *parts, " FROM (", self.source, ")")
        return replace(self, source=source, made=self.made + len(items)), columns

    def sorted(self, columns: str = "*") -> Sql:
        end = f") ORDER BY {self.keys}" if self.order else ")"
        return join(ValueKind.ROWS, f"SELECT {columns} FROM (", self.source, end)

    @property
    def keys(self) -> str:
        return ", ".join(
            f"{column} {'DESC' if is_descending else 'ASC'} NULLS LAST"
            for column, is_descending in self.order
        )

    def finish(self, limit: int, offset: int) -> CompiledQuery:
        columns = [*(RECORD_COLUMNS if self.is_whole else ()), *(sql for _, sql in self.shown)]
        rows = self.sorted(", ".join(columns))
        sql = join(
            ValueKind.ROWS, rows, Sql(ValueKind.ROWS, " LIMIT ? OFFSET ?", (limit + 1, offset))
        )
        shown = tuple(column for column, _ in self.shown)
        return CompiledQuery(sql.text, list(sql.parameters), self.is_whole, shown)


def _start(streams: Sequence[LogStream], from_ms: int, to_ms: int) -> _Stream:
    rows = [
        dict(
            zip(
                STREAM_COLUMNS,
                (
                    log_stream.deployment,
                    str(log_stream.category),
                    log_stream.address.compartment,
                    log_stream.address.group,
                    log_stream.address.log,
                ),
                strict=True,
            )
        )
        for log_stream in streams
    ]
    source = Sql(
        ValueKind.ROWS,
        "SELECT entries.*, stream.compartment, stream.log_group, stream.log FROM entries "
        f"JOIN (SELECT unnest(?::{_STREAMS}, recursive := true)) AS stream "
        "ON stream.deployment = entries.deployment AND stream.category = entries.category "
        "WHERE entries.time >= ? AND entries.time < ?",
        (rows, from_ms, to_ms),
    )
    return _Stream(source, FIELDS, tuple((column, True) for column in (TIME, *TIES)))


def _cut(stream: _Stream, count: int) -> _Stream:
    """Restricted to the times of the first ``count`` rows, which are found by the time column
    alone: the other columns of all other rows are never read.
    """
    is_descending = stream.order[0][1]
    sign, edge, direction = (">=", "min", "DESC") if is_descending else ("<=", "max", "ASC")
    times = join(
        ValueKind.ROWS, f"SELECT {TIME} FROM (", stream.source, f") ORDER BY {TIME} {direction}"
    )
    parts = (
        *("SELECT * FROM (", stream.source, f") WHERE {TIME} {sign} (SELECT {edge}({TIME}) FROM ("),
        *(times, Sql(ValueKind.ROWS, " LIMIT ?", (count,)), "))"),
    )
    return replace(stream, source=join(ValueKind.ROWS, *parts))


def _apply(stage: Stage, stream: _Stream) -> _Stream:
    match stage:
        case Where(expression):
            parts = (
                "SELECT * FROM (",
                stream.source,
                ") WHERE ",
                condition(expression, stream.names),
            )
            return replace(stream, source=join(ValueKind.ROWS, *parts))
        case Sort(keys):
            return _sort(stream, keys)
        case Limit(count):
            limit = Sql(ValueKind.ROWS, " LIMIT ?", (count,))
            return replace(stream, source=join(ValueKind.ROWS, stream.sorted(), limit))
        case Select(items, is_whole):
            stream, shown = _add(stream, items)
            whole = is_whole and stream.is_whole
            kept = stream.shown if is_whole else ()
            return replace(stream, is_whole=whole, shown=(*kept, *shown))
        case Extend(items):
            stream, shown = _add(stream, items)
            return replace(stream, shown=(*stream.shown, *shown))
        case Dedup(keys):
            return _dedup(stream, keys)
        case Summarize(aggregates, groups):
            return _summarize(stream, aggregates, groups)


def _sort(stream: _Stream, keys: Sequence[SortKey]) -> _Stream:
    before, order = stream.order, []
    for key in keys:
        column = scalar(key.expression, stream.names)
        if column.text in _TIMES:
            # Entries of the same time are in the order of printing, or in its reverse.
            before = tuple(
                (name, key.is_descending if name in TIES else is_descending)
                for name, is_descending in before
                if name != TIME
            )
            order.append((TIME, key.is_descending))
            continue
        stream, [made] = stream.with_columns([column])
        order.append((made, key.is_descending))
    # Rows that are equal keep their order.
    return replace(stream, order=(*order, *before))


def _add(
    stream: _Stream, items: Sequence[NamedExpression]
) -> tuple[_Stream, tuple[tuple[Column, str], ...]]:
    values = [scalar(item.expression, stream.names) for item in items]
    stream, columns = stream.with_columns(values)
    names = dict(stream.names)
    shown = []
    for item, value, column in zip(items, values, columns, strict=True):
        names[item.name] = Sql(value.kind, column)
        shown.append((Column(item.name, value.kind), column))
    _refuse_duplicates([item.name for item in items])
    return replace(stream, names=names), tuple(shown)


def _dedup(stream: _Stream, keys: Sequence[Expression]) -> _Stream:
    """The first of equal rows, in the current order."""
    stream, columns = stream.with_columns([scalar(key, stream.names) for key in keys])
    order = f" ORDER BY {stream.keys}" if stream.order else ""
    first = f"row_number() OVER (PARTITION BY {', '.join(columns)}{order}) = 1"
    source = join(ValueKind.ROWS, "SELECT * FROM (", stream.source, f") QUALIFY {first}")
    return replace(stream, source=source)


def _summarize(
    stream: _Stream, aggregates: Sequence[Aggregate], groups: Sequence[NamedExpression]
) -> _Stream:
    order = stream.keys
    values = [scalar(group.expression, stream.names) for group in groups]
    stream, columns = stream.with_columns(values)
    _refuse_duplicates([*(item.name for item in groups), *(item.name for item in aggregates)])
    shown = [
        (Column(group.name, value.kind), column)
        for group, value, column in zip(groups, values, columns, strict=True)
    ]
    parts: list[str | Sql] = [", ".join(columns)]
    for number, aggregate in enumerate(aggregates):
        value = _aggregate(aggregate, stream.names, order)
        column = f"a{stream.made + number}"
        parts += [", " if shown else "", value, f" AS {column}"]
        shown.append((Column(aggregate.name, value.kind), column))
    grouped = f") GROUP BY {', '.join(columns)}" if columns else ")"
    return _Stream(
        join(ValueKind.ROWS, "SELECT ", *parts, " FROM (", stream.source, grouped),
        names={column.name: Sql(column.kind, sql) for column, sql in shown},
        order=tuple((column, False) for column in columns),
        is_whole=False,
        shown=tuple(shown),
        made=stream.made + len(aggregates),
    )


def _aggregate(aggregate: Aggregate, names: Mapping[str, Sql], order: str) -> Sql:
    function = aggregate.function
    if aggregate.operand is None:
        return Sql(ValueKind.NUMBER, "count(*)")
    operand = scalar(aggregate.operand, names)
    if function == "count":
        return join(ValueKind.NUMBER, "count(", operand, ")")
    if function in ("sum", "avg"):
        if operand.kind is not ValueKind.NUMBER:
            raise InvalidParameter(f"searchQuery: {function}() is of numbers, like data.status")
        return join(ValueKind.NUMBER, f"{function}(CAST(", operand, " AS DOUBLE))")
    if function in ("first", "last"):  # in the order in which the stream is sorted
        return join(operand.kind, f"{function}(", operand, f" ORDER BY {order})" if order else ")")
    return join(operand.kind, f"{function}(", operand, ")")


def _refuse_duplicates(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidParameter(
                f"searchQuery: two columns would be called {name}; name one of them with `as`"
            )
