"""What an instance's processes use: by their control group, or one by one without one."""

import os
from collections.abc import Iterable

from havre.home import Home
from havre.supervisor.cgroups import Cgroups, find_trees
from havre.supervisor.group import living_members
from havre.supervisor.identity import Identity, Stat, identify, living_processes

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage:
    """Called at intervals; remembers the CPU time of each process that it has seen."""

    def __init__(self, home: Home) -> None:
        trees = find_trees(is_root=os.geteuid() == 0, only_look=True)
        self._cgroups = Cgroups(trees, home.root)
        self._processes: dict[str, dict[Identity, float]] = {}
        self._gone_s: dict[str, float] = {}
        self._living: list[Stat] = []

    def begin(self) -> None:
        """Before all instances are read: one list of the machine's processes is enough for them."""
        self._living = [] if self._cgroups.can_hold else living_processes()

    def cpu_s(self, name: str, leader: Identity) -> float:
        """CPU time of a process and all that it started, since its start.

        Counted one by one, what a process used between the last call and its end is missing.
        """
        counted = self._cgroups.cpu_s(name)
        if counted is not None:
            return counted
        before = self._processes.get(name, {})
        now = {member: _cpu_s(member.pid) for member in self._members(name, leader)}
        gone_s = sum(spent for member, spent in before.items() if member not in now)
        self._gone_s[name] = self._gone_s.get(name, 0.0) + gone_s
        self._processes[name] = now
        return self._gone_s[name] + sum(now.values())

    def memory_bytes(self, name: str) -> int | None:
        """Memory that cannot be reclaimed at once: cached files do not count.

        None without a control group.
        """
        return self._cgroups.memory_bytes(name)

    def forget(self, gone: Iterable[str]) -> None:
        for name in gone:
            self._processes.pop(name, None)
            self._gone_s.pop(name, None)

    def _members(self, name: str, leader: Identity) -> list[Identity]:
        pids = self._cgroups.members(name)
        if not pids:
            return living_members(leader, among=self._living or None)
        identities = (identify(pid) for pid in pids)
        return [identity for identity in identities if identity is not None]


def _cpu_s(pid: int) -> float:
    """Fields 14 and 15 of ``/proc/PID/stat`` (Linux, proc(5)): user and system time, in ticks."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = text[text.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
