"""What an instance's processes use: by their control group, or one by one where there is none."""

import os
from collections.abc import Iterable

from havre.home import Home
from havre.supervisor.cgroups import Cgroups, find_trees
from havre.supervisor.group import living_members
from havre.supervisor.identity import Identity, Stat, identify, living_processes

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage:
    """Looks again and again, and remembers the processor time of each process that it has seen."""

    def __init__(self, home: Home) -> None:
        trees = find_trees(is_root=os.geteuid() == 0, only_look=True)
        self._cgroups = Cgroups(trees, home.root)
        self._processes: dict[str, dict[Identity, float]] = {}
        self._gone_s: dict[str, float] = {}
        self._living: list[Stat] = []

    def begin(self) -> None:
        """Before a look at all: one list of the machine's processes is enough for it."""
        self._living = [] if self._cgroups.can_hold else living_processes()

    def cpu_s(self, name: str, leader: Identity) -> float:
        """Processor time since the process began, of it and all that it started.

        Counted one by one, what a process used after the last look before its end is missing.
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
        """What would not be given up for the asking: files that are only cached do not count.

        None where there is no group.
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
        found = (identify(pid) for pid in pids)
        return [each for each in found if each is not None]


def _cpu_s(pid: int) -> float:
    """Fields 14 and 15 of ``/proc/PID/stat`` (Linux, proc(5)): user and system time, in ticks."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = text[text.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
