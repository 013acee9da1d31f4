"""Whether a home has a supervisor, and what to do about one that cannot be reached."""

import signal
import time
from typing import Any

from havre.domain.errors import EngineFault, SystemFault
from havre.home import Home
from havre.supervisor import orphans, records, server_file
from havre.supervisor.client import SupervisorClient, SupervisorUnresponsive
from havre.supervisor.identity import Identity, is_running, read_stat, send_signal

BACK_WITHIN_S = 10.0
"""A supervisor notices within seconds that its socket is gone, and opens another."""
ENDS_WITHIN_S = 120.0
POLL_S = 0.05


class Unreachable(SystemFault):
    """A supervisor runs, but its socket is gone. ``supervisor`` is its process."""

    def __init__(self, home: Home, supervisor: Identity) -> None:
        self.supervisor = supervisor
        super().__init__(
            f"the supervisor of {home.root} (pid {supervisor.pid}) runs, but its socket "
            f"{home.supervisor_socket} is gone; `havre down` ends it with all it started, then "
            "`havre up` starts it again"
        )


def running(home: Home) -> dict[str, Any] | None:
    """What the home's supervisor reports of itself; None when there is none.

    Raises SystemFault, saying what to do, when it does not respond; Unreachable when it has no
    socket and does not open another.
    """
    try:
        return SupervisorClient(home.supervisor_socket).ping()
    except SupervisorUnresponsive as error:
        raise SystemFault(_why_silent(home)) from error
    except EngineFault:
        pass
    supervisor = server_file.running_supervisor(home) or orphans.supervisor_of(home)
    if supervisor is None:
        return None
    _check_not_stopped(home, supervisor)
    deadline = time.monotonic() + BACK_WITHIN_S
    while is_running(supervisor):
        if (about := responding(home)) is not None:
            return about
        if time.monotonic() > deadline:
            raise Unreachable(home, supervisor)
        time.sleep(POLL_S)
    return None


def responding(home: Home) -> dict[str, Any] | None:
    """What the home's supervisor reports of itself; None while none responds."""
    try:
        return SupervisorClient(home.supervisor_socket).ping()
    except EngineFault:
        return None


def end_unreachable(home: Home, supervisor: Identity) -> None:
    """Have it stop everything, and wait until it has. Raises SystemFault if it does not."""
    _check_not_stopped(home, supervisor)
    send_signal(supervisor, signal.SIGTERM)
    deadline = time.monotonic() + ENDS_WITHIN_S
    while is_running(supervisor):
        if time.monotonic() > deadline:
            raise SystemFault(
                f"the supervisor of {home.root} (pid {supervisor.pid}) has not ended within "
                f"{ENDS_WITHIN_S:g} s of SIGTERM; {_remedy(supervisor.pid)}"
            )
        time.sleep(POLL_S)


def left_running(home: Home) -> list[str]:
    """Names of processes that live though their supervisor does not, recorded or not."""
    loaded, _ = records.load_all(home.processes)
    names = [record.spec.name for record in loaded if is_running(record.identity)]
    recorded = {record.spec.name for record in loaded} | set(
        records.running_strangers(home.processes)
    )
    return sorted({*names, *(name for name, _ in orphans.find(home, recorded))})


def _why_silent(home: Home) -> str:
    supervisor = server_file.running_supervisor(home) or orphans.supervisor_of(home)
    if supervisor is None:
        return f"the supervisor of {home.root} does not answer"
    return _why_stopped(home, supervisor) or (
        f"the supervisor of {home.root} (pid {supervisor.pid}) does not answer; try again, or "
        f"{_remedy(supervisor.pid)}"
    )


def _check_not_stopped(home: Home, supervisor: Identity) -> None:
    if reason := _why_stopped(home, supervisor):
        raise SystemFault(reason)


def _why_stopped(home: Home, supervisor: Identity) -> str:
    stat = read_stat(supervisor.pid)
    if stat is None or not stat.is_stopped:
        return ""
    return (
        f"the supervisor of {home.root} (pid {supervisor.pid}) is stopped, as Ctrl-Z does it; let "
        f"it go on with `fg` or `kill -CONT {supervisor.pid}`, or {_remedy(supervisor.pid)}"
    )


def _remedy(pid: int) -> str:
    return (
        f"end it with `kill -KILL {pid}`: what it started serves on, `havre up` takes that over "
        "and `havre down` ends it"
    )
