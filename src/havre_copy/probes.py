"""Predictions that are nobody's request: asked of a forked child, with a time limit.

The child is an ordinary copy at the other end of a socket pair, so a probe takes the same way
through the wire as a request does; the keeper itself never calls ``predict()``.
"""

import os
import signal
import sys
import warnings
from socket import AF_UNIX, SO_SNDBUF, SOCK_STREAM, SOL_SOCKET, socketpair
from time import monotonic

from havre_copy import forking
from havre_copy.journal import flush_user_output


class Probe:
    """A child that answers one request. ``body(connection)`` runs in it."""

    def __init__(self, payload, content_type, body, *, limit_s):
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        self.socket = ours
        self.ends_at = monotonic() + limit_s
        self._request = (
            b"POST /predict HTTP/1.1\r\ncontent-type: %s\r\ncontent-length: %d\r\n"
            b"opc-request-id: check\r\n\r\n%s" % (content_type, len(payload), payload)
        )
        self._answer = []
        flush_user_output()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.pid = os.fork()
        if not self.pid:
            try:
                ours.close()
                body(theirs)
                flush_user_output()
            finally:
                sys.stdout = sys.stderr = None
                os._exit(0)
        theirs.close()
        ours.setsockopt(SOL_SOCKET, SO_SNDBUF, 1 << 20)
        ours.setblocking(False)

    @property
    def has_more_to_send(self):
        return bool(self._request)

    def advance(self):
        """Send and receive what can be without waiting. True when the answer is complete."""
        try:
            if self._request:
                self._request = self._request[self.socket.send(self._request) :]
        except BlockingIOError:
            pass
        except OSError:
            self._request = b""
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

    def end(self):
        """Close our end and kill the child if it still runs."""
        self.socket.close()
        try:
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
        except ChildProcessError:
            pass


def try_sample(sample, body, wait):
    """Whether a forked child answers the sample: an outcome of ``forking``.

    ``wait(probe)`` returns when the probe's socket is ready or its time is over.
    """
    probe = Probe(sample, b"application/json", body, limit_s=forking.SAMPLE_LIMIT_S)
    complete = False
    while not complete and monotonic() < probe.ends_at:
        wait(probe)
        complete = probe.advance()
    status = probe.result()[0]
    probe.end()
    if not complete:
        return forking.HUNG
    if status == 200:
        return forking.ANSWERED
    return forking.RAISED if status else forking.DIED
