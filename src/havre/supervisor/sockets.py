"""The names of a home's sockets: put back when somebody has removed them.

A socket whose name is gone lives on, reached by nobody, and the kernel gives it no other. So each
has a second name in a folder beside, from which the first one is made again. Where both are gone
there is nothing left to name: whoever bound the socket must begin again.
"""

import os
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from havre.domain.errors import SystemFault
from havre.durable import remove_tree
from havre.supervisor.spawn import remove_socket

KEPT = "kept"
RACY_NS = 1_000_000_000
"""A folder that changed so lately may change again without its time telling."""

Inode = tuple[int, int]


class Sockets:
    """Those in a run folder; the name of each is its own in all of it."""

    def __init__(self, run: Path, instances: Path) -> None:
        self._folders = (run, instances, run / KEPT)
        self._kept = run / KEPT
        self._bound: set[Path] = set()
        self._settled: _Look | None = None

    def expect(self, paths: Iterable[Path]) -> None:
        """These are about to be bound: what has their names is of a process that has ended.

        Raises OSError.
        """
        for path in paths:
            remove_socket(path)
            remove_socket(self._second(path))
            self._bound.discard(path)
        self._settled = None

    def restore(self, required: Mapping[Path, bool]) -> tuple[list[Path], list[Path]]:
        """Those that were put back, and those that cannot be.

        ``required`` has of each whether it must be there, or may not have been bound yet. Second
        names of others are removed. Raises OSError, and SystemFault when the folders are not ours.
        """
        if self._settled is not None and self._settled == self._look(required):
            return [], []
        for folder in self._folders:
            _make_private(folder)
        back, lost = [], []
        for path, is_due in required.items():
            named, second = _socket(path), _socket(self._second(path))
            if named is None and second is None:
                if is_due or path in self._bound:
                    lost.append(path)
                continue
            self._bound.add(path)
            if second is None:
                os.link(path, self._second(path), follow_symlinks=False)
            elif named != second:
                self._put_back(path)
                back.append(path)
        names = {path.name for path in required}
        for other in self._kept.iterdir():
            if other.name not in names:
                other.unlink()
        look = self._look(required)
        is_old = all(changed + RACY_NS < time.time_ns() for changed in look.changed_ns)
        self._settled = look if is_old and not lost else None
        return back, lost

    def close(self) -> None:
        """Nothing is bound any more."""
        with suppress(OSError):
            remove_tree(self._kept)

    def _look(self, required: Mapping[Path, bool]) -> "_Look":
        folders, changed_ns = zip(*map(_folder, self._folders), strict=True)
        return _Look(dict(required), folders, changed_ns)

    def _second(self, path: Path) -> Path:
        return self._kept / path.name

    def _put_back(self, path: Path) -> None:
        beside = path.with_name(f".{path.name}.back")
        beside.unlink(missing_ok=True)
        os.link(self._second(path), beside, follow_symlinks=False)
        beside.rename(path)


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look saw; the same again means that no name has come or gone."""

    required: dict[Path, bool]
    folders: tuple[Inode, ...]
    changed_ns: tuple[int, ...]


def _socket(path: Path) -> Inode | None:
    """None where no socket has this name."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def _folder(path: Path) -> tuple[Inode, int]:
    """Which it is, and when a name in it has last come or gone."""
    try:
        status = path.lstat()
    except OSError:
        return (0, 0), 0
    return (status.st_dev, status.st_ino), status.st_mtime_ns


def _make_private(folder: Path) -> None:
    """It may lie in a folder that others write to: it must be ours alone."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_ours or status.st_mode & 0o077:
        raise SystemFault(
            f"{folder} is open to other users; remove it, or make it yours with mode 0700"
        )
