"""The content of a folder, listed again only when a name may have been added or removed.

Folders of deleted deployments stay for as long as their logs are kept: a loop that runs several
times a second must not read all their names each time.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

RACY_NS = 3_000_000_000
"""A folder that was changed so recently may change again without a change of its time."""


class Listing:
    """Of one folder, which need not exist. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._as_of: tuple[int, int] | None = None
        self._folders: list[str] = []
        self._files: list[str] = []

    def folders(self) -> Sequence[str]:
        """Their names, in order. Raises OSError, as `files` does."""
        self._refresh()
        return self._folders

    def files(self) -> Sequence[str]:
        """The names of all that is no folder, in order."""
        self._refresh()
        return self._files

    def _refresh(self) -> None:
        now = time.time_ns()
        try:
            status = os.stat(self._folder)
            as_of = status.st_ino, status.st_mtime_ns
            if as_of == self._as_of:
                return
            with os.scandir(self._folder) as entries:
                listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except FileNotFoundError:
            listed, as_of = [], (0, now)
        self._folders = sorted(name for name, is_folder in listed if is_folder)
        self._files = sorted(name for name, is_folder in listed if not is_folder)
        self._as_of = as_of if as_of[1] + RACY_NS < now else None
