"""Temporary folders that do not outlive their makers by much, even if these are killed.

Each is locked by its maker, and the kernel releases the lock. Whoever sweeps removes those whose
lock is free. It looks at nothing but folders of its own user with names of ours.
"""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from havre.durable import remove_tree, try_lock_folder
from havre.unprivileged import passable_temporary

PREFIX = "havre-held-"

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
    deadline = time.monotonic() + within_s
    with suppress(OSError):  # no folder for temporary files, or one that cannot be read
        for below in {tempfile.gettempdir(), passable_temporary()}:
            with os.scandir(below) as entries:
                for entry in entries:
                    if entry.name.startswith(PREFIX) and time.monotonic() < deadline:
                        _sweep(Path(entry.path), deadline)


def _made(prefix: str, below: str) -> tuple[Path, int]:
    """The folder, and the descriptor that holds its lock."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=below))
        # A sweep may take the new folder in the instant before its lock: then make another.
        try:
            if (lock := try_lock_folder(made)) is not None:
                return made, lock
        except FileNotFoundError:
            continue
        except OSError:  # no locks here: then nobody takes it for abandoned, either
            return made, os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _sweep(abandoned: Path, deadline: float) -> None:
    try:
        lock = try_lock_folder(abandoned)
        if lock is None:
            return
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                remove_tree(abandoned, within_s=deadline - time.monotonic())
        finally:
            os.close(lock)
    except OSError as error:  # a link, another user's, gone by now, or too large for the time
        logger.debug("the abandoned folder %s is not removed: %s", abandoned, error)
