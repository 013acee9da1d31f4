"""From a request's body to the data for predict(), and from its result to the response's body.

By content type of the request: JSON is parsed, text is text, .npy a NumPy array, Arrow a table;
anything else is bytes. A request of the Open Inference Protocol is known by its path. What is
parsed here may be compressed. The response has the content type that ``accept`` asks for, else that
of the request, if the result can be written so, else JSON.
"""

from codecs import lookup

from havre_copy import arrays, tables, tensors, wire
from havre_copy.arrays import NPY
from havre_copy.causes import describe
from havre_copy.compression import decompress
from havre_copy.faults import HttpError
from havre_copy.libraries import library
from havre_copy.plain import NotEncodable
from havre_copy.tables import ARROW_FILE, ARROW_STREAM

OPAQUE = (bytes, bytearray, memoryview)

_BINARY = (NPY, ARROW_STREAM, ARROW_FILE)
# Python's codecs for host names: not charsets, and their time grows with the square of the length.
_HOST_NAME_CODECS = ("punycode", "idna")
# Browsers and curl send these by default: predict() would get the text of a form, or JSON as bytes.
_FORMS = (b"application/x-www-form-urlencoded", b"multipart/form-data")
_ANY = (b"", b"*/*", b"application/*")


class Bodies:
    """Reads and writes the bodies of one copy. ``max_body``: bytes, compressed or not;
    ``check(data)``, if given, refuses JSON that does not fit the input schema.
    """

    def __init__(self, codec, max_body, check=None):
        self._codec = codec
        self._max_body = max_body
        self._check = check

    def read(self, request):
        """``(data, encode)``: the data for predict(), and how to write its result.

        ``encode(result)`` returns ``(content type, body, more header lines)``. It raises
        NotEncodable, or HttpError if the client accepts only what the result cannot be.
        Raises HttpError.
        """
        if request.encoding and _is_parsed(request):
            request.body = decompress(request.body, request.encoding, self._max_body)
            request.encoding = b""  # it is read again if the batch that it belongs to fails
        if request.target and not request.stream:
            model = tensors.model_named(request.target)
            if model:
                length = request.header(tensors.JSON_LENGTH)
                return tensors.read(request.body, model, length, self._codec)
        kind = request.content_type
        if kind == wire.JSON:
            data = self._parsed(request.body)
        else:
            kind, charset = _media_type(kind)
            data = self._data(kind, request.body, charset)
        accept = request.accept
        if accept == wire.JSON or (accept in _ANY and kind not in _BINARY):
            return data, self.plain
        return data, _Negotiated(accept, kind, self.plain)

    def plain(self, result):
        """Encode a result for a client that has no preference: bytes as they are, or JSON."""
        if isinstance(result, OPAQUE):
            return wire.BYTES, bytes(result), b""
        return wire.JSON, self._codec.dumps(result), b""

    def _data(self, kind, body, charset):
        if kind == NPY:
            return arrays.read(body)
        if kind in (ARROW_STREAM, ARROW_FILE):
            return tables.read(body, kind)
        if kind in _FORMS:
            raise HttpError(
                415,
                "UnsupportedMediaType",
                "the body came as %s, which is what curl says where nothing is stated: send the "
                "header 'content-type: application/json' with JSON, or 'content-type: "
                "application/octet-stream' if predict() is to get the bytes" % kind.decode("ascii"),
            )
        if kind == b"text/plain":
            return _as_utf_8(body, charset).decode("utf-8")
        if kind == wire.JSON or kind.endswith(b"+json"):
            if charset.lower() not in ("utf-8", "utf8"):
                body = _as_utf_8(body, charset)
            return self._parsed(body)
        return body

    def _parsed(self, body):
        if not body:
            raise _cannot_parse("the body is empty, but its content-type says JSON")
        try:
            data = self._codec.loads(body)
        except (ValueError, RecursionError) as error:
            raise _cannot_parse("the body is not JSON: %s" % describe(error)) from None
        if self._check is not None:
            self._check(data)
        return data


class _Negotiated:
    """Encodes a result for a client that accepts several types, or has sent a binary one."""

    def __init__(self, accept, kind, plain):
        self._accept = accept
        self._choices = choices(accept, kind)
        self._plain = plain

    def __call__(self, result):
        for kind, is_requested in self._choices:
            if kind == wire.JSON:
                return self._plain(result)
            body = _binary(result, kind, is_requested)
            if body is not None:
                return kind, body, b""
        raise HttpError(
            406,
            "NotAcceptable",
            "predict() returned a result of type %s, which cannot be sent as %s: accept JSON, too"
            % (type(result).__name__, self._accept.decode("ascii", "replace")),
        )


def choices(accept, kind):
    """``[(content type, whether requested by name), …]`` to try, best first. Pure.

    A client that accepts anything gets what it sent, or else JSON. A type that is none of ours
    counts as JSON.
    """
    ranges = []
    for part in accept.split(b","):
        name, _, parameters = part.partition(b";")
        ranges.append((_quality(parameters), name.strip().lower()))
    ranges.sort(key=lambda entry: -entry[0])  # stable: equals stay in the client's order
    types = []
    for quality, name in ranges:
        if quality <= 0:
            continue
        if name in _BINARY:
            types.append((name, True))
        elif name in _ANY and kind in _BINARY:
            types += [(kind, False), (wire.JSON, False)]
        else:
            types.append((wire.JSON, False))
    return types or [(wire.JSON, False)]


def _quality(parameters):
    for parameter in parameters.split(b";"):
        name, _, stated = parameter.partition(b"=")
        if name.strip().lower() == b"q":
            try:
                return float(stated)
            except ValueError:
                return 1.0
    return 1.0


def _binary(result, kind, is_requested):
    """The result in a binary format, or None if it has none."""
    if kind != NPY:
        return tables.write(result, kind, is_requested=is_requested)
    # A model that returns an array has imported NumPy.
    numpy = library("numpy", kind)
    if isinstance(result, numpy.ndarray):
        return arrays.write(result)
    if not is_requested:
        return None
    try:
        return arrays.write(numpy.asarray(result))
    except Exception as error:  # of any library; also lists of different lengths
        raise NotEncodable(
            "predict() returned a result of type %s that is no array: %s"
            % (type(result).__name__, describe(error))
        ) from error


def _is_parsed(request):
    """Whether its body is parsed here; if predict() gets bytes, they stay as they were sent."""
    kind = _media_type(request.content_type)[0]
    is_text = kind in (wire.JSON, b"text/plain") or kind.endswith(b"+json")
    return is_text or kind in _BINARY or bool(tensors.model_named(request.target))


def _media_type(value):
    """Type in lower case and charset of a content-type."""
    kind, _, parameters = value.partition(b";")
    charset = "utf-8"
    for parameter in parameters.split(b";"):
        name, _, stated = parameter.partition(b"=")
        if name.strip().lower() == b"charset":
            charset = stated.strip().strip(b'"').decode("ascii", "replace")
    return kind.strip().lower(), charset


def _as_utf_8(body, charset):
    """The body as UTF-8."""
    try:
        if lookup(charset).name in _HOST_NAME_CODECS:
            raise LookupError
        return body.decode(charset).encode("utf-8")
    except (LookupError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            why = "the body is not %s text: byte %d is %#04x" % (
                charset,
                error.start,
                error.object[error.start],
            )
        elif isinstance(error, UnicodeError):
            why = "the body is not %s text" % charset
        else:
            why = "the charset %s of its content-type is not known: send utf-8" % charset[:60]
        raise _cannot_parse(why) from None


def _cannot_parse(message):
    return HttpError(400, "CannotParseRequest", message)
