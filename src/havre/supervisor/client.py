"""The other side of the supervisor's socket: what the control plane and the commands call."""

import json
import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from havre.domain.errors import EngineFault
from havre.supervisor.protocol import ProcessSpec, ProcessStatus, encode

TIMEOUT_S = 10.0
QUEUE_POLL_S = 0.01


class SupervisorUnresponsive(EngineFault):
    """A supervisor is there, and does not answer in time: it is stopped, or has no processor."""


class SupervisorClient:
    """Speaks to the supervisor of one home, over a connection per call: safe from any thread.

    Every method raises EngineFault when the supervisor cannot be reached or refuses.
    """

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path

    def ping(self) -> dict[str, Any]:
        """What the server file has: host, port, url, version, supervisor; ``shutting_down``."""
        about: dict[str, Any] = self._call({"op": "ping"})["about"]
        return about

    def start(self, spec: ProcessSpec) -> ProcessStatus:
        """Start a process, or find it running from the same specification.

        Refused when one of this name runs from another specification, or left processes behind.
        """
        return ProcessStatus.from_json(
            self._call({"op": "start", "spec": spec.to_json()})["status"]
        )

    def renew(self, spec: ProcessSpec) -> ProcessStatus:
        """Have the next start of a process be from this specification; it itself runs on."""
        return ProcessStatus.from_json(
            self._call({"op": "renew", "spec": spec.to_json()})["status"]
        )

    def re_exec(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Have the supervisor go on as another program, under its own process id.

        Returns when it is about to. All it started runs on; the program adopts it.
        """
        self._call({"op": "become", "argv": list(argv), "environment": dict(environment)})

    def stop(self, name: str, *, grace_s: float | None = None) -> None:
        """End a process and its group, and forget it; returns when nothing of it runs.

        ``grace_s`` are the seconds between SIGTERM and SIGKILL; by default the specification's.
        An unknown name is fine.
        """
        # Without a time limit: the supervisor itself gives up on what even SIGKILL does not end.
        self._call({"op": "stop", "name": name, "grace_s": grace_s}, timeout_s=None)

    def inspect(self, name: str) -> ProcessStatus | None:
        """None for a name that was never started or was stopped."""
        status = self._call({"op": "inspect", "name": name})["status"]
        return None if status is None else ProcessStatus.from_json(status)

    def list(self) -> list[ProcessStatus]:
        statuses = self._call({"op": "list"})["statuses"]
        return [ProcessStatus.from_json(status) for status in statuses]

    def watch(self) -> Iterator[ProcessStatus]:
        """The status of every process now, then one at each change, for ever.

        A stopped process is reported once more, EXITED. Raises EngineFault when the supervisor
        ends.
        """
        with self._connect(timeout_s=None) as stream:
            _send(stream, {"op": "watch"})
            while True:
                yield ProcessStatus.from_json(_receive(stream)["event"])

    def shutdown(
        self, on_progress: Callable[[str], None] = lambda _: None, *, exit_code: int = 0
    ) -> None:
        """Stop everything and the supervisor itself; returns when it is done.

        ``exit_code`` is what the supervisor's program ends with. ``on_progress`` takes a sentence
        for each process that is stopped.
        """
        with self._connect(timeout_s=None) as stream:
            _send(stream, {"op": "shutdown", "exit_code": exit_code})
            while "progress" in (response := _receive(stream)):
                on_progress(response["progress"])
            _check(response)

    def _call(
        self, request: dict[str, Any], *, timeout_s: float | None = TIMEOUT_S
    ) -> dict[str, Any]:
        with self._connect(timeout_s=timeout_s) as stream:
            _send(stream, request)
            return _check(_receive(stream))

    @contextmanager
    def _connect(self, *, timeout_s: float | None) -> Iterator[BinaryIO]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            try:
                _reach(connection, self._path, timeout_s)
            except (BlockingIOError, TimeoutError) as error:
                # It has not even accepted those before us.
                raise SupervisorUnresponsive(
                    f"the supervisor at {self._path} does not answer"
                ) from error
            except OSError as error:
                raise EngineFault(
                    f"the supervisor at {self._path} cannot be reached ({error}); "
                    "start it with `havre up`"
                ) from error
            with connection.makefile("rwb") as stream:
                yield stream  # type: ignore[misc]


def _reach(connection: socket.socket, path: Path, timeout_s: float | None) -> None:
    """Connect. With a limit the system does not wait for a place in the queue: we do."""
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while True:
        try:
            connection.connect(str(path))
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(QUEUE_POLL_S)


def _send(stream: BinaryIO, request: dict[str, Any]) -> None:
    try:
        stream.write(encode(request))
        stream.flush()
    except OSError as error:
        raise EngineFault(f"the supervisor broke off: {error}") from error


def _receive(stream: BinaryIO) -> dict[str, Any]:
    try:
        line = stream.readline()
    except TimeoutError as error:
        raise SupervisorUnresponsive(
            f"the supervisor did not answer within {TIMEOUT_S:g} s"
        ) from error
    except OSError as error:
        raise EngineFault(f"the supervisor did not answer: {error}") from error
    if not line.endswith(b"\n"):
        raise EngineFault("the supervisor ended")
    response: dict[str, Any] = json.loads(line)
    return response


def _check(response: dict[str, Any]) -> dict[str, Any]:
    if not response["ok"]:
        raise EngineFault(response["error"])
    return response
