"""How much of the disk an instance takes is found whatever it has made of its folders."""

import os
from pathlib import Path

import pytest

from havre.durable import remove_tree
from havre.engines import disk_use
from havre.engines.confinement import InstancePaths
from havre.engines.disk_use import TooMany, measure
from havre.home import Home

MB = 1024 * 1024
ID = "aaaaaaaaaaaa"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    home.instance_logs.mkdir()
    its = InstancePaths(home.instances / ID)
    its.folder.mkdir()
    for folder in its.owned:
        folder.mkdir()
    return home


@pytest.fixture
def place(home: Home) -> Path:
    return InstancePaths(home.instances / ID).temporary


def fill(path: Path, megabytes: float = 1) -> None:
    path.write_bytes(os.urandom(int(megabytes * MB)))


def used_mb(home: Home) -> float:
    return measure(home, ID, [os.getpid()]).bytes / MB


def test_all_that_it_wrote_counts_however_deep(home: Home, place: Path) -> None:
    before = used_mb(home)
    fill(place / "a")
    fill(home.instance_logs / f"{ID}.log")
    here = os.open(".", os.O_RDONLY)
    os.chdir(place)
    try:
        for level in range(600):
            os.mkdir("d")
            os.mkdir("e")
            os.chdir("d")
            if level % 200 == 199:
                fill(Path("file"))
    finally:
        os.fchdir(here)
        os.close(here)
    folders_mb = 1200 * 4096 / MB
    assert 5 <= used_mb(home) - before <= 5 + folders_mb + 0.5
    assert measure(home, ID).files >= 1200
    remove_tree(place)


def test_what_takes_no_room_does_not_count(home: Home, place: Path) -> None:
    before = used_mb(home)
    fill(place / "a")
    for number in range(5):
        os.link(place / "a", place / f"b{number}")
    with (place / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (place / "link").symlink_to("/usr")
    os.mkfifo(place / "pipe")
    assert used_mb(home) - before < 1.2


def test_a_file_that_is_open_and_has_no_name_counts(home: Home, place: Path) -> None:
    before = used_mb(home)
    fill(place / "a", 2)
    with (place / "a").open("rb"):
        (place / "a").unlink()
        assert used_mb(home) - before >= 2
    assert used_mb(home) - before < 1


def test_a_folder_that_is_a_link_is_not_followed(home: Home, place: Path, tmp_path: Path) -> None:
    before = used_mb(home)
    (tmp_path / "outside").mkdir()
    fill(tmp_path / "outside" / "a")
    place.rmdir()
    place.symlink_to(tmp_path / "outside")
    assert used_mb(home) <= before


def test_a_folder_that_is_moved_meanwhile_hides_no_other(
    home: Home, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = used_mb(home)
    for top in ("a", "b", "c"):
        (place / top / "x" / "y").mkdir(parents=True)
        fill(place / top / "file")
        fill(place / top / "x" / "y" / "file")
    enter, moved = disk_use._enter, []

    def enter_and_move(name: str, parent: int) -> int | None:
        entered = enter(name, parent)
        if name == "y" and not moved:
            moved.append(name)
            os.rename("y", "../../z", src_dir_fd=parent, dst_dir_fd=parent)
        return entered

    monkeypatch.setattr(disk_use, "_enter", enter_and_move)
    assert used_mb(home) - before >= 6
    assert moved == ["y"]


def test_of_an_instance_that_is_gone_nothing_is_found(home: Home) -> None:
    assert measure(home, "bbbbbbbbbbbb").bytes == 0


def test_there_is_an_end_to_counting_and_pauses_before_it(
    home: Home, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_use, "MAX_FILES", 50)
    monkeypatch.setattr(disk_use, "AT_ONCE", 10)
    for number in range(60):
        (place / str(number)).touch()
    pauses = []
    with pytest.raises(TooMany):
        measure(home, ID, pause=lambda: pauses.append(1))
    assert len(pauses) == 5
