"""A tree goes whoever filled it, and whatever with."""

import os
import resource
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from havre import durable
from havre.durable import remove_tree


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def dig(folder: Path, name: str, depth: int) -> None:
    """Folders in each other, deeper than a path can name; a file in each hundredth."""
    with inside(folder):
        for level in range(depth):
            os.mkdir(name)
            os.chdir(name)
            if level % 100 == 0:
                Path("file").touch()


def long_names(folder: Path) -> None:
    dig(folder, "d" * 250, 40)


def many_levels(folder: Path) -> None:
    dig(folder, "d", 5000)


def wide_and_deep(folder: Path) -> None:
    for number in range(3):
        (folder / str(number)).mkdir()
        dig(folder / str(number), "d", 300)


def many_entries(folder: Path) -> None:
    for number in range(9000):
        (folder / str(number)).touch()


def invalid_names(folder: Path) -> None:
    for name in (b"\xff\xfe", b"a\nb", b"\x1b[2J", b"-rf", b" "):
        os.mkdir(os.fsencode(folder) + b"/" + name)
        with open(os.fsencode(folder) + b"/" + name + b"/\x80", "wb"):
            pass


def no_permissions(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch(mode=0)
    (folder / "a" / "b").chmod(0)
    (folder / "a").chmod(0)
    folder.chmod(0)


def special_files(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as bound, inside(folder):
        bound.bind("socket")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("/nonexistent/file")
    with open(folder / "sparse", "wb") as file:
        file.truncate(1 << 40)


FILLED: list[Callable[[Path], None]] = [
    long_names,
    many_levels,
    wide_and_deep,
    many_entries,
    invalid_names,
    no_permissions,
    special_files,
]


@pytest.mark.parametrize("fill", FILLED, ids=lambda fill: fill.__name__)
def test_whatever_a_model_leaves_is_removed(tmp_path: Path, fill: Callable[[Path], None]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    fill(root)
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(root)
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_few_folders_are_open_at_a_time(tmp_path: Path) -> None:
    dig(tmp_path, "d", 500)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 80, hard))
    try:
        remove_tree(tmp_path / "d")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_an_absent_tree_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "file").write_text("theirs")
    outside.chmod(0o500)
    root.mkdir()
    (root / "link").symlink_to(outside)
    (tmp_path / "itself").symlink_to(outside)
    remove_tree(root)
    with pytest.raises(OSError, match="itself"):
        remove_tree(tmp_path / "itself")
    assert (outside / "file").read_text() == "theirs"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500


def test_what_cannot_be_removed_does_not_keep_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
        (root / name / "stuck").touch()
        (root / name / "loose").touch()
    unlink = os.unlink

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path == "stuck":
            raise PermissionError(1, "Operation not permitted", path)
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(durable.os, "unlink", refuse)
    with pytest.raises(PermissionError, match="stuck"):
        remove_tree(root)
    assert sorted(path.name for path in root.rglob("*")) == ["a", "b", "c"] + ["stuck"] * 3


def test_removing_a_tree_ends_while_a_model_goes_on_writing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    is_over = threading.Event()

    def write() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            try:
                (root / "sub").mkdir(exist_ok=True)
                (root / "sub" / str(number)).touch()
            except OSError:
                continue

    writer = threading.Thread(target=write)
    writer.start()
    try:
        try:
            remove_tree(root, within_s=2.0)
        except OSError:
            pass  # it could not win, and says so
    finally:
        is_over.set()
        writer.join()
    remove_tree(root)
    assert os.listdir(tmp_path) == []


def test_it_stops_when_its_time_is_up(tmp_path: Path) -> None:
    many_entries(tmp_path)
    with pytest.raises(TimeoutError):
        remove_tree(tmp_path, within_s=0.0)
    assert os.listdir(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes another user for it")
def test_an_ordinary_user_needs_no_permission_bits() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hv") as name:
        Path(name).chmod(0o777)
        root = Path(name) / "root"
        if (pid := os.fork()) == 0:
            try:
                os.setgid(65534)
                os.setuid(65534)
                root.mkdir()
                special_files(root)
                dig(root, "d", 200)
                no_permissions(root)
                remove_tree(root)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert not root.exists()
