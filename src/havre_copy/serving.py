"""One copy (worker process): takes a request from the queue, predicts, responds, takes the next.

The keeper sees what a copy is doing through its slot of shared memory. A copy exits when the queue
says that no more will come, or, after SIGTERM, when it has answered its current request.
"""

import os
from base64 import b64encode
from hashlib import sha256
from time import monotonic_ns
from types import AsyncGeneratorType, GeneratorType

from havre_copy import wire
from havre_copy.batch_server import BatchServer
from havre_copy.bodies import OPAQUE, Bodies
from havre_copy.causes import describe_whole
from havre_copy.faults import HttpError, full_traceback, with_advice
from havre_copy.plain import NotEncodable
from havre_copy.slots import (
    ACTIVITY,
    BUSY,
    FAILED,
    IDLE,
    LAST_PREDICT_NS,
    PRINTED,
    READING,
    RECORD_BIT,
    RESPONSES,
    RETAIN_FLAGS,
    SINCE,
    STATE,
    STREAMING,
    WRITING,
)

_PLAIN = frozenset({dict, list, str, int, float, bool, type(None)})


class Copy:
    """Serves requests with a loaded ``scorer``. A BatchServer uses its public attributes.

    ``slot``, ``claims``, ``ring``, ``capture`` and ``output`` are its own. ``deployment`` is empty
    in a process that answers the keeper's checks.
    """

    def __init__(
        self,
        *,
        name,
        slot,
        claims,
        ring,
        capture,
        output,
        scorer,
        codec,
        logger,
        max_body,
        batching,
        artifact,
        deployment,
        check_input,
    ):
        self.slot = slot
        self._ring = ring
        self.capture = capture
        self._words = slot.words
        self.output = output
        self._mark = output.mark
        self._printed = output.position
        self._predict = scorer.predict
        self._codec = codec
        self.bodies = Bodies(codec, max_body, check_input)
        self.logger = logger
        self._artifact = artifact
        self._deployment = deployment
        self._wire = wire.Wire(name, max_body, claims)
        self._request = wire.Request()
        self.batching = batching
        self._pid = os.getpid()
        self._loop = None

    def serve(self, queue):
        """Answer until asked to stop; returns the exit code."""
        if self.batching.structures:
            return BatchServer(self).serve(queue)
        take, release, exchange = queue.take, queue.release, self.exchange
        while True:
            taken = take()
            if taken is None:
                return queue.exit_code
            connection, data = taken
            release(connection, is_usable=exchange(connection, data))

    def exchange(self, connection, data):
        """Answer the request that begins with ``data``; whether there may be another after it."""
        request = self._request
        try:
            try:
                parsed = self.read(connection, data, request)
                if parsed is None:
                    return False
                data, encode = parsed
                self.respond(connection, request, data, encode)
            except HttpError as http_error:
                self.send_error(connection, request, http_error)
            return not request.is_last
        except OSError:
            return False  # the peer is gone
        finally:
            request.body = b""
            self._words[STATE] = IDLE

    def read(self, connection, data, request):
        """``(data, encode)`` of the request that begins with ``data``: see ``Bodies.read``.

        None if the peer is gone. Raises HttpError.
        """
        if not self._wire.receive(connection, data, request):
            return None
        words = self._words
        self.slot.request_id = request.id
        words[SINCE] = monotonic_ns()
        words[STATE] = READING
        if request.digest:
            _check_digest(request)
        return self.bodies.read(request)

    def respond(self, connection, request, data, encode):
        """Predict, and send the response. Raises HttpError, and OSError if the peer is gone."""
        words = self._words
        words[PRINTED] = printed = self._printed()
        try:
            self._respond(connection, request, data, encode)
        finally:
            if self._printed() != printed:
                self._mark([request.id], printed, words[SINCE])

    def _respond(self, connection, request, data, encode):
        words = self._words
        words[SINCE] = monotonic_ns()
        words[STATE] = BUSY
        try:
            result = self.call(data)
            if type(result) not in _PLAIN and _is_stream(result):
                if not request.stream:
                    result = _collected(self._parts(result))
        except BaseException as error:
            self.slot.raised()
            self._fail(connection, request, error)
            return
        if request.stream and _is_stream(result):
            self._stream(connection, request, result)
            return
        self.slot.returned()
        self.send(connection, request, result, encode)

    def call(self, data):
        """What predict() returns, awaited if it must be."""
        try:
            result = self._predict(data)
        finally:
            if os.getpid() != self._pid:
                os._exit(0)  # predict() forked, and this is its child: it must not respond
        return result if type(result) in _PLAIN else self._awaited(result)

    def send(self, connection, request, result, encode):
        """Send the result of predict() as ``encode`` writes it. Raises as ``respond`` does."""
        words = self._words
        request.predict_ns = words[LAST_PREDICT_NS]
        try:
            if request.stream:
                raise HttpError(
                    409,
                    "ExternalServerIncorrectState",
                    "predict() returned %s; to stream it must yield parts (a generator)"
                    % type(result).__name__,
                )
            kind, body, more = encode(result)
        except HttpError:
            raise
        except BaseException as error:
            self._fail(connection, request, error)
            return
        words[STATE] = WRITING
        self._wire.respond(connection, kind, body, request, more)
        words[RESPONSES] += 1
        if words[RETAIN_FLAGS]:
            self._retain(request, 200, kind, body)

    def _stream(self, connection, request, result):
        """Send parts as they are produced. A failure before the first part is a plain 500."""
        words = self._words
        parts = self._parts(result)
        try:
            first = next(parts, b"")
            frame = _Frame(self._codec, first)
            data = frame(first)
        except BaseException as error:
            self.slot.raised()
            self._fail(connection, request, error)
            return
        # Oracle's command line breaks on the bare type, its SDK on anything else.
        agent = request.header(b"user-agent")
        kind = wire.EVENTS + (b"; charset=utf-8" if b"Oracle-PythonCLI" in agent else b"")
        failure, failure_text = None, ""
        try:
            self.slot.returned()
            request.predict_ns = words[LAST_PREDICT_NS]
            words[ACTIVITY] = monotonic_ns()
            words[STATE] = STREAMING
            self._wire.begin_stream(connection, kind, request)
            while True:
                self._wire.chunk(connection, data)
                words[ACTIVITY] = monotonic_ns()
                try:
                    data = frame(next(parts))
                except StopIteration:
                    break
                except BaseException as error:
                    failure = error
                    break
            if failure is not None:
                words[FAILED] += 1
                failure_text = self._log_error(request, failure, "failed in mid-stream")
            self._wire.end_stream(connection, failure_text)
            words[RESPONSES] += 1
            if words[RETAIN_FLAGS]:
                self._retain(request, 200, kind, None)
        finally:
            try:
                parts.close()
            except BaseException as error:
                self._log_error(request, error, "raised when its stream was closed")

    def _parts(self, result):
        """A generator over what a stream yields, be it asynchronous or not."""
        if not hasattr(result, "__anext__"):
            try:
                for part in result:
                    yield part
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
            return
        try:
            while True:
                try:
                    part = self._run(result.__anext__())
                except StopAsyncIteration:
                    return
                yield part
        finally:
            close = getattr(result, "aclose", None)
            if close is not None:
                self._run(close())

    def _awaited(self, result):
        """The result, awaited if it must be: predict() may be ``async def``."""
        return self._run(result) if hasattr(result, "__await__") else result

    def _run(self, awaitable):
        import asyncio  # only where it is used: it is large

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)

        async def wait():
            return await awaitable

        return self._loop.run_until_complete(wait())

    def _fail(self, connection, request, error):
        if os.getpid() != self._pid:
            os._exit(0)
        words = self._words
        words[FAILED] += 1
        request.predict_ns = words[LAST_PREDICT_NS]
        if isinstance(error, NotEncodable):
            message = str(error)
            self.logger.log(message, _text(request.id))
        else:
            message = self._log_error(request, error, "raised")
        http_error = HttpError(500, "InternalServerError", message)
        details = self._error_details(request, error)
        body = self.send_error(connection, request, http_error, **details)
        if words[RETAIN_FLAGS]:
            # What the next revision's response must equal: a replayed request has another id.
            comparable = self._error_body(http_error) if request.id else body
            self._retain(request, 500, wire.JSON, body, comparable)

    def _error_details(self, request, error):
        """Whose exception it is, and where its traceback is; empty for the keeper's checks."""
        if not (self._deployment and request.id) or isinstance(error, NotEncodable):
            return {}
        request_id = _text(request.id)
        return {
            "raisedBy": "predict() of the model",
            "opcRequestId": request_id,
            "logs": "havre logs %s --request %s" % (self._deployment, request_id),
        }

    def _retain(self, request, status, kind, response, comparable=None):
        """Record and capture a request that has been answered; ``response``: None of a stream.

        ``comparable``: the response of a revision that behaves the same, where that differs.
        """
        flags = self._words[RETAIN_FLAGS]
        if flags & RECORD_BIT and not request.stream:
            self._ring.add(request, status, response if comparable is None else comparable)
        if flags > RECORD_BIT:
            self.capture.add(flags >> 1, request, status, kind, response)

    def _log_error(self, request, error, what):
        """Log what predict() did. Returns the exception's description, with advice."""
        description = with_advice(describe_whole(error), error, self._artifact)
        text = "predict() %s %s" % (what, description)
        self.logger.log(text, _text(request.id), full_traceback(error))
        return description

    def send_error(self, connection, request, http_error, **more):
        """Send why there is no prediction. Returns the body; raises OSError if the peer is gone."""
        body = self._error_body(http_error, **more)
        self._wire.send_error(connection, http_error.status, body, request)
        self._words[RESPONSES] += 1
        return body

    def _error_body(self, http_error, **more):
        return self._codec.dumps(dict(code=http_error.code, message=http_error.message, **more))


class _Frame:
    """Parts of a stream as bytes: server-sent events, unless they are bytes already.

    If the first text is an event, the generator does the framing: its texts are sent as they are.
    """

    _FIELDS = ("data:", "event:", "id:", "retry:", ":")

    def __init__(self, codec, first):
        self._codec = codec
        self._framed = isinstance(first, str) and first.startswith(self._FIELDS)

    def __call__(self, part):
        if isinstance(part, OPAQUE):
            return bytes(part)
        if isinstance(part, str):
            if self._framed or part.startswith(self._FIELDS):
                return part.encode("utf-8", "replace")
            lines = part.replace("\r\n", "\n").split("\n")
            text = "".join("data: %s\n" % line for line in lines) + "\n"
            return text.encode("utf-8", "replace")
        return b"data: %s\n\n" % self._codec.dumps(part)


def _check_digest(request):
    """The signature covers the body's hash, and nobody has compared it with the body before."""
    if b64encode(sha256(request.body).digest()) != request.digest:
        raise HttpError(401, "NotAuthenticated", "x-content-sha256 is not the hash of the body")


def _is_stream(result):
    return isinstance(result, (GeneratorType, AsyncGeneratorType)) or (
        hasattr(result, "__next__") or hasattr(result, "__anext__")
    )


def _collected(parts):
    """A stream as one result: texts or bytes joined, anything else a list."""
    parts = list(parts)
    if parts and all(isinstance(part, str) for part in parts):
        return "".join(parts)
    if parts and all(isinstance(part, (str,) + OPAQUE) for part in parts):
        return b"".join(part.encode("utf-8") if isinstance(part, str) else part for part in parts)
    return parts


def _text(request_id):
    return request_id.decode("ascii")
