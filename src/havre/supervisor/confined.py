"""Runs foreign code once, confined, in any process of ours: a server, a command, a thread.

What runs for as long as a server does is the supervisor's. Everything else that is not our own code
(a build, a pack's programs, an environment's Python, a trial of a model) is run here.
"""

import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import havre
from havre.home import Home
from havre.supervisor.cgroups import Cgroups, find_trees
from havre.supervisor.guard import END_LIMIT_S
from havre.supervisor.protocol import ProcessSpec
from havre.supervisor.spawn import SpawnFault

OTHERS_READ = 0o022

_GUARD = """
import sys
sys.path.insert(0, sys.argv[1])
from havre.supervisor.guard import main
main()
"""
_OURS = str(Path(havre.__file__).parent.parent)
_READ = 65536


class Confined:
    """A started program. ``warnings``: what this machine does not do of its confinement."""

    def __init__(self, guard: "subprocess.Popen[bytes]", name: str) -> None:
        self.warnings: tuple[str, ...] = ()
        self._guard = guard
        self._name = name
        self._pending = b""
        self._exit_code: int | None = None
        while (report := self._next_report(None)) != ["started"]:
            if report is None or report[0] == "fault":
                raise SpawnFault(
                    report[1] if report else f"{name}: its guard ended before it began"
                )
            self.warnings += (report[1],)

    def wait(self, limit_s: float) -> int | None:
        """Its exit code (negative for a signal), once nothing that it started runs any more.

        None if it has not ended within ``limit_s``.
        """
        deadline = time.monotonic() + limit_s
        while self._exit_code is None:
            left_s = deadline - time.monotonic()
            report = self._next_report(max(0.0, left_s))
            if report is None:
                if self._guard.poll() is not None:
                    self._exit_code = -9  # somebody killed the guard, and the kernel the rest
                elif left_s <= 0:
                    return None
            elif report[0] == "ended":
                self._exit_code = int(report[1])
        return self._exit_code

    def _next_report(self, limit_s: float | None) -> list[str] | None:
        """The guard's next word; None when there is none in time, or will be none."""
        assert self._guard.stdout is not None
        descriptor = self._guard.stdout.fileno()
        while b"\n" not in self._pending:
            # Not select(2): a server has more descriptors than that can name.
            poller = select.poll()
            poller.register(descriptor, select.POLLIN | select.POLLHUP)
            if not poller.poll(None if limit_s is None else limit_s * 1000):
                return None
            read = os.read(descriptor, _READ)
            if not read:
                with suppress(subprocess.TimeoutExpired):
                    self._guard.wait(END_LIMIT_S)
                return None
            self._pending += read
        line, _, self._pending = self._pending.partition(b"\n")
        report: list[str] = json.loads(line)
        return report


@contextmanager
def started(
    spec: ProcessSpec, home: Home, *, umask: int = OTHERS_READ, held: Sequence[int] = ()
) -> Iterator[Confined]:
    """Start a program under its confinement; it ends with the ``with``, and with this process.

    It gets SIGTERM and, after its ``stop_grace_s``, SIGKILL; so does all that it has started.
    ``held`` are descriptors that stay open until nothing of it runs, even when this process is
    killed: a lock among them is held for as long. Raises SpawnFault (it did not start), OSError.
    """
    spec = replace(spec, name=f"{spec.name}-{os.getpid()}-{secrets.token_hex(4)}")
    groups = home.root / "confined"
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, _OURS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"LC_ALL": "C.UTF-8"},
        pass_fds=tuple(held),
        start_new_session=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    with guard.stdout:
        try:
            request = {"spec": spec.to_json(), "groups": str(groups), "umask": umask}
            with suppress(BrokenPipeError):
                guard.stdin.write(json.dumps(request).encode() + b"\n")
                guard.stdin.flush()
            yield Confined(guard, spec.name)
        finally:
            with suppress(BrokenPipeError):
                guard.stdin.close()
            if guard.wait() != 0:
                # It was killed: what it held together is found by its group.
                Cgroups(find_trees(is_root=os.geteuid() == 0), groups).kill(spec.name)
