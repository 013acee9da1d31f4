"""Folders of instances that are gone are out of the way, whatever is in them."""

import os
from pathlib import Path

import pytest

from havre import durable
from havre.engines import trash
from havre.engines.trash import Sweeper


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names that cannot be removed, as the immutable are."""
    names: set[str] = set()
    unlink = os.unlink

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path in names:
            raise PermissionError(1, "Operation not permitted", path)
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(durable.os, "unlink", refuse)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "instances" / "aaaaaaaaaaaa"
    folder.mkdir(parents=True)
    (folder / "immutable").touch()
    (folder / "other").touch()
    return folder


def test_a_folder_is_gone_with_all_in_it(tmp_path: Path, folder: Path) -> None:
    trash.throw_away(folder, tmp_path / "trash")
    trash.throw_away(folder, tmp_path / "trash")
    assert not folder.exists()
    assert trash.left(tmp_path / "trash") == []


def test_what_cannot_be_removed_is_out_of_the_way_and_removed_later(
    tmp_path: Path, folder: Path, stuck: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    stuck.add("immutable")
    trash.throw_away(folder, tmp_path / "trash")
    assert not folder.exists()
    [left] = trash.left(tmp_path / "trash")
    assert os.listdir(left) == ["immutable"]
    sweeper = Sweeper(tmp_path / "trash")
    for _ in range(3):
        sweeper.sweep(within_s=1.0)
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "cannot be removed" in told[0].getMessage()
    stuck.clear()
    sweeper.sweep(within_s=1.0)
    assert trash.left(tmp_path / "trash") == [left], "it is not tried all the time"
    Sweeper(tmp_path / "trash").sweep(within_s=1.0)
    assert trash.left(tmp_path / "trash") == []


def test_a_folder_that_cannot_be_moved_is_emptied_where_it_is(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(trash.os, "rename", refuse)
    trash.throw_away(folder, tmp_path / "trash")
    assert not folder.exists()


def test_what_else_lies_in_the_trash_goes_too(tmp_path: Path) -> None:
    place = tmp_path / "trash"
    place.mkdir()
    (place / "file").touch()
    (place / "link").symlink_to(tmp_path)
    os.mkfifo(place / "pipe")
    Sweeper(place).sweep(within_s=1.0)
    assert trash.left(place) == []
    assert tmp_path.exists()


def test_a_home_without_trash_has_none_left(tmp_path: Path) -> None:
    assert trash.left(tmp_path / "none") == []
    Sweeper(tmp_path / "none").sweep(within_s=1.0)
