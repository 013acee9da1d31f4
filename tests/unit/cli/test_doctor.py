"""What the doctor says of machines that lack something, and what to do about it."""

import errno
import os
from pathlib import Path

import pytest

from havre.cli.doctor import isolation, resources
from havre.cli.doctor.finding import Finding, Verdict
from havre.home import Home
from havre.supervisor import landlock, private_view


def no_view(step: str, code: int) -> str:
    return f"{step}: {os.strerror(code)}"


@pytest.mark.parametrize(
    ("uid", "restricted", "why", "remedy"),
    [
        (0, "", no_view(private_view.MAKING, errno.EPERM), "--cap-add SYS_ADMIN"),
        (0, "", no_view(private_view.MOUNTING, errno.EINVAL), "mount --bind"),
        (1000, "1", no_view(private_view.WRITING, errno.EPERM), "apparmor_restrict"),
        (1000, "0", no_view(private_view.MAKING, errno.ENOSPC), "max_user_namespaces"),
        (1000, "", no_view(private_view.MAKING, errno.EPERM), "unprivileged_userns_clone"),
    ],
)
def test_a_view_that_cannot_be_made_has_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    uid: int,
    restricted: str,
    why: str,
    remedy: str,
) -> None:
    switch = tmp_path / "apparmor_restrict_unprivileged_userns"
    if restricted:
        switch.write_text(restricted)
    monkeypatch.setattr(isolation, "APPARMOR", switch)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    found = isolation._private_view(why)
    assert found.verdict is Verdict.WARN
    assert why in found.detail
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        (landlock.WHY_NOT[errno.ENOSYS], "Linux 6.12"),
        (landlock.WHY_NOT[errno.EOPNOTSUPP], "lsm="),
        ("Landlock is refused to havre (Operation not permitted)", "seccomp profile"),
    ],
)
def test_landlock_that_is_not_there_has_a_remedy(
    monkeypatch: pytest.MonkeyPatch, why: str, remedy: str
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    monkeypatch.setattr(landlock, "obstacle", lambda: why)
    found = isolation._file_access()
    assert (found.verdict, found.detail) == (Verdict.WARN, why)
    assert remedy in found.remedy
    assert "files" in found.remedy


def test_calls_that_are_not_filtered_are_told_with_the_reason() -> None:
    found = isolation._system_calls("Invalid argument")
    assert found.verdict is Verdict.WARN
    assert "Invalid argument" in found.detail
    assert isolation._system_calls("").verdict is Verdict.OK


@pytest.mark.parametrize(("mib", "verdict"), [(1, Verdict.WARN), (64, Verdict.OK)])
def test_little_shared_memory_matters_where_all_share_it(
    monkeypatch: pytest.MonkeyPatch, mib: int, verdict: Verdict
) -> None:
    class Usage:
        total = mib * 1024**2

    monkeypatch.setattr(isolation.shutil, "disk_usage", lambda _: Usage)
    assert isolation._shared_memory(has_view=False).verdict is verdict
    assert isolation._shared_memory(has_view=True).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# empty\n", "names no server"),
        ("nameserver\n", "names no server"),
        (None, "No such file"),
        ("search x\nnameserver 10.0.0.2\nnameserver ::1\n", "10.0.0.2, ::1"),
    ],
)
def test_where_names_are_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, found: str
) -> None:
    monkeypatch.setattr(resources, "NAMES", tmp_path / "resolv.conf")
    if text is not None:
        (tmp_path / "resolv.conf").write_text(text)
    row = resources._names()
    assert found in row.detail
    assert bool(row.remedy) == (row.verdict is not Verdict.OK)


def test_inotify_that_is_used_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.watching, "obstacle", lambda: "no more instances to be had")
    row = resources._inotify()
    assert row.verdict is Verdict.WARN
    assert "max_user_instances" in row.remedy


def test_a_machine_without_process_descriptors_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    assert resources._pidfd().verdict is Verdict.OK
    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert resources._pidfd().verdict is Verdict.WARN


def test_a_home_where_nothing_can_be_run_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Mounted:
        f_flag = os.ST_NOEXEC

    assert resources._programs(Home(tmp_path)).verdict is Verdict.OK
    monkeypatch.setattr(os, "statvfs", lambda _: Mounted)
    row: Finding = resources._programs(Home(tmp_path / "not" / "there"))
    assert (row.verdict, str(tmp_path) in row.detail) == (Verdict.WARN, True)


def test_memory_is_told_by_kernels_that_do_not_say_what_is_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: "MemTotal: 8388608 kB\nMemFree: 4194304 kB\n")
    assert resources._memory().detail.startswith("4.0 GiB available")


def test_what_is_stuck_in_the_trash_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    assert resources._trash(home).verdict is Verdict.OK, "there is no home yet"
    home.make()
    (home.trash / "aaaaaaaaaaaa.01234567").mkdir()
    assert resources._trash(home).verdict is Verdict.OK, "it may be going right now"
    monkeypatch.setattr(resources, "TRASH_S", -1.0)
    found = resources._trash(home)
    assert found.verdict is Verdict.WARN
    assert "aaaaaaaaaaaa.01234567" in found.detail
    assert found.remedy
