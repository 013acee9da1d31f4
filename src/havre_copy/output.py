"""What a copy (worker process) prints, in a file of its own, with marks that say which request
printed what.

Descriptors 1 and 2 are that file, so it gets all output: of Python, C, threads, child processes.
Before and after each request the copy asks for its offset in the file; only if that has moved, a
*mark* is appended: a line that begins with a byte nobody prints. So a request that prints nothing
costs two system calls, and none waits for a reader. What no mark covers belongs to no request.

The keeper marks what a copy cannot: the output of a request that takes long, while it does, and of
one during which the copy has died.

A mark::

    \x1e{"requests": ["8F0…"], "from": 1024, "to": 1093, "began": 1764100000123, "ended": …}

``from`` and ``to`` are bytes of the file, times epoch ms; ``requests`` are several where one call
of predict() answered them together. ``lost``, if there, are bytes that the disk had no room for.
"""

import fcntl
import os
import stat
from functools import partial
from time import monotonic_ns, time

from havre_copy import slots, streams
from havre_copy.logger import FIRST_OWN_DESCRIPTOR

MAX_REQUESTS = 64  # named in one mark
CHECK_EVERY_NS = int(1e9)  # for requests that take long

_OPEN = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ON_REQUEST = (slots.BUSY, slots.STREAMING, slots.WRITING)


class Output:
    """A copy's side. Raises OSError if the file cannot be made.

    ``position()`` is the offset after what this process, or a child of it, has printed last.
    """

    def __init__(self, path):
        # It must be new: the folder is the user's, and anything may lie there.
        file = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # A number that user code does not close or replace by accident.
            self.descriptor = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN_DESCRIPTOR)
        finally:
            os.close(file)
        for standard in (1, 2):
            os.dup2(self.descriptor, standard)
        # Called twice for every request: so it is the system call, without a function around it.
        self.position = partial(os.lseek, self.descriptor, 0, os.SEEK_CUR)
        self._reported_lost = streams.lost_bytes()

    def mark(self, requests, begins_at, since):
        """Mark the output from ``begins_at`` on. ``since``: as in a slot. Never raises."""
        lost = streams.lost_bytes()
        try:
            _append(
                self.descriptor,
                requests,
                begins_at,
                self.position(),
                since,
                lost=lost - self._reported_lost,
            )
        except OSError:
            return  # a full disk: it belongs to no request then
        self._reported_lost = lost


class SharedOutput:
    """The output of a process that has no file of its own: nothing is marked."""

    descriptor = None
    position = int  # always 0

    def mark(self, requests, begins_at, since):
        pass


class Marks:
    """The keeper's side: names the copies' files and marks what copies cannot.

    ``folder`` is empty where copies have none.
    """

    def __init__(self, folder, table):
        self._folder = folder
        self._slots = table.slots
        self._paths = {}
        self._marked = {}
        self._check_at = 0

    def name(self, number):
        """Name the file of a copy that is about to be forked: no two names are ever the same."""
        if self._folder:
            file = "copy-%d.%d.log" % (number, time() * 1000)
            self._paths[number] = os.path.join(self._folder, file)

    def path(self, number):
        """The path of that file; empty where there is none."""
        return self._paths.get(number, "")

    def open(self, number, logger):
        """In the child: its Output."""
        path = self._paths.get(number)
        if path is None:
            return SharedOutput()
        try:
            return Output(path)
        except OSError as error:
            logger.log("this copy's output is not separate from other output: %s" % error)
            return SharedOutput()

    def tick(self):
        """Mark what requests have printed that have been running for a while."""
        now = monotonic_ns()
        if now >= self._check_at:
            self._check_at = now + CHECK_EVERY_NS
            for number in self._paths:
                if now - self._slots[number].words[slots.SINCE] >= CHECK_EVERY_NS:
                    self._mark(number)

    def on_death(self, number):
        """The copy is dead, its slot as it left it: mark what its request has printed."""
        if number in self._paths:
            self._mark(number)
            self._marked.pop(number, None)

    def next_wake(self):
        """When ``tick`` has something to do (``monotonic_ns()``), or None."""
        states = [self._slots[number].words[slots.STATE] for number in self._paths]
        is_busy = any(state in _ON_REQUEST for state in states)
        return max(self._check_at, monotonic_ns()) if is_busy else None

    def _mark(self, number):
        current = self._current_request(number)
        if current is None:
            return
        try:
            file = os.open(self._paths[number], _OPEN)
        except OSError:
            return  # the user's: it may be gone
        try:
            about = os.fstat(file)
            since, begins_at, request = current
            size = about.st_size
            is_new = size > begins_at and self._marked.get(number) != (since, size)
            is_plain = stat.S_ISREG(about.st_mode)
            if is_new and is_plain and self._current_request(number) == current:
                size += _append(file, [request], begins_at, size, since)
                self._marked[number] = since, size
        except OSError:
            pass
        finally:
            os.close(file)

    def _current_request(self, number):
        """``(since, offset of its output, request id)``; None while the copy has no request."""
        slot = self._slots[number]
        words = slot.words
        if words[slots.STATE] not in _ON_REQUEST:
            return None
        return words[slots.SINCE], words[slots.PRINTED], slot.request_id


def _append(file, requests, begins_at, ends_at, since, lost=0):
    ended = int(time() * 1000)
    # Without a JSON library: it is written for every request that prints.
    mark = b'\x1e{"requests": [%s], "from": %d, "to": %d, "began": %d, "ended": %d%s}\n' % (
        b", ".join([_quoted(request) for request in requests[:MAX_REQUESTS]]),
        begins_at,
        ends_at,
        ended - (monotonic_ns() - since) // 1000000,
        ended,
        b', "lost": %d' % lost if lost else b"",
    )
    return os.write(file, mark)


def _quoted(request):
    """An id, which is printable ASCII, as JSON."""
    if b'"' in request or b"\\" in request:
        request = request.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"%s"' % request
