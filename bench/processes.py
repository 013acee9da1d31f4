"""What a tree of processes costs, from /proc: CPU seconds and memory.

CPU: user and system time of all that live, and of the dead whom a parent in the tree waited for.
Memory: proportional set size (PSS), in which a page that n processes share counts 1/n in each.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Times:
    """CPU seconds of one process, or of several together."""

    user: float = 0.0
    system: float = 0.0

    @property
    def both(self) -> float:
        return self.user + self.system

    def __add__(self, other: "Times") -> "Times":
        return Times(self.user + other.user, self.system + other.system)

    def __sub__(self, other: "Times") -> "Times":
        return Times(self.user - other.user, self.system - other.system)


@dataclass(frozen=True, slots=True)
class Stat:
    """From /proc/PID/stat. ``ticks``: own and waited-for children's, user and system."""

    pid: int
    parent: int
    ticks: int


def parse_stat(text: str) -> Stat:
    """The name, in brackets, may hold anything, brackets and spaces too."""
    pid, _, rest = text.partition(" ")
    fields = rest.rpartition(")")[2].split()
    parent, times = int(fields[1]), fields[11:15]
    return Stat(int(pid), parent, sum(int(time) for time in times))


def parse_pss(rollup: str) -> int:
    """Bytes, from the text of /proc/PID/smaps_rollup."""
    for line in rollup.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return 0


def descendants(root: int, parents: Mapping[int, int]) -> list[int]:
    """All below ``root``, without it. ``parents``: process id to parent's."""
    children = defaultdict(list)
    for pid, parent in parents.items():
        children[parent].append(pid)
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children[waiting.pop()]
        found += below
        waiting += below
    return found


def tree(root: int) -> list[int]:
    """Ids of the processes that now live below ``root``."""
    return descendants(root, {one.pid: one.parent for one in _all()})


def parent_of(pid: int) -> int:
    """Raises OSError if there is no such process."""
    return parse_stat((PROC / str(pid) / "stat").read_text()).parent


def times_of(pid: int) -> Times:
    """Of the process alone; nothing if it is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return Times()
    return Times(int(fields[11]) / TICKS_PER_SECOND, int(fields[12]) / TICKS_PER_SECOND)


def command_of(pid: int) -> str:
    """Its command line; empty if it is gone."""
    try:
        return (
            (PROC / str(pid) / "cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
        )
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Whether it still runs; a zombie does not."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def cpu_seconds(root: int) -> float:
    """Of ``root`` and all below it. ``root`` is bench.cage, whose own time is next to nothing."""
    stats = {one.pid: one for one in _all()}
    pids = [root, *descendants(root, {one.pid: one.parent for one in stats.values()})]
    return sum(stats[pid].ticks for pid in pids if pid in stats) / TICKS_PER_SECOND


def pss_bytes(pids: Iterable[int]) -> int:
    total = 0
    for pid in pids:
        try:
            total += parse_pss((PROC / str(pid) / "smaps_rollup").read_text())
        except OSError:
            continue  # it ended meanwhile
    return total


def _all() -> list[Stat]:
    found = []
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                found.append(parse_stat((folder / "stat").read_text()))
            except OSError:
                continue
    return found
