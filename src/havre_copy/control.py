"""The keeper's control socket: a JSON object a line in, one out. Never blocks the keeper.

Peers that send too much, too slowly, or do not read their answers are dropped; so is whoever has
been silent longest when too many are connected.
"""

import json
import selectors
from time import monotonic

MOST_CONNECTIONS = 16
LONGEST_LINE = 16 * 1024 * 1024  # the largest request there is, in base64, and then some
LONGEST_BACKLOG = 2 * LONGEST_LINE
STALL_S = 5.0
_READ = 64 * 1024


class Control:
    """``handle(request, reply)`` gets each parsed object.

    ``reply(answer)`` may come later, and more than once; False says that nobody is there any more.
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
        """In a forked child: let go of everything, telling the peers nothing."""
        for peer in self._peers:
            peer.socket.close()
        self._listener.close()

    def _accept(self, _events):
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return
        if len(self._peers) >= MOST_CONNECTIONS:
            min(self._peers, key=lambda peer: peer.heard_at).close()
        self._peers.append(_Peer(accepted, self._selector, self._handle, self._peers))


class _Peer:
    def __init__(self, accepted, selector, handle, peers):
        accepted.setblocking(False)
        self.socket = accepted
        self.heard_at = monotonic()
        self.stalls_at = None  # None while nothing is half done
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
        # An answer to another request may have closed it since the event was seen.
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
        self.heard_at = monotonic()
        self._in += data
        lines = []
        if b"\n" in data:
            *lines, self._in = self._in.split(b"\n")
        if len(self._in) > LONGEST_LINE:
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

    def _reply(self, answer):
        if self in self._peers:
            self._out += json.dumps(answer).encode("ascii") + b"\n"
            if len(self._out) > LONGEST_BACKLOG:
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
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        self._selector.modify(self.socket, wanted, self._on_event)
        self._note_stall()

    def _note_stall(self):
        half_done = bool(self._in or self._out)
        if not half_done:
            self.stalls_at = None
        elif self.stalls_at is None:
            self.stalls_at = monotonic() + STALL_S
