import errno
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from havre.supervisor import identity
from havre.supervisor.identity import identify, is_running, open_pidfd, read_stat, send_signal


def test_a_running_process_is_recognised_and_nothing_else_is() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert is_running(me)
    for stranger in (
        replace(me, start_time=me.start_time - 1),
        replace(me, boot_id="another boot"),
        replace(me, pid=2**22 + 1),
    ):
        assert not is_running(stranger)
        assert open_pidfd(stranger) is None
        assert not send_signal(stranger, signal.SIGKILL), "we would be dead"


def test_a_program_may_call_itself_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = ["S", "7", "42", "42", *["0"] * 15, "9876", "0"]
    (tmp_path / "stat").write_text(f"42 (odd) name) R 1 2) {' '.join(fields)}")
    real_open = open
    monkeypatch.setattr(
        "builtins.open", lambda path, *rest: real_open(tmp_path / "stat", *rest), raising=True
    )
    stat = read_stat(42)
    monkeypatch.undo()
    assert stat is not None
    assert (stat.state, stat.parent, stat.group, stat.session) == ("S", 7, 42, 42)
    assert stat.start_time == 9876


def test_what_others_run_may_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid=1 /proc names every process, and lets nobody look at another user's."""
    real_open = open

    def open_own(path: str, *rest: str) -> object:
        if path == "/proc/1/stat":
            raise PermissionError(1, "Operation not permitted", path)
        return real_open(path, *rest)

    monkeypatch.setattr("builtins.open", open_own)
    found = {stat.pid for stat in identity.living_processes()}
    assert read_stat(1) is None
    assert 1 not in found
    assert os.getpid() in found


def test_this_process_is_among_the_living() -> None:
    mine = [stat for stat in identity.living_processes() if stat.pid == os.getpid()]
    assert len(mine) == 1
    assert mine[0].parent == os.getppid()


@pytest.fixture
def no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)


@pytest.mark.usefixtures("no_descriptors")
def test_without_descriptors_only_this_very_process_is_signalled() -> None:
    me = identify(os.getpid())
    assert me is not None
    with pytest.raises(OSError, match="not implemented"):
        open_pidfd(me)
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        assert send_signal(me, signal.SIGUSR1)
        assert not send_signal(me, signal.SIGUSR1, only_if=lambda: False)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
    for stranger in (replace(me, start_time=me.start_time - 1), replace(me, pid=2**22 + 1)):
        assert not send_signal(stranger, signal.SIGKILL), "we would be dead"


def test_a_boot_has_a_name_where_the_kernels_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.read_text

    def read(path: Path, *rest: str) -> str:
        if path.name == "boot_id":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path, *rest)

    monkeypatch.setattr(Path, "read_text", read)
    name = identity.boot_id.__wrapped__()
    assert name.startswith("btime ")
    assert name == identity.boot_id.__wrapped__()
