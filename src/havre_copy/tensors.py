"""Tensors as bodies: the Open Inference Protocol, version 2, as JSON and with its binary extension.

A request is JSON that names inputs; the data of each are in it, or follow it as bytes, in the
inputs' order. Not supported: shared memory, classification, raw requests, BF16.
"""

from havre_copy import arrays
from havre_copy.causes import describe
from havre_copy.faults import HttpError
from havre_copy.libraries import library
from havre_copy.result_tensors import TYPES, named, tensor

JSON_LENGTH = b"inference-header-content-length"
ONLY_OUTPUT = "output-0"  # of a model that does not name its outputs

_JSON = b"application/json"
_BYTES = b"application/octet-stream"
# Python types that JSON data may have: no text as numbers, no fractions as integers. Other servers
# and their clients write NaN as null, and booleans as 0 and 1.
_TAKES = {"b": {bool, int}, "u": {int}, "i": {int}, "f": {int, float, type(None)}}
_MAX_INPUTS = 1000


def model_named(target):
    """NAME (bytes) of a path ``…/v2/models/NAME[/versions/V]/infer``; empty for other paths."""
    parts = target.partition(b"?")[0].rstrip(b"/").rsplit(b"/", 6)
    if parts[-1] != b"infer":
        return b""
    if parts[-3:-2] == [b"versions"]:
        parts[-3:] = parts[-1:]
    return parts[-2] if parts[-4:-2] == [b"v2", b"models"] else b""


def read(body, model, json_length, codec):
    """``(data, encode)`` of an inference request to the ``model`` of that name (bytes).

    ``data`` is the array if there is one input, else a dict of arrays by the inputs' names. All are
    predict()'s own: writable. ``json_length`` is the header of that name, ``b""`` if absent.
    Raises HttpError.
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
    for entry in inputs:
        name = entry.get("name")
        _expect(type(name) is str and name not in data, "each input needs a name of its own")
        data[name], binary = _input(numpy, name, entry, binary)
    _expect(not binary, "%d bytes follow the last input" % len(binary))
    encode = TensorEncoder(request, model.decode("ascii", "replace"), codec)
    return (data if len(data) > 1 else data[name]), encode


class TensorEncoder:
    """Encodes the result: which outputs, and which of them as bytes."""

    def __init__(self, request, model, codec):
        self._model = model
        self._codec = codec
        self._id = request.get("id")
        self._as_bytes = _parameter(request, "binary_data_output", False) is True
        self._requested = {}
        for entry in _objects(request, "outputs"):
            name = entry.get("name")
            _expect(type(name) is str, "each output needs a name")
            _expect(not _parameter(entry, "classification", 0), "classification is not supported")
            as_bytes = _parameter(entry, "binary_data", self._as_bytes)
            self._requested[name] = as_bytes is True

    def __call__(self, result):
        """``(content type, body, more header lines)``. Raises NotEncodable, or HttpError."""
        numpy = library("numpy", b"the Open Inference Protocol")
        outputs = []
        chunks = []
        for name, value, as_bytes in self._chosen(result):
            output = tensor(numpy, name, value)
            shape = list(output.array.shape)
            described = {"name": name, "datatype": output.datatype, "shape": shape}
            parameters = {"content_type": "datetime"} if output.is_dates else {}
            if as_bytes:
                chunks.append(output.packed(name))
                parameters["binary_data_size"] = len(chunks[-1])
            else:
                described["data"] = output.listed(name)
            if parameters:
                described["parameters"] = parameters
            outputs.append(described)
        response = {"model_name": self._model, "outputs": outputs}
        if type(self._id) is str:
            response["id"] = self._id
        text = self._codec.dumps(response)
        if not chunks:
            return _JSON, text, b""
        length = b"%s: %d\r\n" % (JSON_LENGTH, len(text))
        return _BYTES, b"".join([text] + chunks), length

    def _chosen(self, result):
        """``[(name, value, whether as bytes), …]`` of the outputs to send."""
        results = named(result)
        if results is None:
            only = next(iter(self._requested)) if len(self._requested) == 1 else ONLY_OUTPUT
            results = [(only, result)]
        if not self._requested:
            return [(name, value, self._as_bytes) for name, value in results]
        by_name = dict(results)
        for name in self._requested:
            if name not in by_name:
                raise HttpError(
                    400,
                    "InvalidParameter",
                    "the model has no output %s; it has: %s" % (name, ", ".join(by_name)),
                )
        return [(name, by_name[name], as_bytes) for name, as_bytes in self._requested.items()]


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
    """The array of one input, and the bytes that remain for the others."""
    datatype = described.get("datatype")
    _expect(
        type(datatype) is str and (datatype == "BYTES" or datatype in TYPES),
        "input %s: the datatype must be BYTES or one of %s" % (name, ", ".join(TYPES)),
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
        "input %s: shared memory is not supported" % name,
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
    dtype = numpy.dtype(TYPES[datatype])
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
        _expect(kinds <= {str, type(None)}, "input %s: BYTES must be texts in JSON" % name)
        texts = [None if text is None else text.encode("utf-8", "surrogatepass") for text in data]
        return _of_objects(numpy, texts)
    dtype = numpy.dtype(TYPES[datatype]).newbyteorder("=")
    fits = kinds <= _TAKES[dtype.kind]
    if fits and dtype.kind == "b" and int in kinds:
        fits = set(data) <= {0, 1}
    if fits and data and dtype.kind in "iu":
        bounds = numpy.iinfo(dtype)
        fits = bounds.min <= min(data) and max(data) <= bounds.max
    _expect(fits, "input %s: its data are not all %s" % (name, datatype))
    try:
        return numpy.array(data, dtype=dtype)
    except (ValueError, OverflowError) as error:  # an integer beyond all floats
        raise _refused("input %s: %s" % (name, describe(error))) from None


def _unpacked(name, chunk):
    """Texts, each preceded by its length."""
    texts = []
    at = 0
    while at < len(chunk):
        length = int.from_bytes(chunk[at : at + 4], "little")
        _expect(at + 4 + length <= len(chunk), "input %s: its last text is cut short" % name)
        texts.append(bytes(chunk[at + 4 : at + 4 + length]))
        at += 4 + length
    return texts


def _of_objects(numpy, items):
    array = numpy.empty(len(items), dtype=object)
    array[:] = items
    return array


def _flat(data):
    """The elements of nested lists, in order. Not by recursion: a client chooses the depth."""
    flat = []
    pending = [iter(data)]
    while pending:
        for item in pending[-1]:
            if type(item) is list:
                pending.append(iter(item))
                break
            flat.append(item)
        else:
            pending.pop()
    return flat


def _objects(request, key):
    value = request.get(key)
    value = [] if value is None else value  # MLServer's client sends null for nothing
    _expect(
        type(value) is list
        and len(value) <= _MAX_INPUTS
        and all(type(entry) is dict for entry in value),
        "%s must be a list of at most %d objects" % (key, _MAX_INPUTS),
    )
    return value


def _parameter(described, name, default):
    parameters = described.get("parameters")
    parameters = {} if parameters is None else parameters
    _expect(type(parameters) is dict, "parameters must be an object")
    value = parameters.get(name)
    return default if value is None else value


def _expect(condition, what):
    if not condition:
        raise _refused(what)


def _refused(what):
    return HttpError(400, "CannotParseRequest", "the body is no inference request: %s" % what)
