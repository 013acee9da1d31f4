"""What predict() returns, one step closer to plain JSON. Objects of libraries are known by their
attributes; no library is imported.

numpy scalar, numpy array, tensor      number, nested lists; of records: a list of rows
pandas Series, Index                   list
pandas DataFrame                       column -> row label -> value, as ``DataFrame.to_json()``
Arrow Table                            list of rows, each column -> value
datetime, date, time                   ISO 8601; timedelta: seconds
Decimal, Fraction, longdouble          number; Enum: its value
bytes                                  text, if they are UTF-8
UUID, path, IP address, Interval, Period   text
set, tuple, deque, range, UserList     list
dataclass, attrs, pydantic model       object; of pydantic: its JSON form

Nothing is lost: labels or keys that would be equal in JSON are refused.
"""

import dataclasses
from collections import UserString
from collections.abc import Mapping, Sequence, Set, ValuesView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from math import isfinite
from os import PathLike, fspath
from uuid import UUID

MAX_DIGITS = 4300
"""Of an integer: Python itself writes no more, because the time grows with the square."""

_MAX_BITS = MAX_DIGITS * 3321928 // 1000000
_ADDRESSES = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_CONVERSIONS = ("tolist", "to_list", "to_pylist", "to_dict", "numpy", "dict")
_SPANS = ("Interval", "Period", "BaseOffset")
_DOUBLE_BYTES = 8


class NotEncodable(TypeError):
    """A result that has no JSON form; the text names its type."""


def plain(value):
    """The value with NaN as None, keys as text and everything else as plain JSON.

    Raises NotEncodable, RecursionError.
    """
    if value is None or isinstance(value, (str, bool)):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, int):
        return plain(value.value) if isinstance(value, Enum) else _writable(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, dict):
        return _object((key_text(key), plain(item), key) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return plain(simpler(value))


def simpler(value):
    """One step towards plain JSON for a value that is not. Raises NotEncodable."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return float(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if _is_missing(value):
        return None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (Decimal, Fraction)):
        return _number(value)
    if isinstance(value, (UUID, UserString, *_ADDRESSES)):
        return str(value)
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, (bytes, bytearray)):
        return _text(value)
    if isinstance(value, (memoryview, type)):
        raise NotEncodable(_no_json(value))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Sequence, Set, ValuesView)):
        return list(value)
    return _by_attributes(value)


def may_lose_keys(value):
    """Whether it has, among its dicts and lists, a dict with keys that are not all text."""
    if isinstance(value, dict):
        if not set(map(type, value)) <= {str}:
            return True
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return False
    if not any(issubclass(kind, (dict, list, tuple)) for kind in set(map(type, value))):
        return False
    return any(map(may_lose_keys, value))


def key_text(key):
    """The text that a key of an object has in JSON. Raises NotEncodable."""
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return key
    simple = key if key is None or isinstance(key, (bool, int, float)) else simpler(key)
    if simple is None:
        return "null"
    if isinstance(simple, bool):
        return "true" if simple else "false"
    if isinstance(simple, int):
        return int.__repr__(_writable(simple))
    if isinstance(simple, float):
        return "NaN" if simple != simple else float.__repr__(simple)
    if isinstance(simple, str):
        return simple
    raise NotEncodable(
        "predict() returned a key of type %s; JSON keys are text" % type(key).__name__
    )


def label_text(label):
    """The same for a column or row; of a MultiIndex it is a tuple, written as pandas does."""
    if not isinstance(label, tuple):
        return key_text(label)
    parts = [part if isinstance(part, (str, int, float)) else plain(part) for part in label]
    return str(tuple(parts))


def _object(items):
    """A dict of ``(text, value, key)``."""
    entries = {}
    keys = {}
    for text, value, key in items:
        if text in entries:
            raise NotEncodable(
                "predict() returned a dict with the keys %r and %r, which are both %r in JSON: "
                "one of the values would be lost" % (keys[text], key, text)
            )
        entries[text] = value
        keys[text] = key
    return entries


def _by_attributes(value):
    if hasattr(value, "iloc") and hasattr(value, "columns"):
        return _frame(value)
    if hasattr(value, "astype") and not _is_of("pandas", value):
        # Not for pandas, whose own dates and durations are subclasses of Python's.
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        if kind in ("m", "M"):
            return _seconds(value) if kind == "m" else _dates(value.astype(str).tolist())
        if kind == "f" and value.dtype.itemsize > _DOUBLE_BYTES:
            return value.astype("float64").tolist()
        if kind == "V" and value.dtype.names:
            return _rows(value)
    if hasattr(value, "model_dump"):
        return _model(value)
    if hasattr(type(value), "__attrs_attrs__"):
        return {
            attribute.name: getattr(value, attribute.name)
            for attribute in type(value).__attrs_attrs__
        }
    if _is_text(value):
        return str(value)
    for name in _CONVERSIONS:
        convert = getattr(value, name, None)
        if callable(convert):
            converted = _converted(value, name, convert)
            if type(converted) is not type(value):
                return converted
    raise NotEncodable(_no_json(value))


def _is_of(library, value):
    return any(base.__module__.partition(".")[0] == library for base in type(value).__mro__)


def _is_text(value):
    """Whether it is written as text: pandas' intervals and periods; pydantic's URLs and secrets."""
    if _is_of("pandas", value):
        return any(base.__name__ in _SPANS for base in type(value).__mro__)
    is_pydantic = _is_of("pydantic", value) or _is_of("pydantic_core", value)
    return is_pydantic and not hasattr(value, "dict")


def _converted(value, name, convert):
    try:
        return convert()
    except Exception as error:
        raise NotEncodable("%s: %s() raised %s" % (_no_json(value), name, error)) from error


def _model(value):
    """A pydantic model as JSON; if pydantic cannot write a field, as a dict that ``plain`` can."""
    try:
        return value.model_dump(mode="json")
    except Exception:  # a field of a type unknown to pydantic: an array, a table
        return _converted(value, "model_dump", value.model_dump)


def _frame(frame):
    rows = _labels("row", frame.index, "give it labels of its own with reset_index(drop=True)")
    columns = _labels("column", frame.columns, "rename its columns")
    return {
        column: dict(zip(rows, frame.iloc[:, index].tolist()))
        for index, column in enumerate(columns)
    }


def _labels(axis, labels, remedy):
    texts = [label_text(label) for label in labels.tolist()]
    if len(set(texts)) < len(texts):
        visited = set()
        twice = next(text for text in texts if text in visited or visited.add(text))
        raise NotEncodable(
            "predict() returned a DataFrame with the %s label %r more than once, which a JSON "
            "object cannot hold: %s" % (axis, twice, remedy)
        )
    return texts


def _rows(records):
    """Rows of an array of records: NumPy's ``tolist`` would give dates as integers."""
    columns = [records[name] for name in records.dtype.names]
    if not records.ndim:
        return [plain(column) for column in columns]
    return [list(row) for row in zip(*(plain(column) for column in columns))]


def _seconds(durations):
    try:
        return (durations / durations.dtype.type(1, "s")).tolist()
    except TypeError:  # a month or a year has no number of them
        return durations.astype(str).tolist()


def _dates(texts):
    """NumPy's dates, already as text: its ``tolist`` would give integers."""
    if type(texts) is list:
        return [_dates(text) for text in texts]
    return None if texts == "NaT" else texts


def _number(value):
    """A Decimal or a Fraction."""
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return _writable(value.numerator)
        try:
            return float(value)
        except OverflowError:
            raise _too_long(value) from None
    if not value.is_finite():
        return None
    if value and value.adjusted() >= MAX_DIGITS:
        raise _too_long(value)  # before its digits are written out
    return int(value or 0) if value == value.to_integral_value() else float(value)


def _writable(number):
    if number.bit_length() > _MAX_BITS:
        raise _too_long(number)
    return number


def _too_long(number):
    return NotEncodable(
        "predict() returned a %s with more than %d digits" % (type(number).__name__, MAX_DIGITS)
    )


def _text(value):
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise NotEncodable(
            "%s: these bytes are no UTF-8 text. Encode them, in base64 for example"
            % _no_json(value)
        ) from None


def _no_json(value):
    kind = type(value)
    module = kind.__module__
    name = (
        kind.__qualname__ if module in ("builtins", "score") else module + "." + kind.__qualname__
    )
    return "predict() returned a value of type %s, which has no JSON form" % name


def _is_missing(value):
    """Whether it is NaT or NA of pandas, known by the class name."""
    return type(value).__name__ in ("NaTType", "NAType")
