"""Folders of instances that are gone: out of their place at once, removed as it goes.

A model may leave any number of files, and such as nobody can remove: neither may keep its
deployment from being deleted. So a folder is moved away first, which takes one step whatever is in
it, and what is then not removed at once is tried again, less and less often.
"""

import logging
import os
import secrets
import time
from pathlib import Path

from havre.durable import remove_tree

AT_ONCE_S = 1.0
FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 3600.0

logger = logging.getLogger(__name__)


def throw_away(folder: Path, trash: Path) -> None:
    """Safe to repeat; absent is fine. Never raises for what is in the folder.

    Raises OSError when it can be neither moved nor removed.
    """
    aside = trash / f"{folder.name}.{secrets.token_hex(4)}"
    try:
        trash.mkdir(mode=0o700, exist_ok=True)
        os.rename(folder, aside)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.info("%s is not moved to the trash: %s", folder, error)
        remove_tree(folder, within_s=AT_ONCE_S)
        return
    try:
        remove_tree(aside, within_s=AT_ONCE_S)
    except OSError as error:
        logger.info("%s is left in the trash for now: %s", aside, error)


def left(trash: Path) -> list[Path]:
    """What is still in it."""
    try:
        return sorted(trash.iterdir())
    except FileNotFoundError:
        return []


class Sweeper:
    """Empties the trash of one home; remembers only when to try again."""

    def __init__(self, trash: Path) -> None:
        self._trash = trash
        self._pauses: dict[Path, tuple[float, float]] = {}  # how long, and until when

    def sweep(self, *, within_s: float) -> None:
        """One go at what is due. Never raises for what cannot be removed: that is logged, once."""
        deadline = time.monotonic() + within_s
        there = left(self._trash)
        self._pauses = {path: pause for path, pause in self._pauses.items() if path in there}
        for path in there:
            now = time.monotonic()
            if now >= deadline:
                return
            if now >= self._pauses.get(path, (0.0, 0.0))[1]:
                self._remove(path, deadline - now)

    def _remove(self, path: Path, within_s: float) -> None:
        try:
            if path.is_dir() and not path.is_symlink():
                remove_tree(path, within_s=within_s)
            else:
                path.unlink(missing_ok=True)
        except TimeoutError:
            return  # it gets smaller
        except OSError as error:
            if path not in self._pauses:
                logger.warning("%s cannot be removed, it is tried again: %s", path, error)
            before, _ = self._pauses.get(path, (FIRST_PAUSE_S / 2, 0.0))
            pause_s = min(LONGEST_PAUSE_S, 2 * before)
            self._pauses[path] = pause_s, time.monotonic() + pause_s
