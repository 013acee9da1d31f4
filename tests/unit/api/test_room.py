"""Who makes room is not refused for want of it, as long as something is kept back."""

from types import SimpleNamespace
from typing import Any

import pytest

from havre.api.room import with_room
from havre.domain.errors import Conflict, StateUnavailable
from havre.reserve import PARTS


class Kept:
    def __init__(self, parts: int) -> None:
        self.parts = parts

    def release(self) -> bool:
        self.parts -= 1
        return self.parts >= 0


def here(parts: int) -> Any:
    return SimpleNamespace(reserve=Kept(parts))


def refused(times: int) -> Any:
    """A change that the disk takes after so many tries."""
    left = [StateUnavailable("database or disk is full")] * times

    def change() -> str:
        if left:
            raise left.pop()
        return "done"

    return change


def test_with_room_nothing_is_given_back() -> None:
    services = here(PARTS)
    assert with_room(services, refused(0)) == "done"
    assert services.reserve.parts == PARTS


@pytest.mark.parametrize("times", [1, PARTS])
def test_on_a_full_disk_it_is_tried_with_what_is_given_back(times: int) -> None:
    services = here(PARTS)
    assert with_room(services, refused(times)) == "done"
    assert services.reserve.parts == PARTS - times


def test_it_is_refused_when_nothing_is_left_or_it_was_not_the_disk() -> None:
    with pytest.raises(StateUnavailable, match="full"):
        with_room(here(0), refused(1))
    with pytest.raises(StateUnavailable, match="full"):
        with_room(here(PARTS), refused(PARTS + 1))


def test_other_refusals_are_told_at_once() -> None:
    services = here(PARTS)

    def change() -> None:
        raise Conflict("it is deleted already")

    with pytest.raises(Conflict):
        with_room(services, change)
    assert services.reserve.parts == PARTS
