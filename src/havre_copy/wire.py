"""The HTTP/1.1 that the load balancer speaks to a copy: one request at a time.

A request has a content-length, or is refused; heads are bounded; a peer that stalls is dropped
(``fair_queue.limit_stalls``).
"""

from socket import MSG_NOSIGNAL, SHUT_WR, SO_RCVTIMEO, SOL_SOCKET
from struct import pack
from time import monotonic

from havre_copy.fair_queue import ENDING, READ_STALL_S
from havre_copy.faults import Refused

HEAD_LIMIT = 64 * 1024
DISCARD_S = 1
DISCARD_BYTES = 16 * 1024 * 1024
_DISCARD_STALL = pack("ll", DISCARD_S, 0)
_SENT_AT_ONCE = 64 * 1024  # copying more is dearer than another call
_LONGEST_ID = 200
_UNPRINTABLE = bytes(byte for byte in range(256) if not 32 <= byte < 127)

JSON = b"application/json"
BYTES = b"application/octet-stream"
EVENTS = b"text/event-stream"

_ID = b"\r\nopc-request-id:"
_MOST_KNOWN = 256
_LONGEST_KNOWN = 2048

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

    ``accept`` is as sent; ``target`` the path as it was asked for, where the load balancer has
    rewritten it. ``digest`` is what the signed hash of the body says, base64; empty where none was
    asked for.
    ``is_last``: the connection ends with its answer. ``took``: ns in predict(), None before; of a
    stream, until its first part.
    """

    __slots__ = ("stream", "content_type", "accept", "target", "id", "body", "is_read", "is_last")
    __slots__ += ("digest", "took", "_head")

    def header(self, name):
        """Value of a header named in lower case, ``b""`` if absent."""
        return _value(self._head, self._head.lower(), b"\r\n" + name + b":")


class Wire:
    """One copy's side of the wire.

    ``name``, and the microseconds in predict() after a slash, go out as ``x-havre-copy``.
    """

    def __init__(self, name, max_body, hand):
        self._max_body = max_body
        self._hand = hand
        self._name = b"x-havre-copy: %s/" % name.encode("ascii", "replace")
        self._ok = {kind: self._head(200, kind) for kind in (JSON, BYTES)}
        # What was read in heads that came before: most differ in their id only.
        self._known = {}

    def receive(self, connection, data, request):
        """Read one request, which begins with ``data``; False if the peer went away or stalled.

        Raises Refused, after which the caller still owes the peer an answer; what could be read by
        then (its id, above all) is in ``request``.
        """
        request.stream = request.is_read = False
        request.is_last = True
        request.took = None
        request.id = request.body = request.digest = b""
        request.content_type = request.accept = request.target = b""
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
                identity = head[at + len(_ID) : stop if stop >= 0 else end]
                request.id = _printable(identity)
                key = head[:at] + head[stop:] if stop >= 0 else head[:at]
            else:
                key = head
            known = self._known.get(key)
            if known is None:
                known = self._read_head(key, head, request)
            (
                request.stream,
                length,
                request.content_type,
                request.accept,
                request.target,
                is_last,
                request.digest,
            ) = known
            body = data[end + 4 :]
            if len(body) != length:
                if len(body) < length:
                    body = _rest_of_body(connection, body, length)
                    if body is None:
                        return False
                else:
                    # Bytes that nobody asked for yet would be lost: the connection cannot go on.
                    body = body[:length]
                    is_last = True
            request.body = body
            request.is_last = is_last
            request.is_read = True
        except OSError:  # reset, or stalled: SO_RCVTIMEO reports as EAGAIN
            return False
        return True

    def _read_head(self, key, head, request):
        """``(stream, length, content type, accept, target, is last, digest)``. Raises Refused."""
        lower = head.lower()
        if not request.id:
            request.id = _printable(_value(head, lower, _ID))
        stream = _asks_for_stream(head)
        length = _length(head, lower)
        if length > self._max_body:
            raise Refused(
                413,
                "PayloadTooLarge",
                "the body has %d bytes; at most %d are taken" % (length, self._max_body),
            )
        digest = _value(head, lower, _DIGEST) if _DIGEST in lower else b""
        known = (
            stream,
            length,
            _value(head, lower, b"\r\ncontent-type:"),
            _value(head, lower, b"\r\naccept:"),
            _value(head, lower, _TARGET),
            _asks_to_close(head, lower),
            digest,
        )
        if _ID in key.lower() or digest or len(key) > _LONGEST_KNOWN:
            return known  # an id that is spelt otherwise, or a signature: none is like another
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = known
        return known

    def answer(self, connection, kind, body, request, more=b""):
        """Send a 200. ``more``: lines of the head. Raises OSError if the peer is gone."""
        head = self._ok.get(kind) or self._head(200, kind)
        self._send(connection, head + more, body, request)

    def refuse(self, connection, status, body, request):
        """Send an answer that is not a prediction; a request still coming in is read past.

        Closing with unread input would reset the connection under the answer.
        """
        self._send(connection, self._head(status, JSON), body, request)
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

    def begin_stream(self, connection, kind, request):
        """Send the head of a chunked answer. Raises OSError if the peer is gone."""
        head = self._head(200, kind) + b"transfer-encoding: chunked\r\ntrailer: StreamFailure\r\n"
        connection.sendall(head + self._about(request) + b"\r\n", MSG_NOSIGNAL)

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
        return b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\n" % (status, _REASONS[status], kind)

    def _about(self, request):
        """Which request it was, who answered, and whether it was the connection's last."""
        if self._hand[ENDING]:
            request.is_last = True
        ending = b"connection: close\r\n" if request.is_last else b""
        took = b"" if request.took is None else b"%d" % (request.took // 1000)
        if not request.id:
            return b"%s%s\r\n%s" % (self._name, took, ending)
        return b"%s%s\r\nopc-request-id: %s\r\n%s" % (self._name, took, request.id, ending)

    def _send(self, connection, head, body, request):
        head = b"%s%scontent-length: %d\r\n\r\n" % (head, self._about(request), len(body))
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


def _printable(identity):
    """The id without what is not safe to log and to send back; bounded."""
    return identity.strip()[:_LONGEST_ID].translate(None, _UNPRINTABLE)


def _asks_to_close(head, lower):
    """The load balancer never does; others may speak to a copy, too."""
    return b"\r\nconnection: close" in lower or head.startswith(b"HTTP/1.0", head.find(b"\r\n") - 8)


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


def _asks_for_stream(head):
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
    return path.startswith(b"/predictWithResponseStream", at)


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
