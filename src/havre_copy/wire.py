"""The HTTP/1.1 that the load balancer speaks to a copy: one request at a time.

A request has a content-length, or is refused; heads are bounded; a peer that stalls is dropped
(``request_queue.limit_stalls``).
"""

from socket import MSG_NOSIGNAL, SHUT_WR, SO_RCVTIMEO, SOL_SOCKET
from struct import pack
from time import monotonic

from havre_copy.faults import HttpError
from havre_copy.request_queue import ENDING, READ_STALL_S

HEAD_LIMIT = 64 * 1024
DISCARD_S = 1
DISCARD_BYTES = 16 * 1024 * 1024
_DISCARD_STALL = pack("ll", DISCARD_S, 0)
_SENT_AT_ONCE = 64 * 1024  # bytes; copying more costs more than another call
_MAX_ID_LENGTH = 200
_UNPRINTABLE = bytes(byte for byte in range(256) if not 32 <= byte < 127)

JSON = b"application/json"
BYTES = b"application/octet-stream"
EVENTS = b"text/event-stream"

_ID = b"\r\nopc-request-id:"
_MAX_CACHED_HEADS = 256
_MAX_CACHED_BYTES = 2048

# The load balancer sets it once it has verified the request's signature.
_DIGEST = b"\r\nx-havre-body-sha256:"
_TARGET = b"\r\nx-havre-path:"

_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    406: b"Not Acceptable",
    409: b"Conflict",
    411: b"Length Required",
    413: b"Payload Too Large",
    415: b"Unsupported Media Type",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
}


class Request:
    """One request. ``content_type`` is as sent; ``id`` is printable ASCII or empty.

    ``accept`` is as sent, and so is ``encoding``, the content-encoding; ``target`` is the path that
    the client has requested, where the load balancer has rewritten it. ``digest`` is the signed
    hash of the body, base64; empty where there is no signature.
    ``is_last``: the connection ends with its response. ``predict_ns``: time in predict(), None
    before; of a stream, until its first part.
    """

    __slots__ = ("stream", "content_type", "accept", "target", "id", "body", "is_read", "is_last")
    __slots__ += ("encoding", "digest", "predict_ns", "_head")

    def header(self, name):
        """Value of a header named in lower case, ``b""`` if absent."""
        return _value(self._head, self._head.lower(), b"\r\n" + name + b":")


class Wire:
    """One copy's side of the wire.

    ``name``, and the microseconds in predict() after a slash, go out as ``x-havre-copy``.
    """

    def __init__(self, name, max_body, claims):
        self._max_body = max_body
        self._claims = claims
        self._name = b"x-havre-copy: %s/" % name.encode("ascii", "replace")
        self._ok = {kind: self._head(200, kind) for kind in (JSON, BYTES)}
        # Parsed heads of earlier requests: most heads differ in their id only.
        self._parsed_heads = {}

    def receive(self, connection, data, request):
        """Read one request, which begins with ``data``; False if the peer went away or stalled.

        Raises HttpError, after which the caller must still send a response; what could be read by
        then (its id, above all) is in ``request``.
        """
        request.stream = request.is_read = False
        request.is_last = True
        request.predict_ns = None
        request.id = request.body = request.digest = b""
        request.content_type = request.accept = request.target = request.encoding = b""
        try:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                data = _rest_of_head(connection, data)
                if data is None:
                    return False
                end = data.find(b"\r\n\r\n")
            request._head = head = data[:end]
            at = head.find(_ID)
            if at >= 0:
                stop = head.find(b"\r\n", at + 2)
                request_id = head[at + len(_ID) : stop if stop >= 0 else end]
                request.id = _printable(request_id)
                key = head[:at] + head[stop:] if stop >= 0 else head[:at]
            else:
                key = head
            parsed = self._parsed_heads.get(key)
            if parsed is None:
                parsed = self._read_head(key, head, request)
            (
                request.stream,
                length,
                request.content_type,
                request.accept,
                request.target,
                request.encoding,
                is_last,
                request.digest,
            ) = parsed
            body = data[end + 4 :]
            if len(body) != length:
                if len(body) < length:
                    body = _rest_of_body(connection, body, length)
                    if body is None:
                        return False
                else:
                    # The bytes beyond it would be lost: the connection cannot be used again.
                    body = body[:length]
                    is_last = True
            request.body = body
            request.is_last = is_last
            request.is_read = True
        except OSError:  # reset, or stalled: SO_RCVTIMEO reports as EAGAIN
            return False
        return True

    def _read_head(self, key, head, request):
        """``(stream, length, content type, accept, target, encoding, is last, digest)``.

        Raises HttpError.
        """
        lower = head.lower()
        if not request.id:
            request.id = _printable(_value(head, lower, _ID))
        stream = _asks_for_stream(head)
        length = _length(head, lower)
        if length > self._max_body:
            raise HttpError(
                413,
                "PayloadTooLarge",
                "the body has %d bytes; at most %d are taken" % (length, self._max_body),
            )
        digest = _value(head, lower, _DIGEST) if _DIGEST in lower else b""
        parsed = (
            stream,
            length,
            _value(head, lower, b"\r\ncontent-type:"),
            _value(head, lower, b"\r\naccept:"),
            _value(head, lower, _TARGET),
            _value(head, lower, b"\r\ncontent-encoding:"),
            _asks_to_close(head, lower),
            digest,
        )
        if _ID in key.lower() or digest or len(key) > _MAX_CACHED_BYTES:
            return parsed  # an id in other letters, or a signature: no two such heads are equal
        if len(self._parsed_heads) >= _MAX_CACHED_HEADS:
            self._parsed_heads.clear()
        self._parsed_heads[key] = parsed
        return parsed

    def respond(self, connection, kind, body, request, more=b""):
        """Send a 200. ``more``: lines of the head. Raises OSError if the peer is gone."""
        head = self._ok.get(kind) or self._head(200, kind)
        self._send(connection, head + more, body, request)

    def send_error(self, connection, status, body, request):
        """Send a response that is not a prediction; the rest of the request is discarded.

        Closing with unread input would reset the connection and lose the response.
        """
        self._send(connection, self._head(status, JSON), body, request)
        if request.is_read:
            return
        connection.shutdown(SHUT_WR)
        connection.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _DISCARD_STALL)
        deadline = monotonic() + DISCARD_S
        left = DISCARD_BYTES
        while left > 0 and monotonic() < deadline:
            read = len(connection.recv(HEAD_LIMIT))
            if not read:
                return
            left -= read

    def begin_stream(self, connection, kind, request):
        """Send the head of a chunked response. Raises OSError if the peer is gone."""
        head = self._head(200, kind) + b"transfer-encoding: chunked\r\ntrailer: StreamFailure\r\n"
        connection.sendall(head + self._common_headers(request) + b"\r\n", MSG_NOSIGNAL)

    def chunk(self, connection, data):
        """Send a part; an empty one would end the stream, so it is not sent."""
        if data:
            connection.sendall(b"%x\r\n%s\r\n" % (len(data), data), MSG_NOSIGNAL)

    def end_stream(self, connection, failure=""):
        """End the stream; a failure is sent in the trailer that the head has announced."""
        trailer = b""
        if failure:
            text = failure.encode("ascii", "backslashreplace")
            trailer = b"StreamFailure: %s\r\n" % b" ".join(text.split())
        connection.sendall(b"0\r\n%s\r\n" % trailer, MSG_NOSIGNAL)

    def _head(self, status, kind):
        return b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\n" % (status, _REASONS[status], kind)

    def _common_headers(self, request):
        """Headers of every response: the request's id, the copy, whether the connection ends."""
        if self._claims[ENDING]:
            request.is_last = True
        ending = b"connection: close\r\n" if request.is_last else b""
        duration = b"" if request.predict_ns is None else b"%d" % (request.predict_ns // 1000)
        if not request.id:
            return b"%s%s\r\n%s" % (self._name, duration, ending)
        return b"%s%s\r\nopc-request-id: %s\r\n%s" % (self._name, duration, request.id, ending)

    def _send(self, connection, head, body, request):
        head = b"%s%scontent-length: %d\r\n\r\n" % (head, self._common_headers(request), len(body))
        if len(body) < _SENT_AT_ONCE:
            connection.sendall(head + body, MSG_NOSIGNAL)
            return
        connection.sendall(head, MSG_NOSIGNAL)
        connection.sendall(body, MSG_NOSIGNAL)


def _value(head, lower, key):
    start = lower.find(key)
    if start < 0:
        return b""
    stop = head.find(b"\r\n", start + 2)
    return head[start + len(key) : stop if stop >= 0 else len(head)].strip()


def _printable(request_id):
    """The id without what is not safe to log and to send back; bounded."""
    return request_id.strip()[:_MAX_ID_LENGTH].translate(None, _UNPRINTABLE)


def _asks_to_close(head, lower):
    """The load balancer never does; but other clients may use a copy's socket, too."""
    return b"\r\nconnection: close" in lower or head.startswith(b"HTTP/1.0", head.find(b"\r\n") - 8)


def _length(head, lower):
    text = _value(head, lower, b"\r\ncontent-length:")
    if not text:
        if b"\r\ncontent-length:" in lower:
            raise HttpError(400, "InvalidParameter", "content-length must be a number of bytes")
        raise HttpError(411, "LengthRequired", "the request must state its content-length")
    if not text.isdigit() or len(text) > 18:
        raise HttpError(400, "InvalidParameter", "content-length must be a number of bytes")
    if b"\r\ntransfer-encoding:" in lower or lower.count(b"\r\ncontent-length:") > 1:
        raise HttpError(400, "InvalidParameter", "the request states its length more than once")
    return int(text)


def _asks_for_stream(head):
    line = head.split(b"\r\n", 1)[0].split(b" ")
    if len(line) != 3 or not line[2].startswith(b"HTTP/1."):
        raise HttpError(400, "InvalidParameter", "the request is not HTTP/1.1")
    if line[0] != b"POST":
        raise HttpError(405, "MethodNotAllowed", "a prediction is asked for with POST")
    path = line[1].split(b"?", 1)[0]
    # Suffixes may follow, and a prefix may stand before the deployment's id.
    at = path.find(b"/predict")
    if at < 0:
        raise HttpError(404, "NotAuthorizedOrNotFound", "predictions are made at /predict")
    return path.startswith(b"/predictWithResponseStream", at)


def _rest_of_head(connection, data):
    deadline = monotonic() + READ_STALL_S
    while data.find(b"\r\n\r\n") < 0:
        if len(data) >= HEAD_LIMIT:
            raise HttpError(431, "InvalidParameter", "the request's headers are too large")
        more = connection.recv(HEAD_LIMIT)
        if not more or monotonic() > deadline:
            return None
        data += more
    return data


def _rest_of_body(connection, body, length):
    whole = bytearray(length)
    have = len(body)
    whole[:have] = body
    view = memoryview(whole)
    deadline = monotonic() + READ_STALL_S
    while have < length:
        read = connection.recv_into(view[have:])
        if not read or monotonic() > deadline:
            return None
        have += read
    view.release()
    return bytes(whole)
