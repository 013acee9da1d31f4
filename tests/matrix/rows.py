"""The machines of the matrix: what each lacks, what havre cannot enforce there, and what it says.

Pure data and decisions: the tests bring each row about, and docs/explanation/isolation.md shows the
named ones. A wall is a thing that keeps a model in; a condition takes walls or resources away.
"""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wall:
    """``check`` is the doctor's row, ``notes`` are in the work request's log where it is missing.

    Some depend on the model's user: ``with_user`` where it has one of its own, ``alone`` where not.
    ``missing`` says for the page what is not enforced then.
    """

    check: str
    title: str
    notes: tuple[str, ...]
    missing: str
    with_user: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()

    @property
    def all_notes(self) -> tuple[str, ...]:
        return (*self.notes, *self.with_user, *self.alone)


WALLS = {
    "users": Wall(
        "users of models",
        "users of their own",
        ("the model runs as the server's own user",),
        "file modes do not keep a model from what is the server's",
    ),
    "files": Wall(
        "files, ports, signals",
        "Landlock",
        ("the model can call the server itself",),
        "a model reads what its user may read, and calls the server; without a user of its own it "
        "writes the server's files and signals its processes, too",
        ("files that others may read are readable for the model",),
        ("the model can read and write the files of the server's user, and signal its processes",),
    ),
    "view": Wall(
        "private /tmp",
        "private view",
        ("no private /tmp and shared memory",),
        "`/tmp` and `/dev/shm` are those of all; what is left there stays",
    ),
    "calls": Wall(
        "system calls",
        "filter of calls",
        ("system calls cannot be filtered",),
        "some calls lead around the closed port",
    ),
    "cgroups": Wall(
        "cgroups",
        "shapes as limits",
        (
            "the shape's limit of memory is not enforced",
            "the shape's limit of processor time is not enforced",
        ),
        "memory and processor time are not limited, processes per user only",
    ),
}


@dataclass(frozen=True)
class Condition:
    """``machine`` is what the launcher is told, ``lacks`` names walls that fall by it.

    ``checks``: rows of the doctor's that warn of it beside. ``for_user``: "root" or "ordinary",
    where it means something for one of them only.
    """

    machine: dict[str, Any] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    checks: frozenset[str] = frozenset()
    for_user: str = ""


ALL_CAPABILITIES = tuple(range(41))
SET_USER = 7

WITHOUT_WALLS = {
    "no private view": Condition({"denied": ["namespaces", "mounts"]}, lacks=frozenset({"view"})),
    "no users of their own": Condition(
        {"capabilities": [each for each in ALL_CAPABILITIES if each != SET_USER]},
        lacks=frozenset({"users"}),
        for_user="root",
    ),
    "no cgroups": Condition(
        {"mounts": ["no cgroups"]}, lacks=frozenset({"cgroups"}), for_user="root"
    ),
    "no Landlock": Condition({"denied": ["Landlock"]}, lacks=frozenset({"files"})),
    "no filter of calls": Condition({"denied": ["seccomp"]}, lacks=frozenset({"calls"})),
}
WITHOUT_RESOURCES = {
    "no inotify": Condition({"denied": ["inotify, exhausted"]}, checks=frozenset({"inotify"})),
    "few descriptors": Condition({"open_files": 256}, checks=frozenset({"open files"})),
    "small /dev/shm": Condition(
        {"mounts": ["small /dev/shm"]}, checks=frozenset({"shared memory"})
    ),
    "read-only /sys": Condition({"mounts": ["read-only /sys"]}, lacks=frozenset({"cgroups"})),
    "no /etc/resolv.conf": Condition(
        {"mounts": ["no /etc/resolv.conf"]}, checks=frozenset({"host names"})
    ),
    "hidden processes": Condition({"mounts": ["hidden processes"]}),
    "noexec home": Condition({"mounts": ["noexec"]}, checks=frozenset({"programs in the home"})),
}
OF_NAMED_ROWS = {
    "no user namespaces": Condition(
        {"denied": ["user namespaces"]}, lacks=frozenset({"view"}), for_user="ordinary"
    ),
    "AppArmor refuses mounts": Condition(
        {"denied": ["mounts by AppArmor"]}, lacks=frozenset({"view"})
    ),
    "AppArmor refuses user numbers": Condition(
        {"unwritable": ["/proc"]}, lacks=frozenset({"view"})
    ),
    "Landlock switched off": Condition(
        {"denied": ["Landlock, switched off"]}, lacks=frozenset({"files"})
    ),
    "root without capabilities": Condition(
        {"capabilities": []}, lacks=frozenset({"users", "view"}), for_user="root"
    ),
    "one user number": Condition({"numbers": 1}, lacks=frozenset({"users"}), for_user="root"),
    "65,536 user numbers": Condition({"numbers": 65536}, for_user="root"),
    "an old kernel": Condition(
        {"denied": ["pidfd", "newer calls", "memfd"]}, checks=frozenset({"process descriptors"})
    ),
    "inotify unknown": Condition({"denied": ["inotify"]}, checks=frozenset({"inotify"})),
    "a poor /proc": Condition({"mounts": ["poor /proc"]}),
    "a chroot": Condition({"mounts": ["chroot"]}, lacks=frozenset({"view"})),
    "read-only root": Condition({"mounts": ["read-only root"]}),
}
CONDITIONS = {**WITHOUT_WALLS, **WITHOUT_RESOURCES, **OF_NAMED_ROWS}


@dataclass(frozen=True)
class Row:
    """``user`` is "root" or "ordinary"."""

    name: str
    user: str
    conditions: tuple[str, ...] = ()

    @property
    def lacks(self) -> frozenset[str]:
        """Walls that are not there."""
        own = frozenset({"users", "cgroups"}) if self.user == "ordinary" else frozenset()
        return own.union(*(CONDITIONS[name].lacks for name in self.conditions))

    @property
    def checks(self) -> frozenset[str]:
        """Rows of the doctor's that warn."""
        told = frozenset().union(*(CONDITIONS[name].checks for name in self.conditions))
        if "view" not in self.lacks:
            told -= {"shared memory"}  # each instance has its own then
        return told | {WALLS[wall].check for wall in self.lacks}

    @property
    def notes(self) -> tuple[str, ...]:
        """What the log of a work request says."""
        return tuple(
            note
            for name, wall in WALLS.items()
            if name in self.lacks
            for note in (*wall.notes, *(wall.alone if "users" in self.lacks else wall.with_user))
        )

    def machine(self) -> dict[str, Any]:
        """What the launcher is told: all conditions in one."""
        told: dict[str, Any] = {}
        for name in self.conditions:
            for key, value in CONDITIONS[name].machine.items():
                if key == "capabilities":
                    told[key] = sorted(set(value) & set(told.get(key, ALL_CAPABILITIES)))
                elif isinstance(value, list):
                    told[key] = [*told.get(key, ()), *value]
                else:
                    told[key] = value
        return told


NAMED = (
    Row("this machine, as root", "root"),
    Row("this machine, as an ordinary user", "ordinary"),
    Row(
        "an unprivileged container",
        "ordinary",
        ("no private view", "no cgroups", "small /dev/shm"),
    ),
    Row(
        "a container, as root, without capabilities",
        "root",
        ("root without capabilities", "no private view", "read-only /sys", "small /dev/shm"),
    ),
    Row(
        "a container whose seccomp profile knows no Landlock",
        "root",
        ("no private view", "no Landlock", "no cgroups"),
    ),
    Row("a rootless container with one user number", "root", ("one user number", "no cgroups")),
    Row(
        "a rootless container with 65,536 user numbers",
        "root",
        ("65,536 user numbers", "no cgroups"),
    ),
    Row("Ubuntu since 23.10: AppArmor refuses mounts", "ordinary", ("AppArmor refuses mounts",)),
    Row(
        "Ubuntu since 23.10: AppArmor refuses user numbers",
        "ordinary",
        ("AppArmor refuses user numbers",),
    ),
    Row(
        "a hardened kernel: no user namespaces",
        "ordinary",
        ("no user namespaces", "hidden processes"),
    ),
    Row("a chroot, as root", "root", ("a chroot",)),
    Row("a chroot, as an ordinary user", "ordinary", ("a chroot",)),
    Row("WSL: neither cgroups nor Landlock", "ordinary", ("no cgroups", "Landlock switched off")),
    Row(
        "gVisor, or Linux before 5.3",
        "root",
        ("an old kernel", "a poor /proc", "no Landlock", "no cgroups", "inotify unknown"),
    ),
    Row("a read-only system, but for the home", "root", ("read-only root",)),
    Row("nothing at all", "ordinary", ("no private view", "no Landlock", "no filter of calls")),
)

Choice = tuple[str, ...]


def pairwise() -> list[Row]:
    """Few rows that have every two conditions together, and each with and without every other."""
    names = ("ordinary", *WITHOUT_WALLS, *WITHOUT_RESOURCES)
    dice = random.Random(7)
    wanted = {
        pair
        for one, other in itertools.combinations(names, 2)
        for pair in itertools.product(((one, True), (one, False)), ((other, True), (other, False)))
        if _is_possible({name for name, there in pair if there})
    }
    rows: list[Row] = []
    while wanted:
        tried = [_drawn(names, dice) for _ in range(200)]
        best = max(tried, key=lambda chosen: len(wanted & _pairs(names, chosen)))
        wanted -= _pairs(names, best)
        rows.append(_row(best))
    return rows


def product() -> list[Row]:
    """Every combination of walls, with each resource that may be missing."""
    combinations = (
        {*walls, *beside, *user}
        for user in ((), ("ordinary",))
        for count in range(len(WITHOUT_WALLS) + 1)
        for walls in itertools.combinations(WITHOUT_WALLS, count)
        for beside in ((), *((name,) for name in WITHOUT_RESOURCES))
    )
    return [_row(chosen) for chosen in combinations if _is_possible(chosen)]


def _drawn(names: Iterable[str], dice: random.Random) -> set[str]:
    chosen = {name for name in names if dice.random() < 0.5}
    return chosen if _is_possible(chosen) else chosen - {"ordinary"}


def _is_possible(chosen: set[str]) -> bool:
    return "ordinary" not in chosen or not any(
        CONDITIONS[name].for_user == "root" for name in chosen - {"ordinary"}
    )


def _pairs(names: Iterable[str], chosen: set[str]) -> set[tuple[tuple[str, bool], ...]]:
    stated = [(name, name in chosen) for name in names]
    return set(itertools.combinations(stated, 2))


def _row(chosen: set[str]) -> Row:
    user = "ordinary" if "ordinary" in chosen else "root"
    conditions = tuple(name for name in CONDITIONS if name in chosen)
    return Row(", ".join((user, *conditions)), user, conditions)


def table() -> Iterator[str]:
    """The lines that isolation.md shows: the named rows by walls, then what each wall says."""
    titles = [wall.title for wall in WALLS.values()]
    yield f"| machine | user | {' | '.join(titles)} | `havre doctor` warns of |"
    yield "|---|---|" + "---|" * (len(titles) + 1)
    for row in NAMED:
        there = ["—" if wall in row.lacks else "yes" for wall in WALLS]
        checks = "; ".join(sorted(row.checks)) or "nothing"
        yield f"| {row.name} | {row.user} | {' | '.join(there)} | {checks} |"
    yield ""
    yield "| without | what is not enforced | said in the work request's log |"
    yield "|---|---|---|"
    for wall in WALLS.values():
        notes = "; ".join(f"“{note} …”" for note in wall.all_notes)
        yield f"| {wall.title} | {wall.missing} | {notes} |"
