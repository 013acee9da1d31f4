"""Temporary folders that do not outlive their makers by much, even if these are killed.

Each has a lock in it, which its maker holds and the kernel releases. Whoever sweeps removes those
whose lock is free. It looks at nothing but folders of its own user with names of ours.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from havre.durable import remove_tree, try_lock
from havre.unprivileged import passable_temporary

PREFIX = "havre-held-"
LOCK = ".lock"

logger = logging.getLogger(__name__)


@contextmanager
def folder(what: str, *, is_passable: bool = False) -> Iterator[Path]:
    """A new private folder for ``what``, removed with all in it at the end. Raises OSError.

    ``is_passable``: in a place that a user without any rights gets to; its mode is the caller's.
    """
    below = passable_temporary() if is_passable else tempfile.gettempdir()
    made, lock = _made(f"{PREFIX}{what}-", below)
    try:
        yield made
    finally:
        try:
            remove_tree(made)
        finally:
            os.close(lock)


def sweep(*, within_s: float = float("inf")) -> None:
    """Remove what makers that were killed have left. What takes longer is left to the next time."""
    for below in {tempfile.gettempdir(), passable_temporary()}:
        with suppress(OSError), os.scandir(below) as entries:
            for entry in entries:
                if entry.name.startswith(PREFIX):
                    _sweep(Path(entry.path), within_s)


def _made(prefix: str, below: str) -> tuple[Path, int]:
    """The folder, and the descriptor of its lock."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=below))
        # A sweep may take the new folder in the instant before its lock: then make another.
        with suppress(FileNotFoundError):
            if (lock := try_lock(made / LOCK)) is not None:
                return made, lock


def _sweep(abandoned: Path, within_s: float) -> None:
    try:
        held = os.open(abandoned, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # a link, another user's, or gone by now
        return
    try:
        if os.fstat(held).st_uid != os.geteuid():
            return
        # By its descriptor, so that it is this folder's lock, whatever lies at its path by now.
        lock = try_lock(Path(f"/proc/self/fd/{held}", LOCK))
        if lock is None:
            return
        try:
            remove_tree(abandoned, within_s=within_s)
        finally:
            os.close(lock)
    except OSError as error:
        logger.debug("the abandoned folder %s is not removed: %s", abandoned, error)
    finally:
        os.close(held)
