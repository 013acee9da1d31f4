"""Temporary folders: kept while their maker lives, removed once it does not."""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from havre import temporary
from havre.durable import remove_tree, try_lock_folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary, "passable_temporary", lambda: str(tmp_path))
    return tmp_path


def abandoned(path: Path) -> Path:
    path.mkdir(mode=0o700)
    (path / "deep").mkdir()
    (path / "deep" / "file").touch()
    return path


def test_a_folder_is_private_and_gone_at_the_end(place: Path) -> None:
    with temporary.folder("build") as made:
        assert made.parent == place
        assert made.name.startswith("havre-held-build-")
        assert made.stat().st_mode & 0o777 == 0o700
        (made / "file").touch()
    assert list(place.iterdir()) == []


def test_a_sweep_leaves_what_is_held_and_removes_what_is_not(place: Path) -> None:
    with temporary.folder("build", is_passable=True) as made:
        (made / "file").touch()
        abandoned(place / "havre-held-build-x")
        temporary.sweep()
        assert list(place.iterdir()) == [made]
        assert (made / "file").exists()


def test_a_sweep_touches_nothing_but_folders_with_names_of_ours(place: Path) -> None:
    target = abandoned(place / "elsewhere")
    (place / "havre-held-link").symlink_to(target)
    (place / "havre-held-file").touch()
    abandoned(place / "havre-scratch-1")
    before = sorted(place.rglob("*"))
    temporary.sweep()
    assert sorted(place.rglob("*")) == before


def test_a_sweep_touches_nothing_of_other_users(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned(place / "havre-held-theirs")
    before = sorted(place.rglob("*"))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    temporary.sweep()
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_folder_that_a_sweep_takes_before_its_lock_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    flock, taken = fcntl.flock, []
    open_ = os.open

    def opens(path: Path, flags: int, **rest: Any) -> int:
        descriptor = open_(path, flags, **rest)
        if not taken:
            taken.append(Path(path))
            if is_gone:
                remove_tree(taken[0])
            else:
                flock(open_(path, flags), fcntl.LOCK_EX)
        return descriptor

    monkeypatch.setattr(os, "open", opens)
    with temporary.folder("build") as made:
        assert made != taken[0]
        assert made.is_dir()


def test_a_maker_never_gets_a_folder_that_is_being_removed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that is first locks the folder until it is gone."""
    attempts = []

    def removes(path: Path, *, within_s: float) -> None:
        attempts.append(try_lock_folder(path))
        remove_tree(path)

    abandoned(place / "havre-held-new")
    monkeypatch.setattr(temporary, "remove_tree", removes)
    temporary.sweep()
    assert attempts == [None]


def test_what_a_sweep_cannot_finish_in_time_goes_with_a_later_one(place: Path) -> None:
    dead = abandoned(place / "havre-held-large")
    temporary.sweep(within_s=-1.0)
    assert dead.exists()
    temporary.sweep()
    assert not dead.exists()
