"""The result of predict() as tensors of the Open Inference Protocol.

dict, data frame, table, records     an output for each key, column or field
numbers, booleans, texts, bytes      as they are
dates, times, UUIDs, decimals, ...   what they are in JSON: texts or numbers
durations                            seconds
None, NaN, NaT, NA                   among numbers NaN; among texts null, which only JSON has

Objects of libraries are known by their attributes; no library is imported. Anything else, and what
mixes several of these, is refused: no number becomes a text, or loses digits, because of the other
elements.
"""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction

from havre_copy.causes import describe
from havre_copy.plain import NotEncodable, label_text, plain, simpler

TYPES = {
    "BOOL": "|b1",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""NumPy's type for each datatype of the protocol except BYTES."""

_NAMES = {layout[1:]: name for name, layout in TYPES.items()}
_WORDS = {str: "texts", bytes: "bytes", bool: "booleans", int: "numbers", float: "numbers"}
_LARGEST_EXACT = 2**53  # up to here a float of 64 bits holds every integer


class Tensor:
    """``array`` is NumPy's; elements of BYTES are str, bytes or None. ``is_dates``: of dates."""

    def __init__(self, array, datatype, is_dates=False):
        self.array = array
        self.datatype = datatype
        self.is_dates = is_dates

    def packed(self, name):
        """The data as bytes. Raises NotEncodable."""
        if self.datatype != "BYTES":
            return self.array.astype(TYPES[self.datatype], copy=False).tobytes()
        parts = []
        for item in self.array.reshape(-1).tolist():
            if item is None:
                raise _no_tensor(name, "missing texts, which only JSON has: ask for no binary data")
            item = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item
            parts.append(len(item).to_bytes(4, "little") + item)
        return b"".join(parts)

    def listed(self, name):
        """The data as a flat list for JSON. Raises NotEncodable."""
        items = self.array.reshape(-1).tolist()
        if self.datatype != "BYTES":
            return items
        try:
            return [item.decode("utf-8") if isinstance(item, bytes) else item for item in items]
        except UnicodeDecodeError:
            raise _no_tensor(
                name, "bytes that are no text, which JSON cannot hold: ask for binary data"
            ) from None


def named(result):
    """``[(name, value), ...]`` of a result that has several, or None. Raises NotEncodable."""
    if isinstance(result, Mapping):
        items = result.items()
    elif hasattr(result, "iloc") and hasattr(result, "columns"):
        items = [(name, result.iloc[:, at]) for at, name in enumerate(result.columns.tolist())]
    elif hasattr(result, "column_names"):  # an Arrow table
        items = zip(result.column_names, result.columns)
    elif hasattr(result, "get_columns"):  # a frame of polars
        items = [(column.name, column) for column in result.get_columns()]
    elif getattr(getattr(result, "dtype", None), "names", None):
        items = [(name, result[name]) for name in result.dtype.names]
    else:
        return None
    outputs = {}
    for label, value in items:
        name = label_text(label)
        if name in outputs:
            raise _no_tensor(name, "the same name as another: one of them would be lost")
        outputs[name] = value
    return list(outputs.items())


def tensor(numpy, name, value):
    """The Tensor that a value is. Raises NotEncodable."""
    array = _array(numpy, name, value)
    datatype = _NAMES.get(array.dtype.str[1:])
    if datatype:
        return Tensor(array, datatype)
    kind = array.dtype.kind
    if kind == "f":
        return Tensor(array.astype("f8"), "FP64")  # longer ones have no name there
    if kind == "U":
        return Tensor(array.astype(object), "BYTES")
    if kind == "m":
        return Tensor(_seconds(name, array), "FP64")
    if kind not in "MO":
        raise _no_tensor(name, "the type %s, which the protocol has no datatype for" % array.dtype)
    items = array.reshape(-1).tolist()
    is_dates = kind == "M" or all(isinstance(item, date) for item in items)
    if kind == "M":
        items = numpy.array(simpler(array), dtype=object).reshape(-1).tolist()
    converted = _of_items(numpy, name, items, array.ndim > 0)
    is_dates = is_dates and bool(items) and None not in converted.array.reshape(-1).tolist()
    return Tensor(converted.array.reshape(array.shape), converted.datatype, is_dates)


def _array(numpy, name, value):
    if isinstance(value, (str, bytes)):
        value = [value]
    if hasattr(value, "detach"):
        value = value.detach()  # a torch tensor with gradients
    try:
        if _has_gaps(value):
            return numpy.array(_listed(value), dtype=object)
        array = numpy.asarray(value)
        if _loses(value, array):
            return numpy.array(value, dtype=object)
        if array.dtype.kind == "M" and array is not value and hasattr(value, "tolist"):
            return _of_objects(numpy, value.tolist())  # pandas, which gives Python's dates
        return array
    except Exception as error:  # of any library
        raise NotEncodable(
            "predict() returned an output %s that is no tensor: %s" % (name, describe(error))
        ) from error


def _loses(value, array):
    """Whether elements would lose something in the array, or become texts because one is a text."""
    kind = array.dtype.kind
    if kind == "S":
        return True  # NumPy drops zero bytes at the end
    if type(value) not in (list, tuple):
        return False
    return kind == "U" or (kind == "f" and bool((abs(array) >= _LARGEST_EXACT).any()))


def _has_gaps(value):
    """Whether it marks missing values, which NumPy would replace by whatever is stored there."""
    if hasattr(value, "mask") and hasattr(value, "filled"):
        return bool(value.mask.any())
    if hasattr(value, "isna") and getattr(value.dtype, "kind", "") in ("i", "u"):
        return bool(value.isna().any())
    nulls = getattr(value, "null_count", 0)
    return bool(nulls() if callable(nulls) else nulls)


def _listed(value):
    for method in ("tolist", "to_pylist", "to_list"):
        if hasattr(value, method):
            return getattr(value, method)()
    return list(value)


def _of_items(numpy, name, items, may_be_missing):
    """Python objects, possibly of several types, as a flat Tensor."""
    items = [_item(name, item) for item in items]
    kinds = set(map(type, items))
    has_gaps = type(None) in kinds
    kinds.discard(type(None))
    if has_gaps and not may_be_missing:
        raise _no_tensor(name, "no value: it is None")
    if kinds <= {str, bytes} and (kinds or not has_gaps):
        return Tensor(_of_objects(numpy, items), "BYTES")
    if kinds == {bool} and not has_gaps:
        return Tensor(numpy.array(items, dtype=bool), "BOOL")
    if kinds == {int} and not has_gaps:
        return _of_integers(numpy, name, items)
    if kinds <= {int, float}:
        if any(type(item) is int and abs(item) > _LARGEST_EXACT for item in items):
            raise _no_tensor(name, "integers of many digits beside fractions or missing values")
        return Tensor(numpy.array([numpy.nan if item is None else item for item in items]), "FP64")
    words = {_WORDS.get(kind, "values of type %s" % kind.__name__) for kind in kinds}
    if has_gaps:
        words.add("missing values")
    if len(words) > 1:
        raise _no_tensor(name, "%s: a tensor holds one of these" % " and ".join(sorted(words)))
    raise _no_tensor(name, "%s, which no tensor holds" % words.pop())


def _of_integers(numpy, name, items):
    for datatype in ("INT64", "UINT64"):
        bounds = numpy.iinfo(TYPES[datatype])
        if bounds.min <= min(items) and max(items) <= bounds.max:
            return Tensor(numpy.array(items, dtype=TYPES[datatype]), datatype)
    raise _no_tensor(name, "integers that 64 bits cannot hold")


def _item(name, value):
    """A plain value: bytes and infinities stay what they are; missing values are None."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, float):
        return float(value) if value == value else None
    try:
        converted = plain(value)
    except NotEncodable as error:
        raise _no_tensor(name, "something that has no form: %s" % error) from error
    if isinstance(converted, str):
        return str.__str__(converted)
    if not isinstance(converted, int) or isinstance(converted, bool):
        return converted
    if isinstance(value, (Decimal, Fraction)) and abs(converted) <= _LARGEST_EXACT:
        return float(converted)  # the other elements are fractions
    return int.__int__(converted)


def _seconds(name, array):
    try:
        return array / array.dtype.type(1, "s")
    except TypeError:
        raise _no_tensor(name, "months or years, which have no number of seconds") from None


def _of_objects(numpy, items):
    array = numpy.empty(len(items), dtype=object)
    array[:] = items
    return array


def _no_tensor(name, what):
    return NotEncodable("predict() returned an output %s that has %s" % (name, what))
