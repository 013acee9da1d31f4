"""Expressions of a log query as SQL over the columns of ``entries`` and of the log they belong to.

A field that an entry lacks is null, and no comparison with null is true.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from havre.domain.errors import InvalidParameter
from havre.queries.log_ast import (
    WHOLE_ENTRY,
    And,
    Arithmetic,
    Boolean,
    Call,
    Comparison,
    Expression,
    Field,
    Not,
    Null,
    Number,
    Or,
    Text,
)

TYPE_PREFIX = "com.oraclecloud.datascience.modeldeployment."
SPEC_VERSION = "1.0"
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TIME_FORMAT = "strftime(make_timestamp({} * 1000), '%Y-%m-%dT%H:%M:%S.%gZ')"
_EXACT_TIME = (
    "CASE WHEN position IS NULL THEN " + _TIME_FORMAT.format("time") + " "
    "ELSE strftime(make_timestamp(position), '%Y-%m-%dT%H:%M:%S.%fZ') END"
)


class ValueKind(StrEnum):
    TEXT = "STRING"
    NUMBER = "NUMBER"
    TIME = "TIME"  # epoch ms
    BOOLEAN = "BOOLEAN"
    NULL = "NULL"
    WHOLE_ENTRY = "WHOLE_ENTRY"  # no value: any field of an entry
    ROWS = "ROWS"  # no value: a SELECT, or part of one


@dataclass(frozen=True, slots=True)
class Sql:
    """``text`` has a ``?`` for each parameter, in their order."""

    kind: ValueKind
    text: str
    parameters: tuple[Any, ...] = ()


def join(kind: ValueKind, *parts: str | Sql) -> Sql:
    text = "".join(part if isinstance(part, str) else part.text for part in parts)
    parameters = [value for part in parts if isinstance(part, Sql) for value in part.parameters]
    return Sql(kind, text, tuple(parameters))


FIELDS: Mapping[str, Sql] = {
    WHOLE_ENTRY: Sql(ValueKind.WHOLE_ENTRY, ""),
    "datetime": Sql(ValueKind.TIME, "time"),
    "id": Sql(ValueKind.TEXT, "id"),
    "time": Sql(ValueKind.TEXT, _EXACT_TIME),
    "type": Sql(ValueKind.TEXT, f"('{TYPE_PREFIX}' || category)"),
    "source": Sql(ValueKind.TEXT, "deployment"),
    "specversion": Sql(ValueKind.TEXT, f"'{SPEC_VERSION}'"),
    "oracle.compartmentid": Sql(ValueKind.TEXT, "compartment"),
    "oracle.ingestedtime": Sql(ValueKind.TEXT, _TIME_FORMAT.format("ingested")),
    "oracle.loggroupid": Sql(ValueKind.TEXT, "log_group"),
    "oracle.logid": Sql(ValueKind.TEXT, "log"),
    "data.logEmissionTime": Sql(ValueKind.TEXT, _TIME_FORMAT.format("time")),
    "data.message": Sql(ValueKind.TEXT, "message"),
    "data.opcRequestId": Sql(ValueKind.TEXT, "request"),
    "data.instance": Sql(ValueKind.TEXT, "instance"),
    "data.copy": Sql(ValueKind.NUMBER, "copy"),
    "data.revision": Sql(ValueKind.TEXT, "revision"),
    "data.method": Sql(ValueKind.TEXT, "method"),
    "data.path": Sql(ValueKind.TEXT, "path"),
    "data.protocol": Sql(ValueKind.TEXT, "protocol"),
    "data.status": Sql(ValueKind.NUMBER, "status"),
    "data.flags": Sql(ValueKind.TEXT, "flags"),
    "data.totalLatency": Sql(ValueKind.NUMBER, "total_ms"),
    "data.copyLatency": Sql(ValueKind.NUMBER, "copy_ms"),
    "data.heldBack": Sql(ValueKind.NUMBER, "held_ms"),
    "data.modelLatency": Sql(ValueKind.NUMBER, "model_ms"),
    "data.bytesIn": Sql(ValueKind.NUMBER, "bytes_in"),
    "data.bytesOut": Sql(ValueKind.NUMBER, "bytes_out"),
}
"""The SQL of every field of an entry, by its path in the record."""

_NOT_SEARCHED = ("specversion", "time", "oracle.ingestedtime", "data.logEmissionTime")
"""Formatting the times of a million entries takes longer than all the rest."""
_SEARCHED = tuple(
    name
    for name, field in FIELDS.items()
    if field.kind is ValueKind.TEXT and name not in _NOT_SEARCHED
)
"""What ``logContent`` stands for; the status is added."""


def condition(expression: Expression, names: Mapping[str, Sql]) -> Sql:
    """An expression that is true or false. Raises InvalidParameter."""
    match expression:
        case And(operands):
            return _joined("AND", operands, names)
        case Or(operands):
            return _joined("OR", operands, names)
        case Not(operand):
            return join(ValueKind.BOOLEAN, "(NOT ", condition(operand, names), ")")
        case Comparison():
            return _comparison(expression, names)
        case Text(_) if _is_whole(Field(WHOLE_ENTRY), names):
            return _anywhere(lambda field: _contains(field, expression.value, is_exact=False))
    value = scalar(expression, names)
    if value.kind is not ValueKind.BOOLEAN:
        raise InvalidParameter(
            "searchQuery: a condition compares something, like data.status >= 500 or "
            "data.message = '*error*'"
        )
    return value


def scalar(expression: Expression, names: Mapping[str, Sql]) -> Sql:
    """A value for each row. Raises InvalidParameter."""
    match expression:
        case Field(path):
            return _field(path, names)
        case Text():
            return Sql(ValueKind.TEXT, "CAST(? AS VARCHAR)", (expression.value,))
        case Number(value):
            return Sql(ValueKind.NUMBER, "CAST(? AS DOUBLE)", (float(value),))
        case Boolean(value):
            return Sql(ValueKind.BOOLEAN, "true" if value else "false")
        case Null():
            return Sql(ValueKind.NULL, "NULL")
        case Call(name, arguments):
            function = _FUNCTIONS.get(name)
            if function is None:
                raise InvalidParameter(
                    f"searchQuery: {name[:50]}() is not known here; the functions are "
                    f"{', '.join(sorted(_FUNCTIONS))}"
                )
            return function(name, arguments, names)
        case Arithmetic(sign, left, right):
            sides = [scalar(side, names) for side in (left, right)]
            if any(side.kind not in (ValueKind.NUMBER, ValueKind.TIME) for side in sides):
                raise InvalidParameter(f"searchQuery: {sign} is for numbers")
            first, second = sides
            # A division by zero is null, like a field that is absent.
            second = join(ValueKind.NUMBER, "nullif(", second, ", 0)") if sign == "/" else second
            return join(
                *(ValueKind.NUMBER, "(CAST(", first, f" AS DOUBLE) {sign} CAST("),
                *(second, " AS DOUBLE))"),
            )
    return condition(expression, names)


def _field(path: str, names: Mapping[str, Sql]) -> Sql:
    if path in names and names[path].kind is not ValueKind.WHOLE_ENTRY:
        return names[path]
    if path in names:
        raise InvalidParameter(
            f"searchQuery: {WHOLE_ENTRY} can be compared: {WHOLE_ENTRY} = '*text*', "
            f"contains_ci({WHOLE_ENTRY}, 'text')"
        )
    raise InvalidParameter(
        f"searchQuery: there is no field {path[:100]} (text stands in single quotes); those there "
        f"are: {', '.join(names)}"
    )


def _joined(word: str, operands: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    parts: list[str | Sql] = []
    for operand in operands:
        parts += [f" {word} " if parts else "(", condition(operand, names)]
    return join(ValueKind.BOOLEAN, *parts, ")")


def _comparison(comparison: Comparison, names: Mapping[str, Sql]) -> Sql:
    operator, left, right = comparison.operator, comparison.left, comparison.right
    if isinstance(left, (Text, Number, Null)) and not isinstance(right, (Text, Number, Null)):
        left, right, operator = right, left, _MIRRORED[operator]
    if _is_whole(left, names):
        return _anywhere_equal(operator, right)
    value = scalar(left, names)
    if isinstance(right, Null):
        _require_equality(operator, "null")
        return join(
            ValueKind.BOOLEAN, "(", value, " IS ", "" if operator == "=" else "NOT ", "NULL)"
        )
    if isinstance(right, Text):
        return _with_text(value, operator, right)
    other = scalar(right, names)
    if value.kind is ValueKind.TEXT and other.kind is ValueKind.NUMBER:
        value = join(ValueKind.NUMBER, "TRY_CAST(", value, " AS DOUBLE)")
    kinds = {
        ValueKind.NUMBER if side.kind is ValueKind.TIME else side.kind for side in (value, other)
    }
    if len(kinds - {ValueKind.NULL}) > 1:
        raise InvalidParameter(
            f"searchQuery: a {value.kind} cannot be compared with a {other.kind}"
        )
    return join(ValueKind.BOOLEAN, "(", value, f" {operator} ", other, ")")


def _with_text(value: Sql, operator: str, text: Text) -> Sql:
    if value.kind is ValueKind.TIME:
        moment = Sql(ValueKind.TIME, "CAST(? AS BIGINT)", (_epoch_ms(text.value),))
        return join(ValueKind.BOOLEAN, "(", value, f" {operator} ", moment, ")")
    if text.is_pattern:
        _require_equality(operator, "text with a *")
        like = "LIKE" if operator == "=" else "NOT LIKE"
        as_text = join(ValueKind.TEXT, "CAST(", value, " AS VARCHAR)")
        pattern = Sql(ValueKind.TEXT, "? ESCAPE '\\'", (_like(text),))
        return join(ValueKind.BOOLEAN, "(", as_text, f" {like} ", pattern, ")")
    if value.kind is ValueKind.NUMBER:
        try:
            number = float(text.value)
        except ValueError:
            raise InvalidParameter(
                f"searchQuery: {text.value[:50]!r} is compared with a number"
            ) from None
        return join(
            ValueKind.BOOLEAN,
            "(",
            value,
            f" {operator} ",
            Sql(ValueKind.NUMBER, "?", (number,)),
            ")",
        )
    if value.kind is not ValueKind.TEXT:
        raise InvalidParameter(f"searchQuery: a {value.kind} cannot be compared with a text")
    return join(
        ValueKind.BOOLEAN, "(", value, f" {operator} ", Sql(ValueKind.TEXT, "?", (text.value,)), ")"
    )


def _is_whole(expression: Expression, names: Mapping[str, Sql]) -> bool:
    """Whether it stands for any value of an entry; there are no entries after summarize."""
    return (
        isinstance(expression, Field)
        and expression.path in names
        and names[expression.path].kind is ValueKind.WHOLE_ENTRY
    )


def _anywhere_equal(operator: str, right: Expression) -> Sql:
    _require_equality(operator, WHOLE_ENTRY)
    if not isinstance(right, Text):
        raise InvalidParameter(
            f"searchQuery: {WHOLE_ENTRY} is compared with a text: {WHOLE_ENTRY} = '*…*'"
        )
    matches = _anywhere(lambda field: _with_text(field, "=", right))
    return matches if operator == "=" else join(ValueKind.BOOLEAN, "(NOT ", matches, ")")


def _anywhere(test: Callable[[Sql], Sql]) -> Sql:
    """Whether any value of the entry passes; never null."""
    status = Sql(ValueKind.TEXT, "CAST(status AS VARCHAR)")
    parts: list[str | Sql] = []
    for field in (*(FIELDS[name] for name in _SEARCHED), status):
        parts += [" OR " if parts else "coalesce(", test(field)]
    return join(ValueKind.BOOLEAN, *parts, ", false)")


def _contains(field: Sql, text: str, *, is_exact: bool) -> Sql:
    sought = Sql(ValueKind.TEXT, "CAST(? AS VARCHAR)", (text if is_exact else text.lower(),))
    within = field if is_exact else join(ValueKind.TEXT, "lower(", field, ")")
    return join(ValueKind.BOOLEAN, "contains(", within, ", ", sought, ")")


def _call_contains(name: str, arguments: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    match arguments:
        case (where, Text() as text):
            is_exact = name == "contains_cs"
        case (where, Text() as text, Boolean(is_exact)):
            pass
        case _:
            raise InvalidParameter(f"searchQuery: it is {name}(data.message, 'text')")
    if _is_whole(where, names):
        return _anywhere(lambda field: _contains(field, text.value, is_exact=is_exact))
    return _contains(_text(name, where, names), text.value, is_exact=is_exact)


def _call_rounddown(name: str, arguments: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    match arguments:
        case (what, Text() as interval) if (span := _interval_ms(interval.value)) is not None:
            moment = scalar(what, names)
            if moment.kind in (ValueKind.TIME, ValueKind.NUMBER):
                whole = join(moment.kind, "CAST(", moment, " AS BIGINT)")
                step = Sql(ValueKind.NUMBER, "CAST(? AS BIGINT)", (span,))
                return join(ValueKind.TIME, "(", whole, " - ", whole, " % ", step, ")")
    raise InvalidParameter(
        f"searchQuery: it is {name}(datetime, '1m'), with s, m, h or d as the unit"
    )


def _call_concat(name: str, arguments: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    if not arguments:
        raise InvalidParameter(f"searchQuery: it is {name}(data.method, ' ', data.path)")
    parts: list[str | Sql] = []
    for argument in arguments:
        parts += [", " if parts else "concat(", _text(name, argument, names)]
    return join(ValueKind.TEXT, *parts, ")")


def _call_of_text(name: str, arguments: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    if len(arguments) != 1:
        raise InvalidParameter(f"searchQuery: it is {name}(data.message)")
    return join(
        ValueKind.TEXT,
        f"{'upper' if name == 'upper' else 'lower'}(",
        _text(name, arguments[0], names),
        ")",
    )


def _call_null(name: str, arguments: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    if len(arguments) != 1:
        raise InvalidParameter(f"searchQuery: it is {name}(data.message)")
    word = "NOT " if name == "isnotnull" else ""
    return join(ValueKind.BOOLEAN, "(", scalar(arguments[0], names), f" IS {word}NULL)")


def _text(name: str, expression: Expression, names: Mapping[str, Sql]) -> Sql:
    value = scalar(expression, names)
    if value.kind is ValueKind.BOOLEAN:
        raise InvalidParameter(f"searchQuery: {name}() is of texts")
    return (
        value
        if value.kind is ValueKind.TEXT
        else join(ValueKind.TEXT, "CAST(", value, " AS VARCHAR)")
    )


def _require_equality(operator: str, what: str) -> None:
    if operator not in ("=", "!="):
        raise InvalidParameter(f"searchQuery: {what} is compared by = or !=, not by {operator}")


def _like(text: Text) -> str:
    parts = [
        part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for part in text.parts
    ]
    return "%".join(parts)


def _epoch_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidParameter(
            f"searchQuery: {text[:50]!r} is compared with a time: write 2026-11-25T10:00:00Z, or "
            "milliseconds since 1970"
        ) from None


def _interval_ms(text: str) -> int | None:
    number, unit = text[:-1], text[-1:]
    is_number = number.isascii() and number.isdigit() and len(number) <= 6 and int(number) > 0
    return int(number) * _UNITS_MS[unit] if is_number and unit in _UNITS_MS else None


_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_FUNCTIONS = {
    "contains_ci": _call_contains,
    "contains_cs": _call_contains,
    "rounddown": _call_rounddown,
    "concat": _call_concat,
    "upper": _call_of_text,
    "lower": _call_of_text,
    "isnull": _call_null,
    "isnotnull": _call_null,
}
