"""The control groups of a home's processes: limits, who belongs to whom, and ending all of them.

A process leaves its process group at will, never its control group: this is what finds what a model
has left behind. Version 1 (a tree per controller), version 2 and both side by side are spoken.
Without root only a scope that was delegated to us can be used.

Files: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of Linux.
"""

import errno
import hashlib
import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from havre.supervisor.identity import identify, send_signal

CONTROLLERS = ("memory", "cpu", "pids")
OURS = "havre"
LEAF = "havre-host"
"""Where a scope's own processes go: version 2 wants none beside groups that have limits."""
PERIOD_US = 100_000
SHAPE_LIMITS = {"memory": "memory", "cpu": "processor time"}
MAX_KILL_ROUNDS = 20
MAX_RETRIES = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """0 is no limit. ``cpus`` in hardware threads."""

    memory_bytes: int = 0
    cpus: float = 0.0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class Tree:
    """One hierarchy that we may write to: groups are made in ``base``."""

    base: Path
    version: int
    controllers: frozenset[str]


class Cgroups:
    """The groups of one home. ``name`` is always a process's. Nothing here raises OSError."""

    def __init__(self, trees: Sequence[Tree], home: Path) -> None:
        self._trees = trees
        self.home_id = hashlib.sha256(str(home).encode()).hexdigest()[:12]

    @property
    def missing(self) -> tuple[str, ...]:
        """Controllers whose limits cannot be set here."""
        there = {controller for tree in self._trees for controller in tree.controllers}
        return tuple(controller for controller in CONTROLLERS if controller not in there)

    @property
    def can_hold(self) -> bool:
        """Whether processes have groups at all, whatever is limited there."""
        return bool(self._trees)

    def enter(self, name: str, pid: int, limits: Limits) -> list[str]:
        """Make a group and put a process into it. Returns a sentence for each limit not set."""
        problems = [
            f"the shape's limit of {words} is not enforced: no {controller} cgroup is ours"
            for controller, words in SHAPE_LIMITS.items()
            if controller in self.missing
        ]
        for tree in self._trees:
            try:
                problems += self._enter(tree, name, pid, limits)
            except OSError as error:
                names = ", ".join(sorted(tree.controllers))
                problems.append(f"the {names} limits cannot be set: {error}")
        return problems

    def members(self, name: str) -> set[int]:
        """The pids in a process's group; none where it has no group."""
        pids: set[int] = set()
        for tree in self._trees:
            with suppress(OSError):
                text = (self._folder(tree, name) / "cgroup.procs").read_text()
                pids |= {int(word) for word in text.split()}
        return pids

    def kill(self, name: str) -> None:
        """SIGKILL for every member, and for what it starts meanwhile."""
        for tree in self._trees:
            folder = self._folder(tree, name)
            if tree.version == 2:
                with suppress(OSError):
                    (folder / "cgroup.kill").write_text("1")
            if "pids" in tree.controllers:
                with suppress(OSError):
                    (folder / "pids.max").write_text("0")  # no fork can outrun us
        for _ in range(MAX_KILL_ROUNDS):
            members = self.members(name)
            if not members:
                return
            for pid in members:
                self._kill_member(name, pid)

    def remove(self, name: str) -> bool:
        """Remove the group; False while something is in it."""
        is_gone = True
        for tree in self._trees:
            folder = self._folder(tree, name)
            try:
                _remove_below(folder)
            except FileNotFoundError:
                continue
            except OSError:
                is_gone = False
            else:
                with suppress(OSError):
                    folder.parent.rmdir()  # the last one of this home
        return is_gone

    def out_of_memory(self, name: str) -> int:
        """How many processes the kernel has ended because the group's memory was used up."""
        for tree in self._trees:
            if "memory" in tree.controllers:
                file = "memory.oom_control" if tree.version == 1 else "memory.events"
                with suppress(OSError, ValueError, KeyError):
                    return _keyed(self._folder(tree, name) / file)["oom_kill"]
        return 0

    def cpu_s(self, name: str) -> float | None:
        """Processor time of all that was ever in the group; None where no group counts it."""
        for tree in self._trees:
            folder = self._folder(tree, name)
            with suppress(OSError, ValueError, KeyError):
                if tree.version == 2:
                    return _keyed(folder / "cpu.stat")["usage_usec"] / 1e6
                return int((folder / "cpuacct.usage").read_text()) / 1e9
        return None

    def memory_bytes(self, name: str) -> int | None:
        """Memory of the group, but for files that are cached and not in use; None without one."""
        for tree in self._trees:
            if "memory" in tree.controllers:
                names = _MEMORY_FILES[tree.version]
                folder = self._folder(tree, name)
                with suppress(OSError, ValueError, KeyError):
                    used = int((folder / names[0]).read_text())
                    return max(0, used - _keyed(folder / "memory.stat")[names[1]])
        return None

    def clean(self, known: Iterable[str]) -> list[str]:
        """End and remove the groups that ``known`` does not name; empty ones of other homes, too.

        Returns the names of those that had members.
        """
        ended = []
        known = set(known)
        for tree in self._trees:
            for folder in _folders(tree.base / OURS / self.home_id):
                if folder.name not in known:
                    if self.members(folder.name):
                        ended.append(folder.name)
                        self.kill(folder.name)
                    self.remove(folder.name)
            for home in _folders(tree.base / OURS):
                if home.name != self.home_id:
                    for folder in _folders(home):
                        with suppress(OSError):
                            _remove_below(folder)
                    with suppress(OSError):
                        home.rmdir()
        return ended

    def _folder(self, tree: Tree, name: str) -> Path:
        return tree.base / OURS / self.home_id / name

    def _enter(self, tree: Tree, name: str, pid: int, limits: Limits) -> list[str]:
        folder = self._folder(tree, name)
        # Another home's supervisor may remove an empty group at this moment: then once more.
        for is_last in (*[False] * MAX_RETRIES, True):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if tree.version == 2:
                    for parent in (folder.parent.parent, folder.parent):
                        _enable(parent, tree.controllers)
                problems = _set(folder, tree, limits)
                (folder / "cgroup.procs").write_text(str(pid))
                return problems
            except OSError as error:
                if is_last or error.errno not in (errno.ENOENT, errno.ENODEV):
                    raise
        return []

    def _kill_member(self, name: str, pid: int) -> None:
        identity = identify(pid)
        if identity is not None:
            with suppress(PermissionError):
                send_signal(identity, signal.SIGKILL, only_if=lambda: pid in self.members(name))


def find_trees(
    *, is_root: bool, only_look: bool = False, proc: Path = Path("/proc/self")
) -> list[Tree]:
    """The hierarchies of this machine that we may make groups in; none where there are none.

    In version 2 controllers may have to be switched on first, unless we ``only_look``.
    """
    trees: list[Tree] = []
    taken: set[str] = set()
    own = _own_groups(proc)
    mounts = list(_mounts(proc))
    for mount_point, _, kind, options in mounts:
        controllers = frozenset(options.split(",")) & set(CONTROLLERS) - taken
        if kind == "cgroup" and controllers and is_root and _is_writable(mount_point):
            trees.append(Tree(mount_point, 1, controllers))
            taken |= controllers
    for mount_point, root, kind, _ in mounts:
        if kind != "cgroup2":
            continue
        base = mount_point if is_root else _below(mount_point, root, own)
        controllers = frozenset(_words(base / "cgroup.controllers")) & set(CONTROLLERS) - taken
        if controllers and _is_writable(base) and (only_look or _ready(base, controllers)):
            trees.append(Tree(base, 2, controllers))
    return trees


_MEMORY_FILES = {
    1: ("memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.current", "inactive_file"),
}


def _keyed(file: Path) -> dict[str, int]:
    """A file of lines with a name and a number each. Raises OSError, ValueError."""
    rows = (line.split() for line in file.read_text().splitlines())
    return {key: int(value) for key, value in rows}


def _set(folder: Path, tree: Tree, limits: Limits) -> list[str]:
    problems = []
    for file, value, is_needed in _settings(tree, limits):
        try:
            (folder / file).write_text(value)
        except FileNotFoundError:
            if is_needed:
                raise  # the whole group may have gone
        except OSError as error:
            if is_needed:
                problems.append(f"the limit {file} cannot be set: {error.strerror}")
    return problems


def _settings(tree: Tree, limits: Limits) -> Iterable[tuple[str, str, bool]]:
    """File, content, and whether the limit is worth a complaint."""
    memory, processes = limits.memory_bytes, limits.processes
    quota = max(1000, int(limits.cpus * PERIOD_US))
    if "memory" in tree.controllers and memory:
        if tree.version == 1:
            yield "memory.limit_in_bytes", str(memory), True
            yield "memory.memsw.limit_in_bytes", str(memory), False  # absent without swap
        else:
            yield "memory.max", str(memory), True
            yield "memory.swap.max", "0", False
    if "cpu" in tree.controllers and limits.cpus:
        if tree.version == 1:
            yield "cpu.cfs_period_us", str(PERIOD_US), True
            yield "cpu.cfs_quota_us", str(quota), True
        else:
            yield "cpu.max", f"{quota} {PERIOD_US}", True
    if "pids" in tree.controllers and processes:
        yield "pids.max", str(processes), True


def _ready(base: Path, controllers: Iterable[str]) -> bool:
    """Whether groups below a version 2 group can have limits; moves processes aside if need be."""
    try:
        _enable(base, controllers)
    except OSError as error:
        if error.errno != errno.EBUSY:
            return False
        try:
            leaf = base / LEAF
            leaf.mkdir(exist_ok=True)
            for pid in _words(base / "cgroup.procs"):
                (leaf / "cgroup.procs").write_text(pid)
            _enable(base, controllers)
        except OSError:
            return False
    return True


def _enable(folder: Path, controllers: Iterable[str]) -> None:
    """Let the groups below have these controllers. Raises OSError."""
    control = folder / "cgroup.subtree_control"
    if missing := sorted(set(controllers) - _words(control)):
        control.write_text(" ".join(f"+{controller}" for controller in missing))


def _own_groups(proc: Path) -> str:
    """Our own path in version 2's tree; that of the scope if we were moved aside in it."""
    for line in _lines(proc / "cgroup"):
        number, _, path = line.split(":", 2)
        if number == "0":
            return path.removesuffix(f"/{LEAF}") or "/"
    return "/"


def _mounts(proc: Path) -> Iterable[tuple[Path, str, str, str]]:
    """Mount point, root within the hierarchy, kind and options of each group hierarchy."""
    for line in _lines(proc / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            yield Path(fields[4]), fields[3], kind, options


def _below(mount_point: Path, root: str, own: str) -> Path:
    inside = os.path.relpath(own, root) if own.startswith(root) else "."
    return mount_point / inside


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _lines(file: Path) -> list[str]:
    """None of a file that a kernel without groups does not have."""
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def _words(file: Path) -> set[str]:
    try:
        return set(file.read_text().split())
    except OSError:
        return set()


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []


def _remove_below(folder: Path) -> None:
    for inner in _folders(folder):
        _remove_below(inner)
    folder.rmdir()
