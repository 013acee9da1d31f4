"""Who is connected to the control socket. Nobody is waited for: who does not read is cut off."""

import os
import resource
import selectors
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from havre.supervisor.connection import Connection

BACKLOG = 128
LAST_WORD_S = 1.0


class Clients:
    """``selector`` names this object when a client wants to be accepted, and a Connection when
    there is something to receive.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._listener: socket.socket | None = None
        self._connections: dict[socket.socket, Connection] = {}

    def listen(self, path: Path) -> None:
        """Open the socket, for its owner alone; in place of an earlier one. Raises OSError."""
        path.unlink(missing_ok=True)
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(mask)
        self._listener.listen(BACKLOG)
        self._selector.register(self._listener, selectors.EVENT_READ, self)

    def accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        # Descriptors must be left for processes: the oldest connection is dropped.
        if len(self._connections) >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2:
            self._drop(next(iter(self._connections.values())))
        connection = Connection(sock)
        self._connections[sock] = connection
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def receive(self, connection: Connection) -> list[dict[str, Any]]:
        """The requests that are complete now; sends on what waited."""
        if connection.sock not in self._connections:
            return []  # dropped since it was selected
        try:
            connection.flush()
            self._choose_events(connection)
            return connection.receive()
        except BlockingIOError:
            return []
        except (ConnectionError, TimeoutError):
            self._drop(connection)
            return []

    def send(self, connection: Connection, message: Mapping[str, Any]) -> None:
        if connection.sock not in self._connections:
            return
        try:
            connection.send(message)
        except (ConnectionError, TimeoutError):
            self._drop(connection)
        else:
            self._choose_events(connection)

    def send_to_watchers(self, message: Mapping[str, Any]) -> None:
        for connection in list(self._connections.values()):
            if connection.is_watching:
                self.send(connection, message)

    def send_last(self, connection: Connection, message: Mapping[str, Any]) -> None:
        """What nobody will send on later."""
        if connection.sock in self._connections:
            connection.sock.settimeout(LAST_WORD_S)
            self.send(connection, message)

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)

    def _choose_events(self, connection: Connection) -> None:
        events = selectors.EVENT_READ
        if connection.wants_to_send:
            events |= selectors.EVENT_WRITE
        self._selector.modify(connection.sock, events, connection)

    def _drop(self, connection: Connection) -> None:
        del self._connections[connection.sock]
        self._selector.unregister(connection.sock)
        connection.close()
