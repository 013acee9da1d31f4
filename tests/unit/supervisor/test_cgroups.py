"""Control groups on a made-up file system: which trees are used, and what is written there."""

import os
from pathlib import Path

import pytest

from havre.supervisor.cgroups import Cgroups, Limits, Tree, find_trees

LIMITS = Limits(memory_bytes=1 << 30, cpus=1.5, processes=384)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    return tmp_path


def mount(machine: Path, *lines: tuple[str, str, str], own: str = "/") -> None:
    """``lines``: folder name, kind and options of each mounted hierarchy."""
    text = "21 1 0:1 / / rw - ext4 /dev/vda rw\n"
    for name, kind, options in lines:
        folder = machine / name
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.procs").touch()
        text += f"30 21 0:2 / {folder} rw,relatime shared:1 - {kind} cgroup {options}\n"
    (machine / "proc" / "mountinfo").write_text(text)
    (machine / "proc" / "cgroup").write_text(f"5:memory:/elsewhere\n0::{own}\n")


def version_2(folder: Path, controllers: str, enabled: str = "") -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "cgroup.procs").touch()
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.subtree_control").write_text(enabled)


def test_version_1_has_a_tree_per_controller(machine: Path) -> None:
    mount(
        machine,
        ("memory", "cgroup", "rw,memory"),
        ("cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
        ("systemd", "cgroup", "rw,name=systemd"),
        ("unified", "cgroup2", "rw"),
    )
    trees = find_trees(is_root=True, proc=machine / "proc")
    assert [(tree.base.name, tree.version, set(tree.controllers)) for tree in trees] == [
        ("memory", 1, {"memory"}),
        ("cpu,cpuacct", 1, {"cpu"}),
    ]
    assert Cgroups(trees, machine).missing == ("pids",)
    assert find_trees(is_root=False, proc=machine / "proc") == []


def test_version_2_is_one_tree_whose_controllers_are_switched_on(machine: Path) -> None:
    mount(machine, ("unified", "cgroup2", "rw"))
    version_2(machine / "unified", "cpuset cpu io memory pids", "memory")
    (tree,) = find_trees(is_root=True, proc=machine / "proc")
    assert tree == Tree(machine / "unified", 2, frozenset({"cpu", "memory", "pids"}))
    assert (machine / "unified" / "cgroup.subtree_control").read_text() == "+cpu +pids"


def test_looking_switches_nothing_on(machine: Path) -> None:
    mount(machine, ("unified", "cgroup2", "rw"))
    version_2(machine / "unified", "cpu memory pids")
    assert len(find_trees(is_root=True, only_look=True, proc=machine / "proc")) == 1
    assert (machine / "unified" / "cgroup.subtree_control").read_text() == ""


@pytest.mark.parametrize("own", ["/user.slice/havre.scope", "/user.slice/havre.scope/havre-host"])
def test_a_delegated_scope_is_used_without_root(machine: Path, own: str) -> None:
    mount(machine, ("unified", "cgroup2", "rw"), own=own)
    scope = machine / "unified" / "user.slice" / "havre.scope"
    version_2(scope, "memory pids")
    (tree,) = find_trees(is_root=False, proc=machine / "proc")
    assert tree == Tree(scope, 2, frozenset({"memory", "pids"}))


def test_one_controller_is_used_in_one_tree(machine: Path) -> None:
    mount(machine, ("memory", "cgroup", "rw,memory"), ("unified", "cgroup2", "rw"))
    version_2(machine / "unified", "memory pids")
    trees = find_trees(is_root=True, proc=machine / "proc")
    assert [(tree.version, set(tree.controllers)) for tree in trees] == [
        (1, {"memory"}),
        (2, {"pids"}),
    ]


@pytest.mark.parametrize(
    ("version", "written"),
    [
        (
            1,
            {
                "memory.limit_in_bytes": "1073741824",
                "memory.memsw.limit_in_bytes": "1073741824",
                "cpu.cfs_period_us": "100000",
                "cpu.cfs_quota_us": "150000",
                "pids.max": "384",
                "cgroup.procs": "77",
            },
        ),
        (
            2,
            {
                "memory.max": "1073741824",
                "memory.swap.max": "0",
                "cpu.max": "150000 100000",
                "pids.max": "384",
                "cgroup.procs": "77",
            },
        ),
    ],
)
def test_limits_are_written_before_the_process_enters(
    tmp_path: Path, version: int, written: dict[str, str]
) -> None:
    tree = Tree(tmp_path, version, frozenset({"memory", "cpu", "pids"}))
    cgroups = Cgroups([tree], Path("/home"))
    assert cgroups.enter("i-one", 77, LIMITS) == []
    folder = tmp_path / "havre" / cgroups.home_id / "i-one"
    assert {path.name: path.read_text() for path in folder.iterdir()} == written
    last = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert last.name == "cgroup.procs"
    assert cgroups.members("i-one") == {77}


def test_what_cannot_be_limited_is_said(tmp_path: Path) -> None:
    nowhere = Tree(tmp_path / "file", 1, frozenset({"memory"}))
    nowhere.base.touch()
    problems = Cgroups([nowhere], Path("/home")).enter("i-one", 77, LIMITS)
    assert any("processor time is not enforced" in problem for problem in problems)
    assert any("the memory limits cannot be set" in problem for problem in problems)


@pytest.mark.parametrize(
    ("version", "file", "text"),
    [
        (1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        (2, "memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n"),
    ],
)
def test_ends_for_want_of_memory_are_counted(
    tmp_path: Path, version: int, file: str, text: str
) -> None:
    cgroups = Cgroups([Tree(tmp_path, version, frozenset({"memory"}))], Path("/home"))
    assert cgroups.out_of_memory("i-one") == 0
    folder = tmp_path / "havre" / cgroups.home_id / "i-one"
    folder.mkdir(parents=True)
    (folder / file).write_text(text)
    assert cgroups.out_of_memory("i-one") == 3


def test_what_nobody_knows_is_removed_and_other_homes_members_are_not(tmp_path: Path) -> None:
    cgroups = Cgroups([Tree(tmp_path, 1, frozenset({"pids"}))], Path("/home"))
    base = tmp_path / "havre"
    for path in (f"{cgroups.home_id}/i-known", f"{cgroups.home_id}/i-stale", "other/i-empty"):
        (base / path).mkdir(parents=True)
    (base / "other" / "i-busy").mkdir()
    (base / "other" / "i-busy" / "cgroup.procs").write_text("1\n")  # a real one: not empty
    cgroups.clean(["i-known"])
    left = {os.path.relpath(path, base) for path in base.glob("*/*")}
    assert left == {f"{cgroups.home_id}/i-known", "other/i-busy"}


@pytest.mark.parametrize(
    ("version", "files"),
    [
        (
            1,
            {
                "cpuacct.usage": "1500000000\n",
                "memory.usage_in_bytes": "5000\n",
                "memory.stat": "cache 1\ntotal_inactive_file 2000\n",
            },
        ),
        (
            2,
            {
                "cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
                "memory.current": "5000\n",
                "memory.stat": "anon 1\ninactive_file 2000\n",
            },
        ),
    ],
)
def test_what_a_group_uses(tmp_path: Path, version: int, files: dict[str, str]) -> None:
    tree = Tree(tmp_path, version, frozenset({"memory", "cpu"}))
    cgroups = Cgroups([tree], Path("/home"))
    assert (cgroups.cpu_s("i-one"), cgroups.memory_bytes("i-one")) == (None, None)
    folder = tmp_path / "havre" / cgroups.home_id / "i-one"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    assert (cgroups.cpu_s("i-one"), cgroups.memory_bytes("i-one")) == (1.5, 3000)


def test_a_kernel_without_groups_has_no_files_about_them(machine: Path) -> None:
    assert find_trees(is_root=True, proc=machine / "proc") == []
    assert Cgroups([], machine).missing == ("memory", "cpu", "pids")
