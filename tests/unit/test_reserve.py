"""What is kept back for those who make room."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from havre import reserve
from havre.reserve import Reserve

MB = 1024 * 1024


class Disk(NamedTuple):
    total: int
    used: int
    free: int


class SmallDisk:
    """Of 100 MB, on which other files take ``used``; a reserve of 5 MB is wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used = 0

    def usage(self, _: Path) -> Disk:
        here = self.path.stat().st_size if self.path.exists() else 0
        return Disk(100 * MB, self.used + here, max(0, 100 * MB - self.used - here))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    disk = SmallDisk(tmp_path / "reserve")
    monkeypatch.setattr(reserve.shutil, "disk_usage", disk.usage)
    return disk


def size(disk: SmallDisk) -> int:
    return disk.path.stat().st_size


def test_it_is_a_small_share_of_a_small_disk_and_takes_real_room(disk: SmallDisk) -> None:
    kept = Reserve(disk.path)
    assert not kept.is_whole
    kept.keep()
    kept.keep()
    assert size(disk) == 5 * MB
    assert kept.is_whole
    assert disk.path.stat().st_blocks * 512 >= 5 * MB
    assert disk.path.stat().st_mode & 0o777 == 0o600


def test_of_a_large_disk_it_is_16_mb(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).total < 400 * MB or shutil.disk_usage(tmp_path).free < 64 * MB:
        pytest.skip("a small disk")
    kept = Reserve(tmp_path / "reserve")
    kept.keep()
    assert (tmp_path / "reserve").stat().st_size == 16 * MB


def test_it_is_given_back_in_parts_when_the_disk_is_full_and_only_then(disk: SmallDisk) -> None:
    kept = Reserve(disk.path)
    kept.keep()
    assert not kept.release()
    sizes = []
    for _ in range(reserve.PARTS):
        disk.used = 100 * MB - size(disk)  # somebody takes what was given back, too
        assert kept.release()
        sizes.append(size(disk))
    assert sizes == [int(part * MB) for part in (3.75, 2.5, 1.25, 0)]
    disk.used = 100 * MB
    assert not kept.release()


def test_it_is_made_again_when_there_is_room_for_more_than_that(disk: SmallDisk) -> None:
    kept = Reserve(disk.path)
    kept.keep()
    disk.used = 95 * MB
    assert kept.release()
    disk.used = 94 * MB
    kept.keep()
    assert size(disk) == int(3.75 * MB), "it would take the last of it"
    disk.used = 50 * MB
    kept.keep()
    assert size(disk) == 5 * MB


def test_without_a_file_nothing_is_given_back(disk: SmallDisk) -> None:
    disk.used = 100 * MB
    assert not Reserve(disk.path).release()


def test_a_link_in_its_place_is_not_written_to(disk: SmallDisk, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"x")
    disk.path.symlink_to(tmp_path / "theirs")
    Reserve(disk.path).keep()
    assert (tmp_path / "theirs").read_bytes() == b"x"
