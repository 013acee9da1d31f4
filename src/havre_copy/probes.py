"""Predictions that are nobody's request: asked of a forked child, with a time limit.

The child is an ordinary copy at the other end of socket pairs, so a probe takes the same way
through the wire as a request does; the keeper itself never calls ``predict()``.
"""

import os
import signal
import sys
import warnings
from select import select
from socket import AF_UNIX, SO_SNDBUF, SOCK_STREAM, SOL_SOCKET, socketpair
from time import monotonic

from havre_copy import forking, slots
from havre_copy.streams import flush_user_output


class Probe:
    """A child that answers requests, each a ``samples.Sample``, one after the other.

    ``body(connections, slot)`` runs in it: a connection per request, and a slot that is its own.
    Raises OSError if the system has no process or no descriptors for it.
    """

    def __init__(self, requests, body, *, limit_s):
        self._requests = list(requests)
        self._slot = slots.Table(1).slots[0]
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
                body([theirs for _, theirs in pairs], self._slot)
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
        self._slot.words[slots.TOOK] = 0
        payload, content_type = self._requests[0]
        self._unsent = memoryview(
            b"POST /predict HTTP/1.1\r\ncontent-type: %s\r\ncontent-length: %d\r\n"
            b"opc-request-id: check\r\n\r\n%s" % (content_type, len(payload), payload)
        )
        self._answer = []

    @property
    def has_more_to_send(self):
        return bool(self._unsent)

    def advance(self):
        """Send and receive what can be without waiting. True when the answer is complete."""
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
                self._answer.append(data)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def result(self):
        """``(status, content type, body)``; status 0 if the child ended without an answer."""
        head, _, body = b"".join(self._answer).partition(b"\r\n\r\n")
        if not head:
            return 0, "", b""
        kind = head.lower().partition(b"\r\ncontent-type: ")[2].partition(b"\r\n")[0]
        return int(head.split(b" ", 2)[1]), kind.decode("ascii", "replace"), body

    @property
    def took_s(self):
        """Seconds that predict() took, as the child measured it; 0 if it did not end."""
        return self._slot.words[slots.TOOK] / 1e9

    def go_on(self, *, limit_s):
        """Ask the next request; there must be one."""
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
                os.kill(self.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
        except ChildProcessError:
            pass


def ask(request, body, *, limit_s):
    """What a forked child answers to a Sample: ``(status, body)``, or None if it is not in time."""
    probe = Probe([request], body, limit_s=limit_s)
    complete = False
    while not complete and monotonic() < probe.ends_at:
        wanted = [probe.socket] if probe.has_more_to_send else []
        select([probe.socket], wanted, [], max(0.0, probe.ends_at - monotonic()))
        complete = probe.advance()
    status, _, answer = probe.result()
    probe.end()
    return (status, answer) if complete else None


def try_sample(sample, body):
    """Whether a forked child answers the sample: an outcome of ``forking``."""
    told = ask(sample, body, limit_s=forking.SAMPLE_LIMIT_S)
    if told is None:
        return forking.HUNG
    status = told[0]
    if status == 200:
        return forking.ANSWERED
    return forking.RAISED if status else forking.DIED
