"""What deployments leave behind when they are gone, which is nothing."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
from tests.e2e.operated_server import OperatedServer, wait_for

from havre.supervisor.protocol import BALANCER, CONTROL_PLANE, TELEMETRY

CGROUPS = Path("/sys/fs/cgroup")


def standing(operated: OperatedServer) -> dict[str, psutil.Process]:
    """The processes that run for good."""
    pids = operated.pids()
    return {
        CONTROL_PLANE: psutil.Process(pids[CONTROL_PLANE]),
        BALANCER: psutil.Process(pids[BALANCER]),
        TELEMETRY: psutil.Process(pids[TELEMETRY]),
        "supervisor": psutil.Process(operated.supervisor_pid()),
    }


def is_empty(operated: OperatedServer) -> bool:
    """Whether no instance is left: no process, folder, socket or record of one."""
    mark = str(operated.home.root)
    return (
        set(operated.processes()) == {CONTROL_PLANE, BALANCER, TELEMETRY}
        and list(operated.home.instances.iterdir()) == []
        and list(operated.home.instance_sockets.iterdir()) == []
        and len(list(operated.home.processes.iterdir())) == 3
        and sum(mark in " ".join(words) for words in commands()) == 4
    )


def commands() -> Iterator[list[str]]:
    for process in psutil.process_iter(["cmdline"]):
        yield process.info["cmdline"] or []


def wait_for_no_more(operated: OperatedServer, files: set[str]) -> None:
    """Until there are no others than these files, nor half-written ones of whoever is writing."""
    more: set[str] = set()

    def are_gone() -> bool:
        nonlocal more
        with contextlib.suppress(FileNotFoundError):  # it went while it was looked at
            more = names_below(operated.home.root) - files
            return not more
        return False

    try:
        wait_for("the end of files", are_gone)
    except BaseException as error:
        error.add_note(f"still there: {sorted(more)}")
        raise


def names_below(root: Path) -> set[str]:
    """Files and folders, but for logs, collected or not, which tell of the dead."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.relative_to(root).parts[0] not in {"logs", "telemetry"}
    }


def cgroups() -> set[str]:
    """The names of all control groups of the machine."""
    return {name for _, names, _ in os.walk(CGROUPS) for name in names}
