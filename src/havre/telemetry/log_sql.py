"""A search as SQL over the view ``entries`` (see ``store.py``). Nothing a user wrote becomes SQL:
literals are parameters, fields and functions are looked up, columns are named by us.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from havre.domain.errors import InvalidParameter
from havre.domain.log_query import (
    Aggregate,
    Dedup,
    Expression,
    Extend,
    Key,
    Limit,
    LogQuery,
    Named,
    Select,
    Sort,
    Stage,
    Summarize,
    Where,
)
from havre.domain.logs import Place
from havre.telemetry.entries import COLUMNS
from havre.telemetry.log_expressions import FIELDS, Kind, Sql, condition, join, scalar

TIME = "time"
PLACE_COLUMNS = ("deployment", "category", "compartment", "log_group", "log")
RECORD_COLUMNS = (*COLUMNS, "compartment", "log_group", "log")
"""What an answer of whole entries has of each, before what the search adds."""

_PLACES = f"STRUCT({', '.join(f'{name} VARCHAR' for name in PLACE_COLUMNS)})[]"


@dataclass(frozen=True, slots=True)
class Column:
    """``name`` is the user's word for it, never SQL."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Plan:
    """``is_whole``: rows begin with RECORD_COLUMNS; ``columns`` are what follows."""

    sql: str
    parameters: list[Any]
    is_whole: bool
    columns: tuple[Column, ...]


def plan(
    query: LogQuery, places: Sequence[Place], *, from_ms: int, to_ms: int, limit: int, offset: int
) -> Plan:
    """Entries of these places, from ``from_ms`` on and before ``to_ms``, newest first unless the
    query sorts; ``limit`` rows after the first ``offset``, and one more if there is one.

    Raises InvalidParameter for fields and functions that there are not.
    """
    stream = _begin(places, from_ms, to_ms)
    for stage in query.stages:
        stream = _apply(stage, stream)
    if query.is_plain and stream.order[0][0] == TIME:
        stream = _cut(stream, limit + 1 + offset)
    return stream.finish(limit, offset)


@dataclass(frozen=True, slots=True)
class _Stream:
    """``source`` is a SELECT; ``names`` what expressions may refer to, as SQL over it.

    ``shown`` are the columns of the answer besides whole entries (``is_whole``); ``order`` names
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
        source = join(Kind.ROWS, "SELECT *", *parts, " FROM (", self.source, ")")
        return replace(self, source=source, made=self.made + len(items)), columns

    def sorted(self, columns: str = "*") -> Sql:
        end = f") ORDER BY {self.keys}" if self.order else ")"
        return join(Kind.ROWS, f"SELECT {columns} FROM (", self.source, end)

    @property
    def keys(self) -> str:
        return ", ".join(
            f"{column} {'DESC' if is_descending else 'ASC'} NULLS LAST"
            for column, is_descending in self.order
        )

    def finish(self, limit: int, offset: int) -> Plan:
        columns = [*(RECORD_COLUMNS if self.is_whole else ()), *(sql for _, sql in self.shown)]
        rows = self.sorted(", ".join(columns))
        sql = join(Kind.ROWS, rows, Sql(Kind.ROWS, " LIMIT ? OFFSET ?", (limit + 1, offset)))
        shown = tuple(column for column, _ in self.shown)
        return Plan(sql.text, list(sql.parameters), self.is_whole, shown)


def _begin(places: Sequence[Place], from_ms: int, to_ms: int) -> _Stream:
    rows = [
        dict(
            zip(
                PLACE_COLUMNS,
                (
                    place.deployment,
                    str(place.category),
                    place.address.compartment,
                    place.address.group,
                    place.address.log,
                ),
                strict=True,
            )
        )
        for place in places
    ]
    source = Sql(
        Kind.ROWS,
        "SELECT entries.*, place.compartment, place.log_group, place.log FROM entries "
        f"JOIN (SELECT unnest(?::{_PLACES}, recursive := true)) AS place "
        "ON place.deployment = entries.deployment AND place.category = entries.category "
        "WHERE entries.time >= ? AND entries.time < ?",
        (rows, from_ms, to_ms),
    )
    return _Stream(source, FIELDS, ((TIME, True), ("id", False)))


def _cut(stream: _Stream, count: int) -> _Stream:
    """Only so far back (or on) as the rows of the answer are found by their times alone: the other
    columns of all the rest are never read.
    """
    is_descending = stream.order[0][1]
    sign, edge, direction = (">=", "min", "DESC") if is_descending else ("<=", "max", "ASC")
    times = join(
        Kind.ROWS, f"SELECT {TIME} FROM (", stream.source, f") ORDER BY {TIME} {direction}"
    )
    parts = (
        *("SELECT * FROM (", stream.source, f") WHERE {TIME} {sign} (SELECT {edge}({TIME}) FROM ("),
        *(times, Sql(Kind.ROWS, " LIMIT ?", (count,)), "))"),
    )
    return replace(stream, source=join(Kind.ROWS, *parts))


def _apply(stage: Stage, stream: _Stream) -> _Stream:
    match stage:
        case Where(wanted):
            parts = ("SELECT * FROM (", stream.source, ") WHERE ", condition(wanted, stream.names))
            return replace(stream, source=join(Kind.ROWS, *parts))
        case Sort(keys):
            return _sort(stream, keys)
        case Limit(count):
            most = Sql(Kind.ROWS, " LIMIT ?", (count,))
            return replace(stream, source=join(Kind.ROWS, stream.sorted(), most))
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


def _sort(stream: _Stream, keys: Sequence[Key]) -> _Stream:
    order = []
    for key in keys:
        column = scalar(key.expression, stream.names)
        if column.text != TIME:
            stream, [made] = stream.with_columns([column])
            column = Sql(column.kind, made)
        order.append((column.text, key.is_descending))
    # What is equal stays in the order it was in.
    return replace(stream, order=(*order, *stream.order))


def _add(stream: _Stream, items: Sequence[Named]) -> tuple[_Stream, tuple[tuple[Column, str], ...]]:
    values = [scalar(item.expression, stream.names) for item in items]
    stream, columns = stream.with_columns(values)
    names = dict(stream.names)
    shown = []
    for item, value, column in zip(items, values, columns, strict=True):
        names[item.name] = Sql(value.kind, column)
        shown.append((Column(item.name, value.kind), column))
    _refuse_twice([item.name for item in items])
    return replace(stream, names=names), tuple(shown)


def _dedup(stream: _Stream, keys: Sequence[Expression]) -> _Stream:
    """The first of those that are equal, in the order they are in."""
    stream, columns = stream.with_columns([scalar(key, stream.names) for key in keys])
    order = f" ORDER BY {stream.keys}" if stream.order else ""
    first = f"row_number() OVER (PARTITION BY {', '.join(columns)}{order}) = 1"
    source = join(Kind.ROWS, "SELECT * FROM (", stream.source, f") QUALIFY {first}")
    return replace(stream, source=source)


def _summarize(
    stream: _Stream, aggregates: Sequence[Aggregate], groups: Sequence[Named]
) -> _Stream:
    order = stream.keys
    values = [scalar(group.expression, stream.names) for group in groups]
    stream, columns = stream.with_columns(values)
    _refuse_twice([*(item.name for item in groups), *(item.name for item in aggregates)])
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
        join(Kind.ROWS, "SELECT ", *parts, " FROM (", stream.source, grouped),
        names={column.name: Sql(column.kind, sql) for column, sql in shown},
        order=tuple((column, False) for column in columns),
        is_whole=False,
        shown=tuple(shown),
        made=stream.made + len(aggregates),
    )


def _aggregate(aggregate: Aggregate, names: Mapping[str, Sql], order: str) -> Sql:
    function = aggregate.function
    if aggregate.operand is None:
        return Sql(Kind.NUMBER, "count(*)")
    operand = scalar(aggregate.operand, names)
    if function == "count":
        return join(Kind.NUMBER, "count(", operand, ")")
    if function in ("sum", "avg"):
        if operand.kind is not Kind.NUMBER:
            raise InvalidParameter(f"searchQuery: {function}() is of numbers, like data.status")
        return join(Kind.NUMBER, f"{function}(CAST(", operand, " AS DOUBLE))")
    if function in ("first", "last"):  # in the order in which the stream is sorted
        return join(operand.kind, f"{function}(", operand, f" ORDER BY {order})" if order else ")")
    return join(operand.kind, f"{function}(", operand, ")")


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidParameter(
                f"searchQuery: two columns would be called {name}; name one of them with `as`"
            )
