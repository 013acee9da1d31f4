"""JSON in and out, the same whichever library does it.

In: what the standard library accepts (NaN and Infinity too). Out: strict JSON in UTF-8; a NaN or an
infinity becomes ``null``, because no other client could read it. What users return beyond plain
JSON is turned into it by looks, never by importing their libraries:

numpy scalar, numpy array, tensor      number, nested lists
pandas Series, Index                   list
pandas DataFrame                       column -> row label -> value, as ``DataFrame.to_json()``
Arrow Table                            list of rows, each column -> value
datetime, date, time                   ISO 8601; timedelta: seconds
Decimal                                number; Enum: its value; UUID and paths: text
set, tuple, deque, range               list
dataclass, pydantic model              object
"""

import dataclasses
from collections import deque
from collections.abc import Mapping, Set, ValuesView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from importlib import import_module
from json import JSONDecoder, JSONEncoder
from json import loads as _loads_any_encoding
from math import isfinite
from os import PathLike, fspath
from uuid import UUID

_decode = JSONDecoder().decode
_DIGITS_ONLY = bytes(48 if 48 <= byte < 58 else 32 for byte in range(256))
_BEYOND_64_BITS = b"0" * 19


class NotEncodable(TypeError):
    """A result that has no JSON; the text names its type."""


class Codec:
    """``loads`` and ``dumps``; by default with the standard library.

    ``fast`` is ``orjson``, where there is one.
    """

    def __init__(self, fast=None):
        self._fast_loads = fast and fast.loads
        self._encode = _dumps_standard if fast is None else _dumps_with(fast)

    def loads(self, body):
        """The value of a JSON text (bytes). Raises ValueError or RecursionError."""
        # orjson reads an integer beyond 64 bits as a float: leave long digits to the slow way.
        if self._fast_loads and _BEYOND_64_BITS not in body.translate(_DIGITS_ONLY):
            try:
                return self._fast_loads(body)
            except ValueError:
                pass  # NaN, a lone surrogate, a byte order mark: the standard library may take it
        try:
            return _decode(body.decode("utf-8"))
        except UnicodeDecodeError:
            return _loads_any_encoding(body)  # UTF-16 and UTF-32 are JSON as well
        except ValueError:
            if body.startswith(b"\xef\xbb\xbf"):
                return _decode(body.decode("utf-8-sig"))
            raise

    def dumps(self, result):
        """JSON text (bytes) of what predict() returned. Raises NotEncodable."""
        try:
            return self._encode(result)
        except NotEncodable:
            raise
        except (TypeError, ValueError, RecursionError):
            # NaN, keys that are not text, an integer beyond 64 bits, a lone surrogate, a cycle.
            try:
                return _standard_ascii(_plain(result)).encode("ascii")
            except RecursionError:
                raise NotEncodable("the result contains itself or is nested too deeply") from None


def fastest_codec(libraries=("havre_copy.orjson", "orjson")):
    """The codec for this interpreter: with orjson, if there is one that works.

    The first is our own, which lies beside these modules for the Python that havre itself runs on;
    the other the environment's.
    """
    for library in libraries:
        try:
            codec = Codec(import_module(library))
            if codec.dumps({"a": [1, None]}) == b'{"a":[1,null]}' and codec.loads(b"[1]") == [1]:
                return codec
        except Exception:  # absent, broken, or a file of the user's with that name
            pass
    return Codec()


def _dumps_with(fast):
    # The library's own ideas of dataclasses and dates are passed by: one result, one answer.
    option = fast.OPT_PASSTHROUGH_DATACLASS | fast.OPT_PASSTHROUGH_DATETIME
    dumps = fast.dumps

    def encode(result):
        try:
            return dumps(result, _default, option)
        except TypeError as error:
            cause = error.__cause__
            if isinstance(cause, NotEncodable):
                raise cause from None
            raise

    return encode


def _default(value):
    """One step towards plain JSON for a value that is not."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if _is_missing(value):
        return None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, (bytes, bytearray, memoryview, type)):
        raise NotEncodable(_no_json(value))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (tuple, Set, deque, range, ValuesView)):
        return list(value)
    return _by_looks(value)


def _by_looks(value):
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in ("m", "M") and hasattr(value, "astype"):
        # Those of pandas become its own, which are dates and durations of Python's, too.
        if type(value).__module__.partition(".")[0] != "pandas":
            return _seconds(value) if kind == "m" else _dates(value.astype(str).tolist())
    for name in ("model_dump", "tolist", "to_list", "to_pylist", "to_dict", "numpy", "dict"):
        convert = getattr(value, name, None)
        if callable(convert):
            try:
                converted = convert()
            except Exception as error:
                raise NotEncodable("%s: %s() raised %s" % (_no_json(value), name, error)) from error
            if type(converted) is not type(value):
                return converted
    raise NotEncodable(_no_json(value))


def _seconds(durations):
    try:
        return (durations / durations.dtype.type(1, "s")).tolist()
    except TypeError:  # a month or a year has no number of them
        return durations.astype(str).tolist()


def _dates(texts):
    """Dates of numpy, which are bare integers in its own lists."""
    if type(texts) is list:
        return [_dates(text) for text in texts]
    return None if texts == "NaT" else texts


def _no_json(value):
    kind = type(value)
    module = kind.__module__
    name = (
        kind.__qualname__ if module in ("builtins", "score") else module + "." + kind.__qualname__
    )
    return "predict() returned a value of type %s, which has no JSON form" % name


def _is_missing(value):
    """NaT and NA of pandas, by looks."""
    return type(value).__name__ in ("NaTType", "NAType")


_standard = JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_default
).encode
_standard_ascii = JSONEncoder(allow_nan=False, separators=(",", ":"), default=_default).encode


def _dumps_standard(result):
    return _standard(result).encode("utf-8")


def _plain(value):
    """The value with NaN as None, keys as text and everything else as plain JSON."""
    if value is None or isinstance(value, (str, bool, int)):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return _plain(_default(value))


def _key(key):
    if isinstance(key, str):
        return key.value if isinstance(key, Enum) else key
    if isinstance(key, float) and not isfinite(key):
        return "NaN" if key != key else str(key)
    plain = key if key is None or isinstance(key, (bool, int, float)) else _default(key)
    if plain is None or isinstance(plain, (bool, int, float, str)):
        return plain
    raise NotEncodable(
        "predict() returned a key of type %s; JSON keys are text" % type(key).__name__
    )
