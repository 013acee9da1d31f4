"""Nothing that a model leaves by the name of a file holds up, or leads astray, who reads it."""

import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from havre import foreign


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))


def nothing(path: Path) -> None:
    pass


FORGED: list[Callable[[Path], None]] = [
    pipe,
    link,
    link_to_a_device,
    folder,
    bound_socket,
    nothing,
]


@pytest.mark.parametrize("forge", FORGED, ids=lambda forge: forge.__name__)
@pytest.mark.parametrize("access", [os.O_RDONLY, os.O_WRONLY])
def test_nothing_but_a_plain_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forge: Callable[[Path], None], access: int
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    forge(tmp_path / "file")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):  # noqa: PT011 - each has its own number
        foreign.open_file(tmp_path / "file", below=tmp_path, access=access)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pipe_with_a_reader_is_no_file_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    reader = os.open(tmp_path / "file", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="not a plain file"):
            foreign.open_file(tmp_path / "file", below=tmp_path, access=os.O_WRONLY)
    finally:
        os.close(reader)


def test_a_file_under_a_lease_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    held = os.open(tmp_path / "file", os.O_RDWR)
    try:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with pytest.raises(BlockingIOError):
            foreign.read(tmp_path / "file", below=tmp_path, max_bytes=10)
    finally:
        os.close(held)
        signal.signal(signal.SIGIO, before)


def test_no_link_leads_out_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "state").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError):  # noqa: PT011
        foreign.read(tmp_path / "ours" / "state" / "file", below=tmp_path / "ours", max_bytes=10)
    with (
        contextlib.suppress(OSError),
        foreign.open_folder(tmp_path / "ours" / "state", below=tmp_path / "ours"),
    ):
        pytest.fail("a link was followed")


def test_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        foreign.read(tmp_path / "sparse", below=tmp_path, max_bytes=10)
    (tmp_path / "fits").write_bytes(b"0123456789")
    assert foreign.read(tmp_path / "fits", below=tmp_path, max_bytes=10) == b"0123456789"


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"[]", b"{", b"", b"\xff", b'{"a":' * 100_000, b"NaN"]
)
def test_json_that_is_no_object_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011
        foreign.read_json(tmp_path / "file", below=tmp_path)
