"""Which user a model runs as: where there can be one of its own, root is not taken instead."""

from collections.abc import Callable
from pathlib import Path

import pytest

from havre.engines import users
from havre.engines.users import ALLOWED, NEVER, UNAVOIDABLE, Choice, choose
from havre.supervisor.protocol import User

OWN = User(70000, 70000)
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """As on a machine of this kind; what is above the test's folder counts as open."""

    def make(*, why: str = "", mounts: bool = True, uid: int = 0) -> None:
        monkeypatch.setattr(users, "why_not_separate_users", lambda: why)
        monkeypatch.setattr(users, "may_change_mounts", lambda: mounts)
        monkeypatch.setattr("os.geteuid", lambda: uid)

    for folder in tmp_path.parents:
        is_ours = str(folder).startswith(("/tmp/", "/dev/shm/"))
        if is_ours and folder.stat().st_mode & 0o055 != 0o055:
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    return make


def decided(path: Path, as_root: str = UNAVOIDABLE) -> Choice:
    return choose(OWN, passed=[], read=[path], as_root=as_root)


def folder(at: Path, name: str, mode: int) -> Path:
    (at / name).mkdir()
    (at / name).chmod(mode)
    return at / name


def test_what_is_open_is_reached_as_its_own_user(machine: Machine, tmp_path: Path) -> None:
    machine()
    for as_root in users.AS_ROOT:
        assert decided(folder(tmp_path, as_root, 0o755), as_root) == Choice(user=OWN)


def test_closed_folders_on_the_way_are_opened_in_the_view(machine: Machine, tmp_path: Path) -> None:
    machine()
    outer = folder(tmp_path, "outer", 0o700)
    inner = folder(outer, "inner", 0o750)
    environment = folder(inner, "environment", 0o755)
    (tmp_path / "link").symlink_to(environment)
    for path in (environment, tmp_path / "link"):
        assert decided(path) == Choice(user=OWN, opened=(str(outer),))


@pytest.mark.parametrize("as_root", users.AS_ROOT)
@pytest.mark.parametrize("what", ["closed itself", "no mounts"])
def test_what_cannot_be_reached_is_refused_unless_root_is_allowed(
    machine: Machine, tmp_path: Path, what: str, as_root: str
) -> None:
    machine(mounts=what != "no mounts")
    path = {
        "closed itself": lambda: folder(tmp_path, "closed", 0o700),
        "no mounts": lambda: folder(folder(tmp_path, "closed", 0o700), "inside", 0o755),
    }[what]()
    choice = decided(path, as_root)
    assert choice.user is None
    assert bool(choice.refusal) is (as_root != ALLOWED)
    said = choice.refusal or choice.note
    assert str(tmp_path) in said
    assert "root" in said


def test_where_root_can_start_no_other_user_the_setting_decides(
    machine: Machine, tmp_path: Path
) -> None:
    machine(why="root lacks the capabilities SETUID")
    assert decided(tmp_path, NEVER).refusal
    for as_root in (UNAVOIDABLE, ALLOWED):
        assert "SETUID" in decided(tmp_path, as_root).note
        assert not decided(tmp_path, as_root).refusal


def test_what_is_not_there_is_no_reason_to_run_as_root(machine: Machine, tmp_path: Path) -> None:
    machine()
    assert decided(tmp_path / "missing") == Choice(user=OWN)


def test_who_is_not_root_has_no_choice(machine: Machine, tmp_path: Path) -> None:
    machine(why="havre does not run as root", uid=1000)
    why = "the model runs as the server's own user: havre does not run as root"
    assert decided(tmp_path, NEVER) == Choice(note=why)
