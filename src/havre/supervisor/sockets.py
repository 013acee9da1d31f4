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
        self._seen: set[Path] = set()
        self._settled: _Look | None = None

    def expect(self, paths: Iterable[Path]) -> None:
        """These are about to be bound: what has their names is of a process that has ended.

        Raises OSError.
        """
        for path in paths:
            remove_socket(path)
            remove_socket(self._second(path))
            self._seen.discard(path)
        self._settled = None

    def restore(self, wanted: Mapping[Path, bool]) -> tuple[list[Path], list[Path]]:
        """Those that were put back, and those that cannot be.

        ``wanted`` has of each whether it must be there, or may not have been bound yet. Second
        names of others are removed. Raises OSError, and SystemFault when the folders are not ours.
        """
        if self._settled is not None and self._settled == self._look(wanted):
            return [], []
        for folder in self._folders:
            _make_private(folder)
        back, lost = [], []
        for path, is_due in wanted.items():
            named, second = _socket(path), _socket(self._second(path))
            if named is None and second is None:
                if is_due or path in self._seen:
                    lost.append(path)
                continue
            self._seen.add(path)
            if second is None:
                os.link(path, self._second(path), follow_symlinks=False)
            elif named != second:
                self._put_back(path)
                back.append(path)
        names = {path.name for path in wanted}
        for other in self._kept.iterdir():
            if other.name not in names:
                other.unlink()
        looked = self._look(wanted)
        is_old = all(changed + RACY_NS < time.time_ns() for changed in looked.changed_ns)
        self._settled = looked if is_old and not lost else None
        return back, lost

    def close(self) -> None:
        """Nothing is bound any more."""
        with suppress(OSError):
            remove_tree(self._kept)

    def _look(self, wanted: Mapping[Path, bool]) -> "_Look":
        found = [_folder(each) for each in self._folders]
        return _Look(dict(wanted), [each[0] for each in found], [each[1] for each in found])

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

    wanted: dict[Path, bool]
    folders: list[Inode]
    changed_ns: list[int]


def _socket(path: Path) -> Inode | None:
    """None where no socket has this name."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def _folder(path: Path) -> tuple[Inode, int]:
    """Which it is, and when a name in it has last come or gone."""
    try:
        found = path.lstat()
    except OSError:
        return (0, 0), 0
    return (found.st_dev, found.st_ino), found.st_mtime_ns


def _make_private(folder: Path) -> None:
    """It may lie in a folder that others write to: it must be ours alone."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_ours or found.st_mode & 0o077:
        raise SystemFault(
            f"{folder} is open to other users; remove it, or make it yours with mode 0700"
        )
