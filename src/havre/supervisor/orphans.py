"""Processes of a home that no record names: their records were lost or damaged.

They are known by their command lines, which name the home, and by seeing the very folder that we
see under that name: a container may have a home of its own in a place that is called the same.
"""

import os
import signal
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from havre.home import Home
from havre.supervisor import group, records
from havre.supervisor.identity import Identity, boot_id, is_running, living_processes
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE, INSTANCE_PREFIX, TELEMETRY

MODULES = {"havre.service": CONTROL_PLANE, "havre.telemetry": TELEMETRY}
BALANCERS = {"envoy": "--config-path"}
"""Programs that are load balancers, each with the option that says first which file it reads."""
ENDS_WITHIN_S = 10.0
POLL_S = 0.02


def find(home: Home, known: Collection[str]) -> list[tuple[str, Identity]]:
    """Those that run, and by which name they would be recorded; names that are ``known`` are left
    out, with the copies that a keeper has forked.
    """
    orphans = []
    for stat in living_processes():
        name = name_of(home, _command(stat.pid))
        if not name or name in known:
            continue
        identity = Identity(stat.pid, stat.start_time, boot_id())
        if _sees(stat.pid, home) and is_running(identity):
            orphans.append((name, identity))
    return orphans


def clear(home: Home, known: Collection[str], log: Callable[[str], None]) -> None:
    """End them, and remove what is left of damaged records: they would hold the port, or a model's
    memory, for ever.

    Those that another version of havre has recorded are its to end.
    """
    orphans = find(home, {*known, *records.running_strangers(home.processes)})
    for name, identity in orphans:
        log(f"{name}: ended, no record names it (pid {identity.pid})")
    try:
        end(orphans)
        for path in records.remove_torn(home.processes):
            log(f"{path}: removed, it is damaged")
    except (OSError, TimeoutError) as error:
        log(f"what no record names is still there: {error}")


def supervisor_of(home: Home) -> Identity | None:
    """The supervisor of a home, by its command line."""
    for stat in living_processes():
        words = _command(stat.pid)
        if stat.pid != os.getpid() and _runs_module(words, {"havre.supervisor"}, home):
            identity = Identity(stat.pid, stat.start_time, boot_id())
            if _sees(stat.pid, home) and is_running(identity):
                return identity
    return None


def end(orphans: Collection[tuple[str, Identity]]) -> None:
    """End them and all of their groups. Raises TimeoutError when even SIGKILL does not help."""
    members = {
        member for _, identity in orphans for member in (identity, *group.living_members(identity))
    }
    group.signal_members(list(members), signal.SIGKILL)
    deadline = time.monotonic() + ENDS_WITHIN_S
    while left := [member for member in members if is_running(member)]:
        if time.monotonic() > deadline:
            pids = ", ".join(str(member.pid) for member in left)
            raise TimeoutError(f"processes {pids} do not end, {ENDS_WITHIN_S:g} s after SIGKILL")
        time.sleep(POLL_S)


def name_of(home: Home, words: Sequence[str]) -> str:
    """By which name a home records the process of a command line; empty if it is none of its."""
    if module := _runs_module(words, set(MODULES), home):
        return MODULES[module]
    if (
        len(words) > 2
        and BALANCERS.get(Path(words[0]).name) == words[1]
        and Path(words[2]).parent == home.balancer
    ):
        return BALANCER
    if len(words) == 3 and Path(words[1]).is_relative_to(home.lib):
        spec = Path(words[2])
        if spec.parent.parent == home.instances:
            return INSTANCE_PREFIX + spec.parent.name
    return ""


def _runs_module(words: Sequence[str], modules: Collection[str], home: Home) -> str:
    """Which of the modules it runs for this home: ``python … -m MODULE --home HOME …``."""
    if not words or not Path(words[0]).name.startswith("python") or "-m" not in words:
        return ""
    at = words.index("-m")
    if words[at + 2 : at + 4] != ["--home", str(home.root)] or words[at + 1] not in modules:
        return ""
    return words[at + 1]


def _command(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            text = file.read()
    except OSError:
        return []
    return [os.fsdecode(word) for word in text.split(b"\0")[:-1]]


def _sees(pid: int, home: Home) -> bool:
    """Whether the home's path leads that process to the folder to which it leads us."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root{home.root}"), os.stat(home.root))
    except OSError:
        return False
