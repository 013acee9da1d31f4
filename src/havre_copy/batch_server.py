"""Batching: requests that wait already are taken together and predicted by one call of predict().

Requests that cannot be combined, and all those of a batch that fails, are answered one by one.
"""

from time import monotonic_ns

from havre_copy.batching import NotShareable, combine, form_of, share_out
from havre_copy.faults import HttpError
from havre_copy.request_queue import CLAIMED
from havre_copy.slots import BUSY, IDLE, PRINTED, SINCE, STATE
from havre_copy.wire import Request

MAX_BYTES = 16 * 1024 * 1024  # of requests at once; the last of them may exceed it


class _BatchedRequest:
    """A request and what belongs to it; an object is used again and again.

    ``claim`` is the copy's claim on its connection, ``form`` the BatchForm of its ``data``;
    ``encode`` writes its result.
    """

    __slots__ = ("connection", "claim", "request", "data", "encode", "form")

    def __init__(self):
        self.request = Request()

    def clear(self):
        """Hold no data while there is nothing to do."""
        self.connection = self.data = self.encode = None
        self.request.body = b""


class BatchServer:
    """Serves the requests of one Copy, several at once: which and how many says its Batching."""

    def __init__(self, copy):
        self._copy = copy
        self._max_requests = copy.batching.size
        self._delay_s = copy.batching.delay_s
        self._structures = set(copy.batching.structures)
        self._slot = copy.slot
        self._words = copy.slot.words
        self._output = copy.output
        self._capture = copy.capture
        self._logger = copy.logger
        self._bodies = copy.bodies
        self._items = [_BatchedRequest() for _ in range(self._max_requests)]

    def serve(self, queue):
        """Answer until asked to stop; returns the exit code."""
        while True:
            taken = queue.take()
            if taken is None:
                return queue.exit_code
            more = ()
            if self._structures:
                more = queue.take_more(self._max_requests - 1, self._delay_s)
            if more:
                self._exchange(queue, [taken + (CLAIMED,)] + more)
            else:
                connection, data = taken
                queue.release(connection, is_usable=self._copy.exchange(connection, data))

    def _exchange(self, queue, taken):
        """Answer ``[(connection, first bytes, claim), …]``, and release their connections."""
        batches = {}
        size = 0
        self._capture.hold()
        for item, (connection, data, claim) in zip(self._items, taken):
            item.connection = connection
            item.claim = claim
            if not self._read(queue, item, data):
                continue
            batches.setdefault(self._key(item), []).append(item)
            size += len(item.request.body)
            if size > MAX_BYTES:
                self._respond_all(queue, batches)
                size = 0
        self._respond_all(queue, batches)
        self._capture.release()
        for item, _ in zip(self._items, taken):
            item.clear()

    def _respond_all(self, queue, batches):
        for key, batch in batches.items():
            if key is None or len(batch) == 1 or not self._respond_together(queue, batch):
                for item in batch:
                    self._slot.request_id = item.request.id
                    self._finish(queue, item, self._copy.respond, item.data, item.encode)
        batches.clear()
        self._words[STATE] = IDLE

    def _read(self, queue, item, first):
        """Read a request. False if nothing is left to do: it got an error, or its peer is gone."""
        try:
            parsed = self._copy.read(item.connection, first, item.request)
        except HttpError as http_error:
            self._finish(queue, item, self._copy.send_error, http_error)
            return False
        finally:
            self._words[STATE] = IDLE  # the next one's body may have to be waited for
        if parsed is None:
            queue.release(item.connection, is_usable=False, claim=item.claim)
            return False
        item.data, item.encode = parsed
        item.form = form_of(item.data)
        return True

    def _key(self, item):
        """Requests of the same key can be combined; those of None cannot."""
        if item.request.stream or item.form is None or item.form.structure not in self._structures:
            return None
        return item.form.structure, item.form.fixed

    def _respond_together(self, queue, batch):
        """Answer all by one call of predict(). False: it failed, and nothing is answered.

        What that call prints belongs to all these requests together.
        """
        words, output = self._words, self._output
        words[PRINTED] = printed = output.position()
        try:
            shares = self._predict(batch)
        finally:
            if output.position() != printed:
                output.mark([item.request.id for item in batch], printed, words[SINCE])
        if shares is None:
            return False
        for item, share in zip(batch, shares):
            self._finish(queue, item, self._copy.send, share, item.encode)
        return True

    def _predict(self, batch):
        """The result for each request; None if predict() failed: the requests are read again."""
        words = self._words
        self._slot.request_id = batch[0].request.id
        words[SINCE] = monotonic_ns()
        words[STATE] = BUSY
        try:
            result = self._copy.call(combine([item.data for item in batch]))
            shares = share_out(result, [item.form.rows for item in batch])
        except BaseException as error:
            if isinstance(error, NotShareable):
                self._logger.log("requests are answered one by one from here on: %s" % error)
                self._structures.clear()
            # Answering one by one shows which request fails. predict() may have changed its data.
            for item in batch:
                item.data, item.encode = self._bodies.read(item.request)
            return None
        self._slot.returned_to(len(batch))
        return shares

    def _finish(self, queue, item, respond, *arguments):
        """``respond(connection, request, *arguments)``; then release the connection."""
        connection, request = item.connection, item.request
        is_usable = False
        try:
            try:
                respond(connection, request, *arguments)
            except HttpError as http_error:
                self._copy.send_error(connection, request, http_error)
            is_usable = not request.is_last
        except OSError:
            pass  # the peer is gone
        queue.release(connection, is_usable=is_usable, claim=item.claim)
