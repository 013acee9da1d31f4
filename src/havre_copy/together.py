"""Requests that are answered together: taken when they wait already, predicted in one call.

What cannot be combined, and every request of a batch that fails, is answered alone.
"""

from time import monotonic_ns

from havre_copy.batching import NotShareable, combine, form_of, share_out
from havre_copy.fair_queue import HELD
from havre_copy.faults import Refused
from havre_copy.slots import BUSY, IDLE, PRINTED, SINCE, STATE
from havre_copy.wire import Request

MOST_BYTES = 16 * 1024 * 1024  # of requests at once; the last of them may exceed it


class _Waiting:
    """A place for a request that is answered with others: used again and again.

    ``place`` is that of its connection in the copy's hand; ``rows`` the Form of its ``data``.
    """

    __slots__ = ("connection", "place", "request", "data", "form", "rows")

    def __init__(self):
        self.request = Request()

    def clear(self):
        """Hold no data while there is nothing to do."""
        self.connection = self.data = self.form = None
        self.request.body = b""


class Together:
    """One copy's way with several requests. ``batching`` says which, and how many."""

    def __init__(self, copy, batching, *, slot, output, capture, journal, bodies):
        self._copy = copy
        self._most = batching.size
        self._delay_s = batching.delay_s
        self._structures = set(batching.structures)
        self._slot = slot
        self._words = slot.words
        self._output = output
        self._capture = capture
        self._journal = journal
        self._bodies = bodies
        self._places = [_Waiting() for _ in range(batching.size)]

    def serve(self, queue):
        """Answer until told to stop; returns the exit code."""
        while True:
            taken = queue.take()
            if taken is None:
                return queue.code
            more = queue.take_more(self._most - 1, self._delay_s) if self._structures else ()
            if more:
                self._exchange(queue, [taken + (HELD,)] + more)
            else:
                connection, data = taken
                queue.put_back(connection, is_usable=self._copy.exchange(connection, data))

    def _exchange(self, queue, taken):
        """Answer ``[(connection, first bytes, place), …]``, and give their connections back."""
        batches = {}
        size = 0
        self._capture.hold()
        for one, (connection, data, place) in zip(self._places, taken):
            one.connection = connection
            one.place = place
            if not self._read(queue, one, data):
                continue
            batches.setdefault(self._key(one), []).append(one)
            size += len(one.request.body)
            if size > MOST_BYTES:
                self._answer_all(queue, batches)
                size = 0
        self._answer_all(queue, batches)
        self._capture.release()
        for one, _ in zip(self._places, taken):
            one.clear()

    def _answer_all(self, queue, batches):
        for key, batch in batches.items():
            if key is None or len(batch) == 1 or not self._answer(queue, batch):
                for one in batch:
                    self._slot.request_id = one.request.id
                    self._finish(queue, one, self._copy.answer, one.data, one.form)
        batches.clear()
        self._words[STATE] = IDLE

    def _read(self, queue, one, first):
        """Whether it is to be answered; if not, it has got its answer."""
        try:
            found = self._copy.read(one.connection, first, one.request)
        except Refused as refused:
            self._finish(queue, one, self._copy.refuse, refused)
            return False
        finally:
            self._words[STATE] = IDLE  # the next one's body may have to be waited for
        if found is None:
            queue.put_back(one.connection, is_usable=False, place=one.place)
            return False
        one.data, one.form = found
        one.rows = form_of(one.data)
        return True

    def _key(self, one):
        """Requests of the same key can be combined; those of None cannot."""
        if one.request.stream or one.rows is None or one.rows.structure not in self._structures:
            return None
        return one.rows.structure, one.rows.fixed

    def _answer(self, queue, batch):
        """Answer all by one call of predict(). False: it failed, and nothing is answered.

        What that call prints is of all these requests together.
        """
        words, output = self._words, self._output
        words[PRINTED] = printed = output.position()
        try:
            shares = self._predict(batch)
        finally:
            if output.position() != printed:
                output.mark([one.request.id for one in batch], printed, words[SINCE])
        if shares is None:
            return False
        for one, share in zip(batch, shares):
            self._finish(queue, one, self._copy.send, share, one.form)
        return True

    def _predict(self, batch):
        """What predict() returns for each; None if it failed, the batch is then read anew."""
        words = self._words
        self._slot.request_id = batch[0].request.id
        words[SINCE] = monotonic_ns()
        words[STATE] = BUSY
        try:
            result = self._copy.call(combine([one.data for one in batch]))
            shares = share_out(result, [one.rows.rows for one in batch])
        except BaseException as error:
            if isinstance(error, NotShareable):
                self._journal.say("requests are answered one by one from here on: %s" % error)
                self._structures.clear()
            # Whose fault it is will show. predict() may have changed what it was given.
            for one in batch:
                one.data, one.form = self._bodies.read(one.request)
            return None
        self._slot.returned_to(len(batch))
        return shares

    def _finish(self, queue, one, act, *what):
        """``act(connection, request, *what)``, which answers; then give the connection back."""
        connection, request = one.connection, one.request
        is_usable = False
        try:
            try:
                act(connection, request, *what)
            except Refused as refused:
                self._copy.refuse(connection, request, refused)
            is_usable = not request.is_last
        except OSError:
            pass  # the peer is gone: nobody to tell
        queue.put_back(connection, is_usable=is_usable, place=one.place)
