"""What a request's body is to predict(), and what predict()'s result is as an answer's body.

By content type of the request: JSON parsed, text as text, a NumPy array, an Arrow table; anything
else as bytes. A request of the Open Inference Protocol is known by its path. The answer has the
form that ``accept`` asks for, else that of the request, if the result can take it, else JSON.
"""

from codecs import lookup

from havre_copy import arrays, tables, tensors, wire
from havre_copy.arrays import NPY
from havre_copy.encoding import NotEncodable
from havre_copy.faults import Refused, describe
from havre_copy.libraries import library
from havre_copy.tables import ARROW_FILE, ARROW_STREAM

OPAQUE = (bytes, bytearray, memoryview)

_BINARY = (NPY, ARROW_STREAM, ARROW_FILE)
# Python's encodings of host names: no charsets, and their time grows with the square of the length.
_OF_NAMES = ("punycode", "idna")
_ANY = (b"", b"*/*", b"application/*")


class Bodies:
    """One copy's reading and writing."""

    def __init__(self, codec):
        self._codec = codec

    def read(self, request):
        """``(data, form)``: what predict() gets, and the way its result is written.

        ``form(result)`` is ``(content type, body, more of the answer's head)``. It raises
        NotEncodable, or Refused where the client takes only what the result cannot be.
        Raises Refused.
        """
        try:
            return self._read(request)
        except Refused as refused:
            encoding = request.header(b"content-encoding").decode("ascii", "replace")
            if refused.status != 400 or encoding.lower() in ("", "identity"):
                raise
            raise _cannot_parse(
                "the body has the content-encoding %s, which is not undone here: send it as it is"
                % encoding
            ) from None

    def _read(self, request):
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
        """The form of a result for a client that asks for none: bytes as they are, or JSON."""
        if isinstance(result, OPAQUE):
            return wire.BYTES, bytes(result), b""
        return wire.JSON, self._codec.dumps(result), b""

    def _data(self, kind, body, charset):
        if kind == NPY:
            return arrays.read(body)
        if kind in (ARROW_STREAM, ARROW_FILE):
            return tables.read(body, kind)
        if kind == b"text/plain":
            return _recoded(body, charset).decode("utf-8")
        if kind == wire.JSON or kind.endswith(b"+json"):
            if charset.lower() not in ("utf-8", "utf8"):
                body = _recoded(body, charset)
            return self._parsed(body)
        return body

    def _parsed(self, body):
        if not body:
            raise _cannot_parse("the body is empty, but its content-type says JSON")
        try:
            return self._codec.loads(body)
        except (ValueError, RecursionError) as error:
            raise _cannot_parse("the body is not JSON: %s" % describe(error)) from None


class _Negotiated:
    """The form for a client that takes several, or sent a binary one."""

    def __init__(self, accept, kind, plain):
        self._accept = accept
        self._choices = choices(accept, kind)
        self._plain = plain

    def __call__(self, result):
        for kind, asked in self._choices:
            if kind == wire.JSON:
                return self._plain(result)
            body = _binary(result, kind, asked)
            if body is not None:
                return kind, body, b""
        raise Refused(
            406,
            "NotAcceptable",
            "predict() returned a result of type %s, which cannot be sent as %s: accept JSON, too"
            % (type(result).__name__, self._accept.decode("ascii", "replace")),
        )


def choices(accept, kind):
    """``[(content type, asked for by name), …]`` that may be tried, best first. Pure.

    A client that takes anything gets what it sent, or else JSON. A type that is none of ours
    stands for JSON.
    """
    ranges = []
    for part in accept.split(b","):
        name, _, parameters = part.partition(b";")
        ranges.append((_quality(parameters), name.strip().lower()))
    ranges.sort(key=lambda one: -one[0])  # stable: equals stay in the client's order
    found = []
    for quality, name in ranges:
        if quality <= 0:
            continue
        if name in _BINARY:
            found.append((name, True))
        elif name in _ANY and kind in _BINARY:
            found += [(kind, False), (wire.JSON, False)]
        else:
            found.append((wire.JSON, False))
    return found or [(wire.JSON, False)]


def _quality(parameters):
    for parameter in parameters.split(b";"):
        name, _, stated = parameter.partition(b"=")
        if name.strip().lower() == b"q":
            try:
                return float(stated)
            except ValueError:
                return 1.0
    return 1.0


def _binary(result, kind, asked):
    """The result in a binary form, or None if it has none."""
    if kind != NPY:
        return tables.write(result, kind, asked=asked)
    # Whoever returns an array has imported NumPy.
    numpy = library("numpy", kind)
    if isinstance(result, numpy.ndarray):
        return arrays.write(result)
    if not asked:
        return None
    try:
        return arrays.write(numpy.asarray(result))
    except Exception as error:  # of their libraries; lists that are no rectangle
        raise NotEncodable(
            "predict() returned a result of type %s that is no array: %s"
            % (type(result).__name__, describe(error))
        ) from error


def _media_type(value):
    """Type in lower case and charset of a content-type."""
    kind, _, parameters = value.partition(b";")
    charset = "utf-8"
    for parameter in parameters.split(b";"):
        name, _, stated = parameter.partition(b"=")
        if name.strip().lower() == b"charset":
            charset = stated.strip().strip(b'"').decode("ascii", "replace")
    return kind.strip().lower(), charset


def _recoded(body, charset):
    """The body as UTF-8."""
    try:
        if lookup(charset).name in _OF_NAMES:
            raise LookupError
        return body.decode(charset).encode("utf-8")
    except (LookupError, UnicodeError):
        raise _cannot_parse("the body is not %s text" % charset) from None


def _cannot_parse(message):
    return Refused(400, "CannotParseRequest", message)
