"""Expressions of a search as SQL over the columns of ``entries`` and the log they belong to.

What an entry does not have is null, and no comparison with it is true.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from havre.domain.errors import InvalidParameter
from havre.domain.log_query import (
    WHOLE,
    And,
    Arithmetic,
    Call,
    Comparison,
    Expression,
    Field,
    Not,
    Null,
    Number,
    Or,
    Text,
    Truth,
)

TYPE_PREFIX = "com.oraclecloud.datascience.modeldeployment."
SPEC_VERSION = "1.0"
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MOMENT = "strftime(make_timestamp({} * 1000), '%Y-%m-%dT%H:%M:%S.%gZ')"


class Kind(StrEnum):
    TEXT = "STRING"
    NUMBER = "NUMBER"
    TIME = "TIME"  # epoch ms
    TRUTH = "BOOLEAN"
    NULL = "NULL"
    WHOLE = "WHOLE"  # no value: any of an entry's
    ROWS = "ROWS"  # no value: a SELECT, or a part of one


@dataclass(frozen=True, slots=True)
class Sql:
    """``text`` has a ``?`` for each parameter, in their order."""

    kind: Kind
    text: str
    parameters: tuple[Any, ...] = ()


def join(kind: Kind, *parts: str | Sql) -> Sql:
    text = "".join(part if isinstance(part, str) else part.text for part in parts)
    parameters = [each for part in parts if isinstance(part, Sql) for each in part.parameters]
    return Sql(kind, text, tuple(parameters))


FIELDS: Mapping[str, Sql] = {
    WHOLE: Sql(Kind.WHOLE, ""),
    "datetime": Sql(Kind.TIME, "time"),
    "id": Sql(Kind.TEXT, "id"),
    "time": Sql(Kind.TEXT, _MOMENT.format("time")),
    "type": Sql(Kind.TEXT, f"('{TYPE_PREFIX}' || category)"),
    "source": Sql(Kind.TEXT, "deployment"),
    "specversion": Sql(Kind.TEXT, f"'{SPEC_VERSION}'"),
    "oracle.compartmentid": Sql(Kind.TEXT, "compartment"),
    "oracle.ingestedtime": Sql(Kind.TEXT, _MOMENT.format("ingested")),
    "oracle.loggroupid": Sql(Kind.TEXT, "log_group"),
    "oracle.logid": Sql(Kind.TEXT, "log"),
    "data.logEmissionTime": Sql(Kind.TEXT, _MOMENT.format("time")),
    "data.message": Sql(Kind.TEXT, "message"),
    "data.opcRequestId": Sql(Kind.TEXT, "request"),
    "data.instance": Sql(Kind.TEXT, "instance"),
    "data.copy": Sql(Kind.NUMBER, "copy"),
    "data.revision": Sql(Kind.TEXT, "revision"),
    "data.method": Sql(Kind.TEXT, "method"),
    "data.path": Sql(Kind.TEXT, "path"),
    "data.protocol": Sql(Kind.TEXT, "protocol"),
    "data.status": Sql(Kind.NUMBER, "status"),
    "data.flags": Sql(Kind.TEXT, "flags"),
    "data.totalLatency": Sql(Kind.NUMBER, "total_ms"),
    "data.copyLatency": Sql(Kind.NUMBER, "copy_ms"),
    "data.modelLatency": Sql(Kind.NUMBER, "model_ms"),
    "data.bytesIn": Sql(Kind.NUMBER, "bytes_in"),
    "data.bytesOut": Sql(Kind.NUMBER, "bytes_out"),
}
"""Every field of an entry by its path in the record, and where it is."""

_NOT_SEARCHED = ("specversion", "time", "oracle.ingestedtime", "data.logEmissionTime")
"""To write down the times of a million entries takes longer than all the rest."""
_SEARCHED = tuple(
    name for name, field in FIELDS.items() if field.kind is Kind.TEXT and name not in _NOT_SEARCHED
)
"""What ``logContent`` stands for, and the status."""


def condition(expression: Expression, names: Mapping[str, Sql]) -> Sql:
    """Something that is true or not. Raises InvalidParameter."""
    match expression:
        case And(operands):
            return _joined("AND", operands, names)
        case Or(operands):
            return _joined("OR", operands, names)
        case Not(operand):
            return join(Kind.TRUTH, "(NOT ", condition(operand, names), ")")
        case Comparison():
            return _comparison(expression, names)
        case Text(_) if _is_whole(Field(WHOLE), names):
            return _anywhere(lambda field: _contains(field, expression.value, is_exact=False))
    found = scalar(expression, names)
    if found.kind is not Kind.TRUTH:
        raise InvalidParameter(
            "searchQuery: a condition compares something, like data.status >= 500 or "
            "data.message = '*error*'"
        )
    return found


def scalar(expression: Expression, names: Mapping[str, Sql]) -> Sql:
    """A value of each row. Raises InvalidParameter."""
    match expression:
        case Field(path):
            return _field(path, names)
        case Text():
            return Sql(Kind.TEXT, "CAST(? AS VARCHAR)", (expression.value,))
        case Number(value):
            return Sql(Kind.NUMBER, "CAST(? AS DOUBLE)", (float(value),))
        case Truth(value):
            return Sql(Kind.TRUTH, "true" if value else "false")
        case Null():
            return Sql(Kind.NULL, "NULL")
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
            if any(side.kind not in (Kind.NUMBER, Kind.TIME) for side in sides):
                raise InvalidParameter(f"searchQuery: {sign} is for numbers")
            first, second = sides
            # Nothing divided by nothing is null, as in every comparison with what is not there.
            second = join(Kind.NUMBER, "nullif(", second, ", 0)") if sign == "/" else second
            return join(
                *(Kind.NUMBER, "(CAST(", first, f" AS DOUBLE) {sign} CAST("),
                *(second, " AS DOUBLE))"),
            )
    return condition(expression, names)


def _field(path: str, names: Mapping[str, Sql]) -> Sql:
    if path in names and names[path].kind is not Kind.WHOLE:
        return names[path]
    if path in names:
        raise InvalidParameter(
            f"searchQuery: {WHOLE} can be compared: {WHOLE} = '*text*', "
            f"contains_ci({WHOLE}, 'text')"
        )
    raise InvalidParameter(
        f"searchQuery: there is no field {path[:100]} (text stands in single quotes); those there "
        f"are: {', '.join(names)}"
    )


def _joined(word: str, operands: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    parts: list[str | Sql] = []
    for operand in operands:
        parts += [f" {word} " if parts else "(", condition(operand, names)]
    return join(Kind.TRUTH, *parts, ")")


def _comparison(wanted: Comparison, names: Mapping[str, Sql]) -> Sql:
    operator, left, right = wanted.operator, wanted.left, wanted.right
    if isinstance(left, (Text, Number, Null)) and not isinstance(right, (Text, Number, Null)):
        left, right, operator = right, left, _MIRRORED[operator]
    if _is_whole(left, names):
        return _anywhere_equal(operator, right)
    value = scalar(left, names)
    if isinstance(right, Null):
        _require_equality(operator, "null")
        return join(Kind.TRUTH, "(", value, " IS ", "" if operator == "=" else "NOT ", "NULL)")
    if isinstance(right, Text):
        return _with_text(value, operator, right)
    other = scalar(right, names)
    if value.kind is Kind.TEXT and other.kind is Kind.NUMBER:
        value = join(Kind.NUMBER, "TRY_CAST(", value, " AS DOUBLE)")
    kinds = {Kind.NUMBER if each.kind is Kind.TIME else each.kind for each in (value, other)}
    if len(kinds - {Kind.NULL}) > 1:
        raise InvalidParameter(
            f"searchQuery: a {value.kind} cannot be compared with a {other.kind}"
        )
    return join(Kind.TRUTH, "(", value, f" {operator} ", other, ")")


def _with_text(value: Sql, operator: str, text: Text) -> Sql:
    if value.kind is Kind.TIME:
        moment = Sql(Kind.TIME, "CAST(? AS BIGINT)", (_epoch_ms(text.value),))
        return join(Kind.TRUTH, "(", value, f" {operator} ", moment, ")")
    if text.is_pattern:
        _require_equality(operator, "text with a *")
        like = "LIKE" if operator == "=" else "NOT LIKE"
        as_text = join(Kind.TEXT, "CAST(", value, " AS VARCHAR)")
        pattern = Sql(Kind.TEXT, "? ESCAPE '\\'", (_like(text),))
        return join(Kind.TRUTH, "(", as_text, f" {like} ", pattern, ")")
    if value.kind is Kind.NUMBER:
        try:
            number = float(text.value)
        except ValueError:
            raise InvalidParameter(
                f"searchQuery: {text.value[:50]!r} is compared with a number"
            ) from None
        return join(Kind.TRUTH, "(", value, f" {operator} ", Sql(Kind.NUMBER, "?", (number,)), ")")
    if value.kind is not Kind.TEXT:
        raise InvalidParameter(f"searchQuery: a {value.kind} cannot be compared with a text")
    return join(Kind.TRUTH, "(", value, f" {operator} ", Sql(Kind.TEXT, "?", (text.value,)), ")")


def _is_whole(expression: Expression, names: Mapping[str, Sql]) -> bool:
    """Whether it is any value of an entry that is meant; there are no entries after summarize."""
    return (
        isinstance(expression, Field)
        and expression.path in names
        and names[expression.path].kind is Kind.WHOLE
    )


def _anywhere_equal(operator: str, right: Expression) -> Sql:
    _require_equality(operator, WHOLE)
    if not isinstance(right, Text):
        raise InvalidParameter(f"searchQuery: {WHOLE} is compared with a text: {WHOLE} = '*…*'")
    found = _anywhere(lambda field: _with_text(field, "=", right))
    return found if operator == "=" else join(Kind.TRUTH, "(NOT ", found, ")")


def _anywhere(test: Callable[[Sql], Sql]) -> Sql:
    """Whether a value of the entry passes; never null."""
    status = Sql(Kind.TEXT, "CAST(status AS VARCHAR)")
    parts: list[str | Sql] = []
    for field in (*(FIELDS[name] for name in _SEARCHED), status):
        parts += [" OR " if parts else "coalesce(", test(field)]
    return join(Kind.TRUTH, *parts, ", false)")


def _contains(field: Sql, text: str, *, is_exact: bool) -> Sql:
    sought = Sql(Kind.TEXT, "CAST(? AS VARCHAR)", (text if is_exact else text.lower(),))
    within = field if is_exact else join(Kind.TEXT, "lower(", field, ")")
    return join(Kind.TRUTH, "contains(", within, ", ", sought, ")")


def _call_contains(name: str, arguments: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    match arguments:
        case (where, Text() as text):
            is_exact = name == "contains_cs"
        case (where, Text() as text, Truth(is_exact)):
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
            if moment.kind in (Kind.TIME, Kind.NUMBER):
                whole = join(moment.kind, "CAST(", moment, " AS BIGINT)")
                step = Sql(Kind.NUMBER, "CAST(? AS BIGINT)", (span,))
                return join(Kind.TIME, "(", whole, " - ", whole, " % ", step, ")")
    raise InvalidParameter(
        f"searchQuery: it is {name}(datetime, '1m'), with s, m, h or d as the unit"
    )


def _call_concat(name: str, arguments: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    if not arguments:
        raise InvalidParameter(f"searchQuery: it is {name}(data.method, ' ', data.path)")
    parts: list[str | Sql] = []
    for argument in arguments:
        parts += [", " if parts else "concat(", _text(name, argument, names)]
    return join(Kind.TEXT, *parts, ")")


def _call_of_text(name: str, arguments: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    if len(arguments) != 1:
        raise InvalidParameter(f"searchQuery: it is {name}(data.message)")
    return join(
        Kind.TEXT,
        f"{'upper' if name == 'upper' else 'lower'}(",
        _text(name, arguments[0], names),
        ")",
    )


def _call_null(name: str, arguments: tuple[Expression, ...], names: Mapping[str, Sql]) -> Sql:
    if len(arguments) != 1:
        raise InvalidParameter(f"searchQuery: it is {name}(data.message)")
    word = "NOT " if name == "isnotnull" else ""
    return join(Kind.TRUTH, "(", scalar(arguments[0], names), f" IS {word}NULL)")


def _text(name: str, expression: Expression, names: Mapping[str, Sql]) -> Sql:
    value = scalar(expression, names)
    if value.kind is Kind.TRUTH:
        raise InvalidParameter(f"searchQuery: {name}() is of texts")
    return value if value.kind is Kind.TEXT else join(Kind.TEXT, "CAST(", value, " AS VARCHAR)")


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
