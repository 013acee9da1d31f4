"""Changes that make room must be possible on a full disk."""

from collections.abc import Callable
from typing import TypeVar

from havre.api.services import Services
from havre.domain.errors import StateUnavailable
from havre.reserve import PARTS

Made = TypeVar("Made")


def with_room(here: Services, change: Callable[[], Made]) -> Made:
    """Make a change; where the disk is full, with what is kept back for it.

    Raises StateUnavailable when there is nothing left of that, or it was not the disk.
    """
    for _ in range(PARTS):
        try:
            return change()
        except StateUnavailable:
            if not here.reserve.release():
                raise
    return change()
