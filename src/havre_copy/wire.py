"""The HTTP/1.1 that the load balancer speaks to a copy: one request per connection.

Nothing else knows that, so another way of carrying requests changes this module only.
A request has a content-length, or is refused; heads are bounded; a peer that stalls is dropped.
"""

from socket import MSG_NOSIGNAL, SHUT_WR, SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET
from struct import pack
from time import monotonic

from havre_copy.faults import Refused

HEAD_LIMIT = 64 * 1024
READ_STALL_S = 10  # a peer that sends nothing for so long is gone
WRITE_STALL_S = 30  # one that reads nothing of its answer for so long, too
DISCARD_S = 1
DISCARD_BYTES = 16 * 1024 * 1024
_READ_STALL = pack("ll", READ_STALL_S, 0)
_WRITE_STALL = pack("ll", WRITE_STALL_S, 0)
_DISCARD_STALL = pack("ll", DISCARD_S, 0)
# What the kernel takes at once from a fresh Unix socket: such an answer never waits for its reader.
_NEVER_WAITS = 64 * 1024
_LONGEST_ID = 200

JSON = b"application/json"
BYTES = b"application/octet-stream"
EVENTS = b"text/event-stream"

# The load balancer sets it once it has verified the request's signature.
_DIGEST = b"\r\nx-havre-body-sha256:"

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

    ``digest`` is what the signed hash of the body says, base64; empty where none was asked for.
    """

    __slots__ = ("stream", "content_type", "id", "body", "is_read", "digest", "_head", "_lower")

    def header(self, name):
        """Value of a header named in lower case, ``b""`` if absent."""
        return _value(self._head, self._lower, b"\r\n" + name + b":")


class Wire:
    """One copy's side of the wire; ``name`` goes out as ``x-havre-copy``."""

    def __init__(self, name, max_body):
        self._max_body = max_body
        self._common = b"x-havre-copy: %s\r\nconnection: close\r\n" % name.encode(
            "ascii", "replace"
        )
        self._ok = {kind: self._head(200, kind) for kind in (JSON, BYTES)}

    def receive(self, connection, request):
        """Read one request into ``request``; False if the peer went away or stalled.

        Raises Refused, after which the caller still owes the peer an answer; what could be read by
        then (its id, above all) is in ``request``.
        """
        request.stream = request.is_read = False
        request.content_type = request.id = request.body = b""
        try:
            connection.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _READ_STALL)
            data = connection.recv(HEAD_LIMIT)
            end = data.find(b"\r\n\r\n")
            if end < 0:
                data = _rest_of_head(connection, data)
                if data is None:
                    return False
                end = data.find(b"\r\n\r\n")
            request._head = head = data[:end]
            request._lower = lower = head.lower()
            identity = _value(head, lower, b"\r\nopc-request-id:")
            if identity:
                request.id = _printable(identity)
            _read_target(head, request)
            length = _length(head, lower)
            if length > self._max_body:
                raise Refused(
                    413,
                    "PayloadTooLarge",
                    "the body has %d bytes; at most %d are taken" % (length, self._max_body),
                )
            request.content_type = _value(head, lower, b"\r\ncontent-type:")
            body = data[end + 4 : end + 4 + length]
            if len(body) < length:
                body = _rest_of_body(connection, body, length)
                if body is None:
                    return False
            request.body = body
            request.is_read = True
            request.digest = _value(head, lower, _DIGEST) if _DIGEST in lower else b""
        except OSError:  # reset, or stalled: SO_RCVTIMEO reports as EAGAIN
            return False
        return True

    def answer(self, connection, kind, body, request_id, more=b""):
        """Send a 200. ``more``: lines of the head. Raises OSError if the peer is gone."""
        head = self._ok.get(kind) or self._head(200, kind)
        self._send(connection, head + more, body, request_id)

    def refuse(self, connection, status, body, request):
        """Send an answer that is not a prediction; a request still coming in is read past.

        Closing with unread input would reset the connection under the answer.
        """
        self._send(connection, self._head(status, JSON), body, request.id)
        if request.is_read:
            return
        connection.shutdown(SHUT_WR)
        connection.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _DISCARD_STALL)
        give_up = monotonic() + DISCARD_S
        left = DISCARD_BYTES
        while left > 0 and monotonic() < give_up:
            read = len(connection.recv(HEAD_LIMIT))
            if not read:
                return
            left -= read

    def begin_stream(self, connection, kind, request_id):
        """Send the head of a chunked answer. Raises OSError if the peer is gone."""
        connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _WRITE_STALL)
        head = self._head(200, kind) + b"transfer-encoding: chunked\r\ntrailer: StreamFailure\r\n"
        connection.sendall(head + _identity(request_id) + b"\r\n", MSG_NOSIGNAL)

    def chunk(self, connection, data):
        """Send a part; an empty one would end the stream, so it is not sent."""
        if data:
            connection.sendall(b"%x\r\n%s\r\n" % (len(data), data), MSG_NOSIGNAL)

    def end_stream(self, connection, failure=""):
        """End the stream; a failure is told in the trailer that the head announced."""
        trailer = b""
        if failure:
            text = failure.encode("ascii", "backslashreplace")
            trailer = b"StreamFailure: %s\r\n" % b" ".join(text.split())
        connection.sendall(b"0\r\n%s\r\n" % trailer, MSG_NOSIGNAL)

    def _head(self, status, kind):
        return b"HTTP/1.1 %d %s\r\n%scontent-type: %s\r\n" % (
            status,
            _REASONS[status],
            self._common,
            kind,
        )

    def _send(self, connection, head, body, request_id):
        if request_id:
            head += _identity(request_id)
        if len(body) < _NEVER_WAITS:
            message = b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body)
            connection.sendall(message, MSG_NOSIGNAL)
            return
        connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _WRITE_STALL)
        connection.sendall(b"%scontent-length: %d\r\n\r\n" % (head, len(body)), MSG_NOSIGNAL)
        connection.sendall(body, MSG_NOSIGNAL)


def _value(head, lower, key):
    start = lower.find(key)
    if start < 0:
        return b""
    stop = head.find(b"\r\n", start + 2)
    return head[start + len(key) : stop if stop >= 0 else len(head)].strip()


def _identity(request_id):
    return b"opc-request-id: %s\r\n" % request_id if request_id else b""


def _printable(identity):
    """The id if it is safe to log and to send back, else its safe characters; bounded."""
    identity = identity[:_LONGEST_ID]
    if identity.isalnum():
        return identity
    return bytes(byte for byte in identity if 32 <= byte < 127)


def _length(head, lower):
    text = _value(head, lower, b"\r\ncontent-length:")
    if not text:
        if b"\r\ncontent-length:" in lower:
            raise Refused(400, "InvalidParameter", "content-length must be a number of bytes")
        raise Refused(411, "LengthRequired", "the request must state its content-length")
    if not text.isdigit() or len(text) > 18:
        raise Refused(400, "InvalidParameter", "content-length must be a number of bytes")
    if b"\r\ntransfer-encoding:" in lower or lower.count(b"\r\ncontent-length:") > 1:
        raise Refused(400, "InvalidParameter", "the request states its length more than once")
    return int(text)


def _read_target(head, request):
    line = head.split(b"\r\n", 1)[0].split(b" ")
    if len(line) != 3 or not line[2].startswith(b"HTTP/1."):
        raise Refused(400, "InvalidParameter", "the request is not HTTP/1.1")
    if line[0] != b"POST":
        raise Refused(405, "MethodNotAllowed", "a prediction is asked for with POST")
    path = line[1].split(b"?", 1)[0]
    # Suffixes may follow, and a prefix may stand before the deployment's id.
    at = path.find(b"/predict")
    if at < 0:
        raise Refused(404, "NotAuthorizedOrNotFound", "predictions are made at /predict")
    request.stream = path.startswith(b"/predictWithResponseStream", at)


def _rest_of_head(connection, data):
    give_up = monotonic() + READ_STALL_S
    while data.find(b"\r\n\r\n") < 0:
        if len(data) >= HEAD_LIMIT:
            raise Refused(431, "InvalidParameter", "the request's headers are too large")
        more = connection.recv(HEAD_LIMIT)
        if not more or monotonic() > give_up:
            return None
        data += more
    return data


def _rest_of_body(connection, body, length):
    whole = bytearray(length)
    have = len(body)
    whole[:have] = body
    view = memoryview(whole)
    give_up = monotonic() + READ_STALL_S
    while have < length:
        read = connection.recv_into(view[have:])
        if not read or monotonic() > give_up:
            return None
        have += read
    view.release()
    return bytes(whole)
