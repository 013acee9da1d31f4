"""The lock of an environment while it is made, and the process that holds it.

The builder writes its identity into the lock's file; a waiting process can then report who builds,
since when, and how to end it. The guards of the programs that a build runs hold the lock too, until
those have ended: when a builder dies they end within seconds. A process that still holds the lock
after that is stuck, and is ended.

A second lock beside it is the turn, held for a moment: only in turn does a process open the lock's
file, acquire the lock or end its holder. So a process that has the file open is no waiter, and the
owner is the one that is written in it.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from havre.domain.progress import Progress
from havre.durable import file_lock, try_lock
from havre.supervisor.guard import END_LIMIT_S
from havre.supervisor.identity import Identity, identify, is_running, send_signal

STALE_AFTER_S = END_LIMIT_S + 10.0
"""What a builder that died has left gets so long to end by itself."""
_POLL_S = 0.1
_MAX_READ_BYTES = 4096
_CONTROL_PLANE = "havre.service"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that makes the environment, ``since`` seconds after the epoch."""

    process: Identity
    since: float

    def described(self, now: float) -> str:
        """Who it is, for how long, and how to end it."""
        pid, age = self.process.pid, _age(now - self.since)
        if pid == os.getpid():
            return (
                f"by this server, for {age} (`havre cancel NAME` calls a deployment's change off)"
            )
        if _CONTROL_PLANE in _command_of(pid):
            return (
                f"by the server (pid {pid}), for {age}; `havre cancel NAME`, with the deployment "
                "that needs it, ends it"
            )
        return f"by process {pid}, for {age}; `kill {pid}` ends it"


@contextmanager
def held(path: Path, what: str, progress: Progress) -> Iterator[int]:
    """Hold the lock; yields its descriptor. ``what`` is being made, for who waits."""
    lock = _take(path, what, progress)
    try:
        yield lock
    finally:
        _release(lock)


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock unless somebody else does; yields whether it is held."""
    with _turn(path):
        lock = _try(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            _release(lock)


def read(path: Path) -> Owner | None:
    """Who has the lock, as was written down; None where nothing was."""
    try:
        with path.open("rb") as file:
            stored = json.loads(file.read(_MAX_READ_BYTES))
        return Owner(Identity.from_json(stored["process"]), float(stored["since"]))
    except (KeyError, OSError, RecursionError, TypeError, ValueError):
        return None


def _take(path: Path, what: str, progress: Progress) -> int:
    reported: Owner | None = None
    has_reported, dead_since = False, None
    while True:
        with _turn(path):
            if (lock := _try(path)) is not None:
                return lock
            owner = read(path)
        now = time.monotonic()
        if not has_reported or (owner is not None and owner != reported):
            reported, has_reported = owner, True
            who = owner.described(time.time()) if owner is not None else "already"
            progress(f"waiting: {what} is being built {who}")
        if owner is None or is_running(owner.process):
            dead_since = None
        elif dead_since is None:
            dead_since = now
        elif now - dead_since > STALE_AFTER_S:
            if ended := _end(path, owner):
                pids = ", ".join(str(process.pid) for process in ended)
                progress(
                    f"ending what is left of a build of {what} by process {owner.process.pid}, "
                    f"which has ended: {pids}"
                )
            dead_since = None
        time.sleep(_POLL_S)


def _turn(path: Path) -> AbstractContextManager[int]:
    return file_lock(path.with_suffix(".turn"))


def _try(path: Path) -> int | None:
    """The lock, with who we are written into it; None if somebody else has it. In turn only."""
    lock = try_lock(path)
    if lock is not None:
        _write(lock)
    return lock


def _release(lock: int) -> None:
    with suppress(OSError):
        os.truncate(lock, 0)
    os.close(lock)


def _end(path: Path, owner: Owner) -> list[Identity]:
    """End what this owner, who is dead, has left, unless another has the lock by now."""
    with _turn(path):
        if read(path) != owner:
            return []
        if (lock := try_lock(path)) is not None:
            os.close(lock)
            return []
        left = _who_has_open(path)
        for process in left:
            with suppress(PermissionError):
                send_signal(process, signal.SIGKILL)
        return left


def _who_has_open(path: Path) -> list[Identity]:
    """The processes, other than this, that have the file open and that we may look at."""
    held_file = path.stat()
    holders = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with suppress(OSError):
            names = os.listdir(f"/proc/{entry}/fd")
            if any(_is(f"/proc/{entry}/fd/{name}", held_file) for name in names):
                holders.append(identify(int(entry)))
    return [process for process in holders if process is not None]


def _is(path: str, held_file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), held_file)
    except OSError:
        return False


def _write(lock: int) -> None:
    myself = identify(os.getpid())
    with suppress(OSError):  # the build reports a full disk
        os.truncate(lock, 0)
        if myself is not None:
            os.pwrite(lock, json.dumps(asdict(Owner(myself, time.time()))).encode(), 0)


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
