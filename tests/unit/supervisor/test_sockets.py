import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from havre.domain.errors import SystemFault
from havre.durable import remove_tree
from havre.supervisor.sockets import KEPT, Sockets


@pytest.fixture
def run() -> Iterator[Path]:
    # A socket's path has 107 bytes.
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="hv"))
    (folder / "i").mkdir(mode=0o700)
    yield folder
    remove_tree(folder)


@pytest.fixture
def sockets(run: Path) -> Sockets:
    return Sockets(run, run / "i")


@pytest.fixture
def bound() -> Iterator["Bound"]:
    with ExitStack() as kept:
        yield Bound(kept)


class Bound:
    """Sockets that are listened at until the end of the test."""

    def __init__(self, kept: ExitStack) -> None:
        self._kept = kept

    def __call__(self, path: Path) -> Path:
        listener = self._kept.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen()
        return path


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


def due(*paths: Path) -> dict[Path, bool]:
    return dict.fromkeys(paths, True)


def test_a_name_that_was_removed_comes_back(run: Path, sockets: Sockets, bound: Bound) -> None:
    api, copy = bound(run / "api.sock"), bound(run / "i" / "a.sock")
    assert sockets.restore(due(api, copy)) == ([], [])
    api.unlink()
    copy.unlink()
    assert sockets.restore(due(api, copy)) == ([api, copy], [])
    assert answers(api)
    assert answers(copy)
    assert sockets.restore(due(api, copy)) == ([], [])


def test_a_name_that_means_something_else_is_put_right(
    run: Path, sockets: Sockets, bound: Bound
) -> None:
    api = bound(run / "api.sock")
    sockets.restore(due(api))
    api.unlink()
    api.write_text("in the way")
    assert sockets.restore(due(api)) == ([api], [])
    assert answers(api)


def test_with_all_its_folders_removed_it_is_lost(run: Path, sockets: Sockets, bound: Bound) -> None:
    api = bound(run / "api.sock")
    sockets.restore(due(api))
    remove_tree(run)
    assert sockets.restore(due(api)) == ([], [api])
    assert (run / "i").stat().st_mode & 0o777 == 0o700, "whoever begins anew can bind there"


def test_what_may_not_have_been_bound_yet_is_not_lost(
    run: Path, sockets: Sockets, bound: Bound
) -> None:
    api = run / "api.sock"
    assert sockets.restore({api: False}) == ([], [])
    bound(api)
    assert sockets.restore({api: False}) == ([], [])
    api.unlink()
    assert sockets.restore({api: False}) == ([api], [])
    remove_tree(run)
    assert sockets.restore({api: False}) == ([], [api]), "it has been there"


def test_what_a_dead_process_bound_is_not_put_in_place_of_the_next(
    run: Path, sockets: Sockets, bound: Bound
) -> None:
    api = bound(run / "api.sock")
    sockets.restore(due(api))
    sockets.expect([api])
    assert not api.exists()
    bound(api)
    inode = api.stat().st_ino
    assert sockets.restore(due(api)) == ([], [])
    assert api.stat().st_ino == inode


def test_names_of_what_has_ended_go(run: Path, sockets: Sockets, bound: Bound) -> None:
    api, copy = bound(run / "api.sock"), bound(run / "i" / "a.sock")
    sockets.restore(due(api, copy))
    sockets.restore(due(api))
    assert [path.name for path in (run / KEPT).iterdir()] == ["api.sock"]
    sockets.close()
    assert not (run / KEPT).exists()


def test_a_look_at_what_has_not_changed_opens_no_socket_of_it(
    run: Path, sockets: Sockets, bound: Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes every two seconds, however many instances there are."""
    paths = [bound(run / "i" / f"{number}.sock") for number in range(40)]
    sockets.restore(due(*paths))
    for folder in (run, run / "i", run / KEPT):
        os.utime(folder, (1, 1))  # long ago: a change within one tick of the clock is not missed
    sockets.restore(due(*paths))
    looked: list[Path] = []
    lstat = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: (looked.append(path), lstat(path))[1])
    assert sockets.restore(due(*paths)) == ([], [])
    assert len(looked) == 3
    paths[7].unlink()
    assert sockets.restore(due(*paths)) == ([paths[7]], [])


def test_folders_that_others_may_write_to_are_not_used(
    run: Path, sockets: Sockets, bound: Bound
) -> None:
    api = bound(run / "api.sock")
    sockets.restore(due(api))
    (run / "i").chmod(0o777)
    with pytest.raises(SystemFault, match="open to other users"):
        sockets.restore(due(api))
