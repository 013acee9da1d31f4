"""One client of the supervisor: lines in, lines out, never waiting for a slow reader."""

import json
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any

from havre.supervisor.protocol import LINE_LIMIT, encode

UNREAD_LIMIT = 8 * 1024 * 1024
"""Bytes a client may leave unread before it is cut off."""


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.is_watching = False
        self._received = bytearray()
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0

    @property
    def wants_to_send(self) -> bool:
        return bool(self._unsent)

    def receive(self) -> list[dict[str, Any]]:
        """The requests that are complete now. Raises ConnectionError when this client is gone."""
        chunk = self.sock.recv(65536)
        if not chunk:
            raise ConnectionResetError
        self._received += chunk
        requests = []
        while (end := self._received.find(b"\n")) >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            requests.append(_parse(line))
        if len(self._received) > LINE_LIMIT:
            raise ConnectionAbortedError
        return requests

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue a line and send what the client takes. Raises ConnectionError like `receive`."""
        line = encode(message)
        self._unsent.append(line)
        self._unsent_bytes += len(line)
        if self._unsent_bytes > UNREAD_LIMIT:
            raise ConnectionAbortedError
        self.flush()

    def flush(self) -> None:
        while self._unsent:
            line = self._unsent[0]
            try:
                sent = self.sock.send(line)
            except BlockingIOError:
                return
            self._unsent_bytes -= sent
            if sent < len(line):
                self._unsent[0] = line[sent:]
            else:
                self._unsent.popleft()

    def close(self) -> None:
        self.sock.close()


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConnectionAbortedError from error
    if not isinstance(request, dict):
        raise ConnectionAbortedError
    return request
