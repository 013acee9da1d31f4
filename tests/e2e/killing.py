"""SIGKILL for the processes of a server, and waiting for their end."""

import contextlib
import os
import signal

import psutil
from tests.e2e.operated_server import OperatedServer, wait_for

from havre.supervisor.protocol import Phase


def kill(operated: OperatedServer, name: str) -> int:
    """One of the supervisor's processes; gone, or another one, when this returns. Its pid."""
    status = operated.processes()[name]
    assert status.phase is Phase.RUNNING
    os.kill(status.pid, signal.SIGKILL)
    wait_for(
        f"the end of {name}",
        lambda: (
            (now := operated.processes().get(name)) is None
            or now.pid != status.pid
            or now.phase is not Phase.RUNNING
        ),
    )
    return status.pid


def kill_supervisor(operated: OperatedServer) -> int:
    process = psutil.Process(operated.supervisor_pid())
    process.kill()
    wait_for("the supervisor's end", lambda: not is_alive(process))
    return process.pid


def kill_everything(operated: OperatedServer) -> set[int]:
    """Every process of the home, at once."""
    everything = [psutil.Process(operated.supervisor_pid())]  # it would restart
    for pid in operated.pids().values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            everything += [process, *process.children(recursive=True)]
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for("the end of it all", lambda: not any(map(is_alive, everything)))
    return {process.pid for process in everything}


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
