"""A keeper as the system sees it: how old it is, what holds it up; and its end."""

import os
import signal
import time
from dataclasses import dataclass

from havre.supervisor.identity import Identity, boot_id, send_signal
from havre.supervisor.protocol import ProcessStatus

_STATE, _USER, _SYSTEM = 0, 11, 12
"""Fields of /proc/PID/stat, counted from the one after the program's name; see proc(5)."""
_HELD_UP = "RD"
"""Running or ready to, and waiting for a disk, as for memory that was swapped out."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Of its main thread: whether it may only be waiting for the machine, and how long it ran."""

    is_held_up: bool = True
    cpu_s: float = 0.0


def standing(pid: int) -> Standing:
    """Why a keeper that does not answer may not. One that cannot be looked at may be held up."""
    try:
        with open(f"/proc/{pid}/task/{pid}/stat", "rb") as file:
            text = file.read()
        fields = text[text.rindex(b")") + 2 :].split()
        ticks = int(fields[_USER]) + int(fields[_SYSTEM])
        return Standing(fields[_STATE].decode() in _HELD_UP, ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return Standing()


def end(process: ProcessStatus) -> None:
    """The keeper alone: its copies notice, and serve on."""
    send_signal(Identity(process.pid, process.start_time, boot_id()), signal.SIGKILL)


def age_s(process: ProcessStatus) -> float:
    """Seconds since the process began; both figures count from the machine's boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_time / os.sysconf("SC_CLK_TCK")
