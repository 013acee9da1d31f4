"""Which users models run as, and what such users can reach."""

from pathlib import Path

import pytest

from havre import unprivileged
from havre.unprivileged import group_of, reachable, unreachable_part, user_of


@pytest.fixture
def open_place(tmp_path: Path) -> Path:
    """A folder below a root of our own, with everything above it taken as passable."""
    place = tmp_path / "place"
    place.mkdir(mode=0o755)
    return place


@pytest.fixture(autouse=True)
def passable(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid != 0 or str(folder).startswith(("/tmp/", "/dev/shm/")):
            folder.chmod(folder.stat().st_mode | 0o055)


def test_numbers_differ_by_deployment_and_are_far_from_people() -> None:
    numbers = {user_of(f"ocid1.{index}") for index in range(1000)}
    assert len(numbers) == 1000
    assert min(numbers) >= 32768
    assert max(numbers) < 1 << 31
    assert user_of("x") == user_of("x") != group_of("x")


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "blocker"),
    [
        (0o755, 0o644, None),
        (0o711, 0o604, None),
        (0o750, 0o644, "place"),
        (0o755, 0o640, "place/file"),
    ],
)
def test_modes_on_the_way_decide(
    open_place: Path, folder_mode: int, file_mode: int, blocker: str | None
) -> None:
    file = open_place / "file"
    file.touch()
    file.chmod(file_mode)
    open_place.chmod(folder_mode)
    expected = None if blocker is None else open_place.parent / blocker
    assert unreachable_part(file) == expected
    assert reachable(file) is (blocker is None)


def test_every_link_is_followed(open_place: Path) -> None:
    closed = open_place / "closed"
    closed.mkdir(mode=0o700)
    (closed / "python").touch(mode=0o755)
    (open_place / "second").symlink_to("closed")
    (open_place / "first").symlink_to("../place/second/python")
    assert unreachable_part(open_place / "first") == closed
    closed.chmod(0o755)
    assert reachable(open_place / "first")


def test_what_is_not_there_or_goes_in_circles_is_out_of_reach(open_place: Path) -> None:
    (open_place / "circle").symlink_to("circle")
    assert not reachable(open_place / "circle")
    assert unreachable_part(open_place / "absent" / "file") == open_place / "absent"


def test_a_folder_may_be_passed_without_being_listed(open_place: Path) -> None:
    open_place.chmod(0o711)
    assert unreachable_part(open_place) == open_place
    assert unreachable_part(open_place, is_read=False) is None


MACHINE = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/x rw\n"
CHROOT = "23 22 0:5 / /proc rw - proc x rw\n"


@pytest.mark.parametrize(
    ("mounts", "is_mounted"),
    [(MACHINE + CHROOT, True), (CHROOT, False), ("what is this\n", True)],
    ids=["a machine", "a chroot", "unknown"],
)
def test_a_chroot_has_no_mounted_root(tmp_path: Path, mounts: str, is_mounted: bool) -> None:
    (tmp_path / "mountinfo").write_text(mounts)
    assert unprivileged._has_mounted_root(tmp_path / "mountinfo") is is_mounted
    assert unprivileged._has_mounted_root(tmp_path / "none")
