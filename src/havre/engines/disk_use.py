"""How much of the disk an instance takes: its own folders, its log, what it holds open unnamed.

A model may have any number of files, nested as deep as it likes, and may change them meanwhile. So
nothing is followed, no path is put together, and whoever asks sets the pace.
"""

import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from havre import foreign
from havre.domain import instance_logs
from havre.engines.confinement import InstancePaths
from havre.home import Home

MAX_FILES = 1_000_000
AT_ONCE = 500
"""Files looked at before there is a pause."""
BLOCK = 512
"""Bytes in a block of ``st_blocks`` (POSIX stat(2)), whatever the file system's own are."""


class TooMany(Exception):
    """It has more than `MAX_FILES`."""


@dataclass(slots=True)
class Use:
    """``counted`` are those files in it that several names lead to, or that have none."""

    bytes: int = 0
    files: int = 0
    counted: set[tuple[int, int]] = field(default_factory=set)

    def add(self, about: os.stat_result) -> None:
        """Raises TooMany."""
        self.files += 1
        if self.files > MAX_FILES:
            raise TooMany
        if not stat.S_ISDIR(about.st_mode) and about.st_nlink != 1:
            if (about.st_dev, about.st_ino) in self.counted:
                return
            self.counted.add((about.st_dev, about.st_ino))
        self.bytes += about.st_blocks * BLOCK


def measure(
    home: Home, instance_id: str, pids: Iterable[int] = (), pause: Callable[[], None] = lambda: None
) -> Use:
    """Of an instance whose processes are ``pids``. Raises TooMany.

    Where we are not root, folders that the model has closed to itself are left out.
    """
    use = Use()
    its = InstancePaths(home.instances / instance_id)
    for owned in its.owned:
        try:
            with foreign.open_folder(owned, below=home.instances) as top:
                for about in _below(top):
                    use.add(about)
                    if use.files % AT_ONCE == 0:
                        pause()
        except OSError:
            continue  # it is being removed, or is no folder any more
    with suppress(FileNotFoundError):
        use.add(os.lstat(home.instance_logs / instance_logs.of_keeper(instance_id)))
    with suppress(FileNotFoundError):
        for about in _unnamed(pids, os.lstat(its.folder).st_dev):
            use.add(about)
    return use


def _below(top: int) -> Iterator[os.stat_result]:
    """All that lies below a folder. One folder is open at a time: the way back is by its parent."""
    here = os.dup(top)
    way: list[tuple[tuple[int, int], list[str]]] = []
    try:
        folders = yield from _look(here)
        while True:
            if folders:
                before = _identity(os.fstat(here))
                beneath = _enter(folders.pop(), here)
                if beneath is None:
                    continue
                os.close(here)
                here = beneath
                way.append((before, folders))
                folders = yield from _look(here)
                continue
            if not way:
                return
            above = os.open("..", foreign.FOLDER, dir_fd=here)
            os.close(here)
            here = above
            before, folders = way.pop()
            if _identity(os.fstat(here)) != before:
                # It was moved under our feet: back to the top, for what is left there.
                os.close(here)
                here = os.dup(top)
                if way:
                    folders = way[0][1]
                    way.clear()
    finally:
        os.close(here)


def _look(folder: int) -> Generator[os.stat_result, None, list[str]]:
    """What is in one folder; returns the names of the folders in it."""
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                about = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(about.st_mode):
                folders.append(entry.name)
            yield about
    return folders


def _enter(name: str, parent: int) -> int | None:
    try:
        return os.open(name, foreign.FOLDER, dir_fd=parent)
    except OSError:
        return None


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _unnamed(pids: Iterable[int], device: int) -> Iterator[os.stat_result]:
    """Files of this file system that processes hold open, and that no name leads to any more."""
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            descriptors = os.listdir(folder)
        except OSError:
            continue  # it has ended, or is not to be looked at
        for descriptor in descriptors:
            try:
                about = os.stat(f"{folder}/{descriptor}")
            except OSError:
                continue
            if stat.S_ISREG(about.st_mode) and about.st_nlink == 0 and about.st_dev == device:
                yield about
