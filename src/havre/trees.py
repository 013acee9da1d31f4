"""Walks through trees of files, which may be of any kind, and lead anywhere."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def everything_below(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and state of each file, link and folder; links are yielded, not followed.

    Raises OSError, also for a tree too deep to have paths.
    """
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                yield entry.path, status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)


def let_others_read(prefix: Path) -> None:
    """Whatever the umask or an archive left: copies may run as another user."""
    prefix.chmod(0o755)
    for path, status in everything_below(prefix):
        is_folder = stat.S_ISDIR(status.st_mode)
        mode = 0o755 if is_folder or status.st_mode & 0o100 else 0o644
        if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) != mode:
            os.chmod(path, mode)


def own(folder: Path, uid: int, gid: int) -> None:
    """Give a folder and all in it to a user; links, not what they lead to. Raises OSError."""
    os.chown(folder, uid, gid, follow_symlinks=False)
    for path, _ in everything_below(folder):
        os.chown(path, uid, gid, follow_symlinks=False)
