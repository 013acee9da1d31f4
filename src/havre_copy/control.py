"""The keeper's control socket: a JSON object a line in, one out. Never blocks the keeper.

Peers that send too much or too slowly, or do not read their responses, are dropped; so is the one
that has been silent longest when too many are connected.
"""

import json
import selectors
from time import monotonic

MAX_CONNECTIONS = 16
MAX_LINE_BYTES = 16 * 1024 * 1024  # more than the largest prediction request in base64
MAX_BACKLOG_BYTES = 2 * MAX_LINE_BYTES
STALL_S = 5.0
_READ = 64 * 1024


class Control:
    """``handle(request, reply)`` gets each parsed object.

    ``reply(response)`` may be called later, and more than once; it returns False if the peer is
    gone.
    """

    def __init__(self, *, listener, selector, handle):
        listener.setblocking(False)
        self._listener = listener
        self._selector = selector
        self._handle = handle
        self._peers = []
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def next_wake(self):
        """When a stalled peer must be dropped (``monotonic()``), or None."""
        times = [peer.stalls_at for peer in self._peers if peer.stalls_at is not None]
        return min(times) if times else None

    def drop_stalled(self):
        now = monotonic()
        for peer in list(self._peers):
            if peer.stalls_at is not None and peer.stalls_at <= now:
                peer.close()

    def close(self):
        """In a forked child: close everything; the peers do not notice."""
        for peer in self._peers:
            peer.socket.close()
        self._listener.close()

    def _accept(self, _events):
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return
        if len(self._peers) >= MAX_CONNECTIONS:
            min(self._peers, key=lambda peer: peer.active_at).close()
        self._peers.append(_Peer(accepted, self._selector, self._handle, self._peers))


class _Peer:
    def __init__(self, accepted, selector, handle, peers):
        accepted.setblocking(False)
        self.socket = accepted
        self.active_at = monotonic()
        self.stalls_at = None  # None while no line is incomplete
        self._selector = selector
        self._handle = handle
        self._peers = peers
        self._in = bytearray()
        self._out = bytearray()
        selector.register(accepted, selectors.EVENT_READ, self._on_event)

    def close(self):
        if self in self._peers:
            self._peers.remove(self)
            self._selector.unregister(self.socket)
            self.socket.close()

    def _on_event(self, events):
        # The response to another request may have closed it since the event was reported.
        if events & selectors.EVENT_WRITE and self in self._peers:
            self._write()
        if events & selectors.EVENT_READ and self in self._peers:
            self._read()

    def _read(self):
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.active_at = monotonic()
        self._in += data
        lines = []
        if b"\n" in data:
            *lines, self._in = self._in.split(b"\n")
        if len(self._in) > MAX_LINE_BYTES:
            self.close()
            return
        for line in lines:
            if line.strip():
                self._serve(line)
        self._note_stall()

    def _serve(self, line):
        try:
            request = json.loads(line.decode("utf-8"))
            if not isinstance(request, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            self._reply({"error": "a request is a JSON object on one line: %s" % error})
            return
        self._handle(request, self._reply)

    def _reply(self, response):
        if self in self._peers:
            self._out += json.dumps(response).encode("ascii") + b"\n"
            if len(self._out) > MAX_BACKLOG_BYTES:
                self.close()
            else:
                self._write()
        return self in self._peers

    def _write(self):
        try:
            if self._out:
                del self._out[: self.socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        self._selector.modify(self.socket, events, self._on_event)
        self._note_stall()

    def _note_stall(self):
        half_done = bool(self._in or self._out)
        if not half_done:
            self.stalls_at = None
        elif self.stalls_at is None:
            self.stalls_at = monotonic() + STALL_S
