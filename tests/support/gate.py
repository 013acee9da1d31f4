"""A gate that models wait at for as long as a test wants: what is under way stays so, however fast
or slow anybody is.

It is a port of this machine, because that is what every model may call, however it is isolated.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self

import pytest

WAIT_AT = """
import socket

def wait_at(gate):
    '''Until the gate at this port is open; an empty text is no gate.'''
    if gate:
        with socket.create_connection(("127.0.0.1", int(gate))) as waiting:
            waiting.recv(1)
"""
"""For a score.py."""


class Gate:
    """Shut at first. Who has come and waits is let in when it opens."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = str(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._is_open = False
        self._held: list[socket.socket] = []
        self._doorkeeper = threading.Thread(target=self._keep, name="gate")

    def __enter__(self) -> Self:
        self._doorkeeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Nobody is left waiting."""
        self.open()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._doorkeeper.join()
        self._listener.close()

    @property
    def waiting(self) -> int:
        """How many wait, among them those that have died waiting."""
        with self._lock:
            return len(self._held)

    def open(self) -> None:
        with self._lock:
            self._is_open = True
            while self._held:
                self._held.pop().close()

    def shut(self) -> None:
        with self._lock:
            self._is_open = False

    def _keep(self) -> None:
        while True:
            try:
                comer, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_open:
                    comer.close()
                else:
                    self._held.append(comer)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """One for a test, shut. Deployments that wait at it on loading must be deleted by its end."""
    with Gate() as made:
        yield made
