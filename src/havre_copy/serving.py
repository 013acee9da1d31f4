"""One copy: takes a request from the queue when it is idle, predicts, answers, takes the next.

The keeper sees what a copy does through its slot of shared memory. A copy leaves when the queue
says that no more will come, or, told by SIGTERM, after the request in hand.
"""

import os
import sys
from base64 import b64encode
from hashlib import sha256
from time import monotonic_ns
from types import AsyncGeneratorType, GeneratorType

from havre_copy import wire
from havre_copy.bodies import OPAQUE, Bodies
from havre_copy.encoding import NotEncodable
from havre_copy.faults import Refused, describe, full_traceback
from havre_copy.slots import (
    ACTIVITY,
    ANSWERED,
    BUSY,
    FAILED,
    IDLE,
    KEEP,
    PRINTED,
    READING,
    RECORDED,
    SINCE,
    STATE,
    STREAMING,
    TOOK,
    WRITING,
)
from havre_copy.streams import flush_user_output
from havre_copy.together import Together

_PLAIN = frozenset({dict, list, str, int, float, bool, type(None)})


class Copy:
    """Serves requests with a loaded ``scorer``.

    ``slot``, ``hand``, ``ring``, ``capture`` and ``output`` are its own.
    """

    def __init__(
        self, *, name, slot, hand, ring, capture, output, scorer, codec, journal, max_body, batching
    ):
        self._slot = slot
        self._ring = ring
        self._capture = capture
        self._words = slot.words
        self._output = output
        self._mark = output.mark
        self._printed = output.position
        self._predict = scorer.predict
        self._codec = codec
        self._bodies = Bodies(codec)
        self._journal = journal
        self._wire = wire.Wire(name, max_body, hand)
        self._request = wire.Request()
        self._batching = batching
        self._pid = os.getpid()
        self._loop = None

    def serve(self, queue):
        """Answer until told to stop; returns the exit code."""
        queue.leave_at_sigterm()
        if self._batching.structures:
            return Together(
                self,
                self._batching,
                slot=self._slot,
                output=self._output,
                capture=self._capture,
                journal=self._journal,
                bodies=self._bodies,
            ).serve(queue)
        take, put_back, exchange = queue.take, queue.put_back, self.exchange
        while True:
            taken = take()
            if taken is None:
                return queue.code
            connection, data = taken
            put_back(connection, is_usable=exchange(connection, data))

    def exchange(self, connection, data):
        """Answer the request that begins with ``data``; whether there may be another after it."""
        request = self._request
        try:
            try:
                found = self.read(connection, data, request)
                if found is None:
                    return False
                data, form = found
                self.answer(connection, request, data, form)
            except Refused as refused:
                self.refuse(connection, request, refused)
            return not request.is_last
        except OSError:
            return False  # the peer is gone: nobody to tell
        finally:
            request.body = b""
            self._words[STATE] = IDLE

    def read(self, connection, data, request):
        """``(data, form)`` of the request that begins with ``data``; None if the peer is gone.

        Raises Refused.
        """
        if not self._wire.receive(connection, data, request):
            return None
        words = self._words
        self._slot.request_id = request.id
        words[SINCE] = monotonic_ns()
        words[STATE] = READING
        if request.digest:
            _check_digest(request)
        return self._bodies.read(request)

    def answer(self, connection, request, data, form):
        """Predict, and send the answer. Raises Refused, and OSError if the peer is gone."""
        words = self._words
        words[PRINTED] = printed = self._printed()
        try:
            self._answer(connection, request, data, form)
        finally:
            if self._printed() != printed:
                self._mark([request.id], printed, words[SINCE])

    def _answer(self, connection, request, data, form):
        words = self._words
        words[SINCE] = monotonic_ns()
        words[STATE] = BUSY
        try:
            result = self.call(data)
            if type(result) not in _PLAIN and _is_stream(result):
                if not request.stream:
                    result = _collected(self._parts(result))
        except BaseException as error:
            self._slot.raised()
            self._fail(connection, request, error)
            return
        if request.stream and _is_stream(result):
            self._stream(connection, request, result)
            return
        self._slot.returned()
        self.send(connection, request, result, form)

    def call(self, data):
        """What predict() returns, awaited if it must be."""
        try:
            result = self._predict(data)
        finally:
            if os.getpid() != self._pid:
                os._exit(0)  # predict() forked, and this is its child: no request is its own
        return result if type(result) in _PLAIN else self._settled(result)

    def send(self, connection, request, result, form):
        """Send what predict() has returned, in its form. Raises as ``answer`` does."""
        words = self._words
        request.took = words[TOOK]
        try:
            if request.stream:
                raise Refused(
                    409,
                    "ExternalServerIncorrectState",
                    "predict() returned %s; to stream it must yield parts (a generator)"
                    % type(result).__name__,
                )
            kind, body, more = form(result)
        except Refused:
            raise
        except BaseException as error:
            self._fail(connection, request, error)
            return
        words[STATE] = WRITING
        self._wire.answer(connection, kind, body, request, more)
        words[ANSWERED] += 1
        if words[KEEP]:
            self._keep(request, 200, kind, body)

    def _stream(self, connection, request, result):
        """Send parts as they are produced. A failure before the first is a plain 500."""
        words = self._words
        parts = self._parts(result)
        try:
            first = next(parts, b"")
            frame = _Frame(self._codec, first)
            data = frame(first)
        except BaseException as error:
            self._slot.raised()
            self._fail(connection, request, error)
            return
        # Oracle's command line breaks on the bare type, its SDK on anything else.
        agent = request.header(b"user-agent")
        kind = wire.EVENTS + (b"; charset=utf-8" if b"Oracle-PythonCLI" in agent else b"")
        failure = None
        try:
            self._slot.returned()
            request.took = words[TOOK]
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
                self._tell(request, failure, "failed in mid-stream")
            self._wire.end_stream(connection, failure and describe(failure))
            words[ANSWERED] += 1
            if words[KEEP]:
                self._keep(request, 200, kind, None)
        finally:
            try:
                parts.close()
            except BaseException as error:
                self._tell(request, error, "raised when its stream was closed")

    def _parts(self, result):
        """A generator over what a stream yields, whichever kind it is."""
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

    def _settled(self, result):
        """Await what has to be awaited: predict() may be ``async def``."""
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
        request.took = words[TOOK]
        if isinstance(error, NotEncodable):
            message = str(error)
            self._journal.say(message, _text(request.id))
        else:
            message = describe(error)
            self._tell(request, error, "raised")
        body = self.refuse(connection, request, Refused(500, "InternalServerError", message))
        if words[KEEP]:
            self._keep(request, 500, wire.JSON, body)

    def _keep(self, request, status, kind, answer):
        """Of a request that has been answered; ``answer`` is None if it was a stream."""
        keep = self._words[KEEP]
        if keep & RECORDED and not request.stream:
            self._ring.add(request, status, answer)
        if keep > RECORDED:
            self._capture.add(keep >> 1, request, status, kind, answer)

    def _tell(self, request, error, what):
        self._journal.say(
            "predict() %s %s" % (what, describe(error)), _text(request.id), full_traceback(error)
        )

    def refuse(self, connection, request, refused):
        """Say why there is no prediction; what was said. Raises OSError if the peer is gone."""
        body = self._codec.dumps({"code": refused.code, "message": refused.message})
        self._wire.refuse(connection, refused.status, body, request)
        self._words[ANSWERED] += 1
        return body


class _Frame:
    """Parts of a stream as bytes: server-sent events, unless they are bytes already.

    A generator whose first text is an event frames its own: its parts pass as they are.
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
    """The signature covers the body's hash; the body itself is seen here for the first time."""
    if b64encode(sha256(request.body).digest()) != request.digest:
        raise Refused(401, "NotAuthenticated", "x-content-sha256 is not the hash of the body")


def _is_stream(result):
    return isinstance(result, (GeneratorType, AsyncGeneratorType)) or (
        hasattr(result, "__next__") or hasattr(result, "__anext__")
    )


def _collected(parts):
    """One answer of a stream asked for as a whole: text or bytes joined, anything else a list."""
    parts = list(parts)
    if parts and all(isinstance(part, str) for part in parts):
        return "".join(parts)
    if parts and all(isinstance(part, (str,) + OPAQUE) for part in parts):
        return b"".join(part.encode("utf-8") if isinstance(part, str) else part for part in parts)
    return parts


def _text(request_id):
    return request_id.decode("ascii")


def become(copy, queue):
    """Serve, then end this process: never returns."""
    code = 1
    try:
        code = copy.serve(queue)
    finally:
        flush_user_output()
        sys.stdout = sys.stderr = None
        os._exit(code)
