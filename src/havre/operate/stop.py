"""Stopping the server of a home, and all that it started."""

import subprocess
import sys
import time

from havre.domain.errors import SystemFault
from havre.domain.progress import Progress
from havre.home import Home
from havre.operate import presence
from havre.supervisor.client import SupervisorClient
from havre.supervisor.identity import Identity, is_running

GONE_WITHIN_S = 10.0
POLL_S = 0.05


def stop(home: Home, progress: Progress) -> str:
    """What was stopped, in words; "" when nothing ran. Raises SystemFault, EngineFault."""
    try:
        about = presence.running(home)
    except presence.Unreachable as error:
        progress("stopping a supervisor that has lost its socket")
        presence.end_unreachable(home, error.supervisor)
        return "what was running"
    if about is not None:
        SupervisorClient(home.supervisor_socket).shutdown(progress)
        _wait_until_gone(Identity(**about["supervisor"]))
        return str(about["url"])
    if presence.left_running(home):
        progress("stopping what a dead supervisor left")
        _end_leftovers(home)
        return "what was left running"
    return ""


def _wait_until_gone(supervisor: Identity) -> None:
    """The port and the lock are free only then."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while is_running(supervisor) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _end_leftovers(home: Home) -> None:
    """The supervisor's own code ends them: it takes them over only to shut down."""
    command = [sys.executable, "-P", "-m", "havre.supervisor", "--home", str(home.root), "--end"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemFault(done.stderr.strip().removeprefix("havre: "))
