"""Tensors as bodies: the Open Inference Protocol, version 2, as JSON and with its binary extension.

A request is JSON that names inputs; the data of each stand in it, or follow it as bytes, in the
inputs' order. What is not there: shared memory, classification, raw requests, BF16.
"""

from havre_copy import arrays
from havre_copy.encoding import NotEncodable
from havre_copy.faults import Refused, describe
from havre_copy.libraries import library

JSON_LENGTH = b"inference-header-content-length"
ONLY_OUTPUT = "output-0"  # of a model that does not name its outputs

_JSON = b"application/json"
_BYTES = b"application/octet-stream"
_TYPES = {
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
_NAMES = {layout[1:]: name for name, layout in _TYPES.items()}
# What JSON data may be made of: no text as numbers, no fractions as integers.
_TAKES = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}
_MOST_INPUTS = 1000


def model_named(target):
    """NAME (bytes) of a path ``…/v2/models/NAME[/versions/V]/infer``; empty if it is no such."""
    parts = target.partition(b"?")[0].rstrip(b"/").rsplit(b"/", 6)
    if parts[-1] != b"infer":
        return b""
    if parts[-3:-2] == [b"versions"]:
        parts[-3:] = parts[-1:]
    return parts[-2] if parts[-4:-2] == [b"v2", b"models"] else b""


def read(body, model, json_length, codec):
    """``(data, form)`` of an inference request to the ``model`` of that name (bytes).

    ``data`` is the array if there is one input, else a dict of arrays by the inputs' names. All are
    predict()'s own: writable. ``json_length`` is the header of that name, ``b""`` if absent.
    Raises Refused.
    """
    numpy = library("numpy", b"the Open Inference Protocol")
    text, binary = _split(body, json_length)
    try:
        request = codec.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused("it is not JSON: %s" % describe(error)) from None
    _expect(type(request) is dict, "it is no JSON object")
    inputs = _objects(request, "inputs")
    _expect(inputs, "it has no inputs")
    data = {}
    for one in inputs:
        name = one.get("name")
        _expect(type(name) is str and name not in data, "each input needs a name of its own")
        data[name], binary = _input(numpy, name, one, binary)
    _expect(not binary, "%d bytes follow the last input" % len(binary))
    form = Form(request, model.decode("ascii", "replace"), codec)
    return (data if len(data) > 1 else data[name]), form


class Form:
    """How the answer is written: which outputs, and which of them as bytes."""

    def __init__(self, request, model, codec):
        self._model = model
        self._codec = codec
        self._id = request.get("id")
        self._as_bytes = _parameter(request, "binary_data_output", False) is True
        self._wanted = {}
        for one in _objects(request, "outputs"):
            name = one.get("name")
            _expect(type(name) is str, "each output needs a name")
            _expect(not _parameter(one, "classification", 0), "classification is not offered here")
            as_bytes = _parameter(one, "binary_data", self._as_bytes)
            self._wanted[name] = as_bytes is True

    def __call__(self, result):
        """``(content type, body, more of the head)``. Raises NotEncodable, or Refused."""
        numpy = library("numpy", b"the Open Inference Protocol")
        outputs = []
        chunks = []
        for name, value, as_bytes in self._chosen(result):
            array, datatype = _tensor(numpy, name, value)
            described = {"name": name, "datatype": datatype, "shape": list(array.shape)}
            if as_bytes:
                chunk = _packed(array, datatype)
                chunks.append(chunk)
                described["parameters"] = {"binary_data_size": len(chunk)}
            else:
                flat = array.reshape(-1).tolist()
                described["data"] = _texts(name, flat) if datatype == "BYTES" else flat
            outputs.append(described)
        answer = {"model_name": self._model, "outputs": outputs}
        if type(self._id) is str:
            answer["id"] = self._id
        text = self._codec.dumps(answer)
        if not chunks:
            return _JSON, text, b""
        length = b"%s: %d\r\n" % (JSON_LENGTH, len(text))
        return _BYTES, b"".join([text] + chunks), length

    def _chosen(self, result):
        """Name, value and whether as bytes, of each output that is sent."""
        if not isinstance(result, dict):
            only = next(iter(self._wanted)) if len(self._wanted) == 1 else ONLY_OUTPUT
            result = {only: result}
        if not self._wanted:
            return [(str(name), value, self._as_bytes) for name, value in result.items()]
        there = {str(name): value for name, value in result.items()}
        for name in self._wanted:
            if name not in there:
                raise Refused(
                    400,
                    "InvalidParameter",
                    "the model has no output %s; it has: %s" % (name, ", ".join(there)),
                )
        return [(name, there[name], as_bytes) for name, as_bytes in self._wanted.items()]


def _split(body, json_length):
    if not json_length:
        return body, b""
    _expect(
        json_length.isdigit() and len(json_length) < 10 and 0 < int(json_length) <= len(body),
        "inference-header-content-length must be the length of the JSON at its beginning",
    )
    at = int(json_length)
    return body[:at], memoryview(body)[at:]


def _input(numpy, name, described, binary):
    """The array of one input, and the bytes that are left for the others."""
    datatype = described.get("datatype")
    _expect(
        type(datatype) is str and (datatype == "BYTES" or datatype in _TYPES),
        "input %s: the datatype must be BYTES or one of %s" % (name, ", ".join(_TYPES)),
    )
    shape = described.get("shape")
    _expect(
        type(shape) is list and all(type(length) is int and length >= 0 for length in shape),
        "input %s: the shape must be a list of lengths" % name,
    )
    count = 1
    for length in shape:
        count *= length
    _expect(
        _parameter(described, "shared_memory_region", None) is None,
        "input %s: shared memory is not offered here" % name,
    )
    size = _parameter(described, "binary_data_size", None)
    if size is None:
        array = _from_json(numpy, name, described.get("data"), datatype)
    else:
        _expect(
            type(size) is int and 0 <= size <= len(binary),
            "input %s: binary_data_size must be a number of bytes that are there" % name,
        )
        array = _from_bytes(numpy, name, binary[:size], datatype, count)
        binary = binary[size:]
    _expect(
        array.size == count,
        "input %s: a shape of %s has %d elements, not %d" % (name, shape, count, array.size),
    )
    try:
        return array.reshape(shape), binary
    except (ValueError, OverflowError) as error:
        raise _refused("input %s: %s" % (name, error)) from None


def _from_bytes(numpy, name, chunk, datatype, count):
    if datatype == "BYTES":
        return _of_objects(numpy, _unpacked(name, chunk))
    dtype = numpy.dtype(_TYPES[datatype])
    _expect(
        len(chunk) == count * dtype.itemsize,
        "input %s: %d elements of %s are %d bytes, not %d"
        % (name, count, datatype, count * dtype.itemsize, len(chunk)),
    )
    return arrays.owned(numpy.ndarray((count,), dtype, chunk))


def _from_json(numpy, name, data, datatype):
    _expect(type(data) is list, "input %s: data must be a list" % name)
    kinds = set(map(type, data))
    if list in kinds:
        data = _flat(data)
        kinds = set(map(type, data))
    if datatype == "BYTES":
        _expect(kinds <= {str}, "input %s: BYTES must be texts in JSON" % name)
        return _of_objects(numpy, [text.encode("utf-8", "surrogatepass") for text in data])
    dtype = numpy.dtype(_TYPES[datatype]).newbyteorder("=")
    fits = kinds <= _TAKES[dtype.kind]
    if fits and data and dtype.kind in "iu":
        bounds = numpy.iinfo(dtype)
        fits = bounds.min <= min(data) and max(data) <= bounds.max
    _expect(fits, "input %s: its data are not all %s" % (name, datatype))
    try:
        return numpy.array(data, dtype=dtype)
    except (ValueError, OverflowError) as error:  # an integer beyond all floats
        raise _refused("input %s: %s" % (name, describe(error))) from None


def _tensor(numpy, name, value):
    """A value as an array, and its datatype."""
    if isinstance(value, (str, bytes)):
        value = [value]
    try:
        array = numpy.asarray(value)
        if array.dtype.kind == "S":
            array = numpy.array(value, dtype=object)  # the other kind drops zeros at the end
    except Exception as error:  # of their libraries
        raise NotEncodable(
            "predict() returned an output %s that is no tensor: %s" % (name, describe(error))
        ) from error
    datatype = _NAMES.get(array.dtype.str[1:])
    if datatype is None and array.dtype.kind in "UO":
        if all(isinstance(item, (str, bytes)) for item in array.reshape(-1).tolist()):
            datatype = "BYTES"
    if datatype is None:
        raise NotEncodable(
            "predict() returned an output %s of %s, which the protocol has no datatype for"
            % (name, array.dtype)
        )
    return array, datatype


def _packed(array, datatype):
    if datatype != "BYTES":
        return array.astype(_TYPES[datatype], copy=False).tobytes()
    parts = []
    for item in array.reshape(-1).tolist():
        item = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item
        parts.append(len(item).to_bytes(4, "little") + item)
    return b"".join(parts)


def _unpacked(name, chunk):
    """Texts that each follow their length."""
    found = []
    at = 0
    while at < len(chunk):
        length = int.from_bytes(chunk[at : at + 4], "little")
        _expect(at + 4 + length <= len(chunk), "input %s: its last text is cut short" % name)
        found.append(bytes(chunk[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def _texts(name, items):
    try:
        return [item if isinstance(item, str) else item.decode("utf-8") for item in items]
    except UnicodeDecodeError:
        raise NotEncodable(
            "predict() returned bytes as output %s, which JSON cannot hold: ask for binary data"
            % name
        ) from None


def _of_objects(numpy, items):
    array = numpy.empty(len(items), dtype=object)
    array[:] = items
    return array


def _flat(data):
    """The elements of nested lists, in order. Not by recursion: the depth is a stranger's."""
    flat = []
    waiting = [iter(data)]
    while waiting:
        for item in waiting[-1]:
            if type(item) is list:
                waiting.append(iter(item))
                break
            flat.append(item)
        else:
            waiting.pop()
    return flat


def _objects(request, key):
    value = request.get(key, [])
    _expect(
        type(value) is list
        and len(value) <= _MOST_INPUTS
        and all(type(one) is dict for one in value),
        "%s must be a list of at most %d objects" % (key, _MOST_INPUTS),
    )
    return value


def _parameter(described, name, default):
    parameters = described.get("parameters", {})
    _expect(type(parameters) is dict, "parameters must be an object")
    return parameters.get(name, default)


def _expect(condition, what):
    if not condition:
        raise _refused(what)


def _refused(what):
    return Refused(400, "CannotParseRequest", "the body is no inference request: %s" % what)
