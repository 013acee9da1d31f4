"""Which process is meant: a pid alone is reused, so it is never enough to signal anything.

Descriptors of processes need Linux 5.3, and not every sandbox lets them through. Without them a
process is looked at just before it is signalled: nearly as good, for numbers come round slowly.

Figures are those of ``/proc/PID/stat`` (Linux, proc(5)): state is field 3, the process group
field 5, the session field 6, the start time field 22, in clock ticks since the machine's boot.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot of one machine, for ever."""

    pid: int
    start_time: int
    boot_id: str

    @classmethod
    def from_json(cls, stored: Any) -> "Identity":
        """Raises ValueError, TypeError and KeyError for what cannot be one."""
        identity = cls(**stored)
        if type(identity.pid) is not int or type(identity.start_time) is not int:
            raise ValueError(f"pid {identity.pid!r} with start time {identity.start_time!r}")
        if identity.pid <= 0 or not isinstance(identity.boot_id, str):
            raise ValueError(f"pid {identity.pid} of boot {identity.boot_id!r}")
        return identity


@dataclass(frozen=True, slots=True)
class Stat:
    """What the kernel reports of a process at this moment."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_time: int

    @property
    def is_dead(self) -> bool:
        """A zombie runs nothing: it only waits for its parent to read its exit code."""
        return self.state in "ZX"

    @property
    def is_stopped(self) -> bool:
        """By a signal or a debugger: it does nothing until it is continued."""
        return self.state in "Tt"


@cache
def boot_id() -> str:
    """The kernel's name for this boot; in a sandbox that hides it, the time of the boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        lines = Path("/proc/stat").read_text().splitlines()
        return next(line for line in lines if line.startswith("btime "))


def read_stat(pid: int) -> Stat | None:
    """None when no such process exists, or none that we may look at."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):  # it may end while being read
        return None
    except PermissionError:  # /proc hides what others run (hidepid=1)
        return None
    # The second field is the program's own name: anything, in brackets, brackets included.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start_time=int(fields[19]),
    )


def identify(pid: int) -> Identity | None:
    """The identity of a living process or of a zombie."""
    stat = read_stat(pid)
    return None if stat is None else Identity(pid, stat.start_time, boot_id())


def is_running(identity: Identity) -> bool:
    """Whether this very process runs: same boot, same pid, same start, not a zombie."""
    if identity.boot_id != boot_id():
        return False
    stat = read_stat(identity.pid)
    return stat is not None and stat.start_time == identity.start_time and not stat.is_dead


def open_pidfd(identity: Identity) -> int | None:
    """A descriptor that can mean no other process, or None if this one does not run any more.

    Raises OSError where none is to be had.
    """
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Looked at after opening: whatever the pid meant before, the descriptor means this.
    if is_running(identity):
        return descriptor
    os.close(descriptor)
    return None


def send_signal(
    identity: Identity, number: int, *, only_if: Callable[[], bool] = lambda: True
) -> bool:
    """Signal this very process; False if it does not run any more.

    ``only_if`` is asked while the number cannot come to mean another. Raises PermissionError.
    """
    try:
        descriptor = open_pidfd(identity)
    except OSError:
        return _send_by_number(identity, number, only_if)
    if descriptor is None:
        return False
    try:
        if not only_if():
            return False
        signal.pidfd_send_signal(descriptor, signal.Signals(number))
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def living_processes() -> list[Stat]:
    """Every process of the machine that we may look at, zombies left out."""
    stats = (read_stat(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return [stat for stat in stats if stat is not None and not stat.is_dead]


def _send_by_number(identity: Identity, number: int, only_if: Callable[[], bool]) -> bool:
    try:
        if not (only_if() and is_running(identity)):
            return False
        os.kill(identity.pid, number)
    except ProcessLookupError:
        return False
    return True
