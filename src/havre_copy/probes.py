"""Predictions for the keeper itself: requested from a forked child, with a time limit.

The child is an ordinary copy at the other end of socket pairs, so a probe takes the same path
through the wire as a request does; the keeper itself never calls ``predict()``.
"""

import os
import signal
import sys
import warnings
from select import select
from socket import AF_UNIX, SO_SNDBUF, SOCK_STREAM, SOL_SOCKET, socketpair
from time import monotonic, sleep

from havre_copy import forking, slots
from havre_copy.deaths import cause_of
from havre_copy.streams import flush_user_output

# A child ends within microseconds of its files being closed.
_WAIT_S = 0.1


class Probe:
    """A child that answers requests, each a ``samples.Sample``, one after the other.

    ``run(connections, slot)`` runs in it: a connection per request, and a slot that is its own.
    Raises OSError if the system has no process or no descriptors for it.
    """

    def __init__(self, requests, run, *, limit_s):
        self._requests = list(requests)
        self._slot = slots.SlotTable(1).slots[0]
        pairs = []
        flush_user_output()
        try:
            for _ in self._requests:
                pairs.append(socketpair(AF_UNIX, SOCK_STREAM))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.pid = os.fork()
        except OSError:
            for pair in pairs:
                for end in pair:
                    end.close()
            raise
        if not self.pid:
            try:
                for ours, _ in pairs:
                    ours.close()
                run([theirs for _, theirs in pairs], self._slot)
            finally:
                flush_user_output()
                sys.stdout = sys.stderr = None
                os._exit(0)
        for _, theirs in pairs:
            theirs.close()
        self._connections = [ours for ours, _ in pairs]
        self._begin(limit_s)

    def _begin(self, limit_s):
        self.socket = self._connections[0]
        self.socket.setsockopt(SOL_SOCKET, SO_SNDBUF, 1 << 20)
        self.socket.setblocking(False)
        self.ends_at = monotonic() + limit_s
        self._slot.words[slots.LAST_PREDICT_NS] = 0
        payload, content_type = self._requests[0]
        self._unsent = memoryview(
            b"POST /predict HTTP/1.1\r\ncontent-type: %s\r\ncontent-length: %d\r\n"
            b"opc-request-id: check\r\n\r\n%s" % (content_type, len(payload), payload)
        )
        self._response = []

    @property
    def has_more_to_send(self):
        return bool(self._unsent)

    def advance(self):
        """Send and receive what can be without waiting. True when the response is complete."""
        try:
            if self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = memoryview(b"")
        try:
            while True:
                data = self.socket.recv(1 << 16)
                if not data:
                    return True
                self._response.append(data)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def result(self):
        """``(status, content type, body)``; status 0 if the child ended without a response."""
        head, _, body = b"".join(self._response).partition(b"\r\n\r\n")
        if not head:
            return 0, "", b""
        kind = head.lower().partition(b"\r\ncontent-type: ")[2].partition(b"\r\n")[0]
        return int(head.split(b" ", 2)[1]), kind.decode("ascii", "replace"), body

    @property
    def took_s(self):
        """Seconds that predict() took, measured by the child; 0 if it did not end."""
        return self._slot.words[slots.LAST_PREDICT_NS] / 1e9

    def cause(self):
        """How the child has ended, which has closed its connection; ``""`` if it still runs."""
        deadline = monotonic() + _WAIT_S
        while True:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return ""
            if pid:
                return cause_of(status)
            if monotonic() >= deadline:
                return ""
            sleep(0.001)

    def send_next(self, *, limit_s):
        """Send the next request; there must be one."""
        self._connections.pop(0).close()
        self._requests.pop(0)
        self._begin(limit_s)

    def close(self):
        """Close our ends."""
        for connection in self._connections:
            connection.close()

    def end(self):
        """Close our ends and kill the child if it still runs."""
        self.close()
        try:
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)  # not reaped yet: the pid is still its own
        except ChildProcessError:
            pass


def ask(request, run, *, limit_s):
    """A forked child's response to a Sample: ``(status, body)``, or None if it takes too long."""
    probe = Probe([request], run, limit_s=limit_s)
    complete = False
    while not complete and monotonic() < probe.ends_at:
        writable = [probe.socket] if probe.has_more_to_send else []
        select([probe.socket], writable, [], max(0.0, probe.ends_at - monotonic()))
        complete = probe.advance()
    status, _, body = probe.result()
    probe.end()
    return (status, body) if complete else None


def try_sample(sample, run):
    """Whether a forked child answers the sample: an outcome of ``forking``."""
    response = ask(sample, run, limit_s=forking.SAMPLE_LIMIT_S)
    if response is None:
        return forking.HUNG
    status = response[0]
    if status == 200:
        return forking.ANSWERED
    return forking.RAISED if status else forking.DIED
