"""Files and folders that are either whole or not there, whatever instant a process dies at.

Everything that must survive a crash is written beside its place, synchronised and renamed, or is
marked as whole by a last file; who may write is settled by a lock that the kernel releases.
"""

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file at once: readers see the old content or the new. Raises OSError.

    What a writer that was killed has left beside it goes, too.
    """
    _remove_abandoned(path)
    beside, descriptor = _open_beside(path, mode)
    with open(descriptor, "wb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            beside.rename(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a private folder and those missing above it, their names durable. Raises OSError."""
    missing = takewhile(lambda folder: not folder.is_dir(), (path, *path.parents))
    for folder in reversed(list(missing)):
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Make everything below ``root`` durable. Raises OSError.

    One call for the whole file system: ten thousand small files take a second, where an fsync each
    would take a minute.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(root))
    finally:
        os.close(descriptor)


def remove_tree(root: Path) -> None:
    """Remove a folder and all in it, read-only folders too; absent is fine. Raises OSError."""
    if not root.exists():
        return
    root.chmod(stat.S_IRWXU)
    for folder, names, _ in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)
    shutil.rmtree(root)


@contextmanager
def file_lock(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold the one lock that ``path`` names, over all processes and threads; yields its descriptor.

    ``waiting`` is called once if somebody else holds it. A child that is given the descriptor keeps
    the lock for as long as it lives, even when this process is killed.
    """
    descriptor = _lock(path, waiting)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(path: Path) -> int | None:
    """The lock's descriptor (close it to release), or None if somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if _is_current(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def _lock(path: Path, waiting: Callable[[], None] | None) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                    waiting = None
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_current(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open_beside(path: Path, mode: int) -> tuple[Path, int]:
    """A new file for what will be ``path``; the lock on it says that its writer lives."""
    while True:
        beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with suppress(OSError):  # no locks here: then nobody takes it for abandoned, either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another writer may have found it before it was locked.
        if _is_current(descriptor, beside):
            return beside, descriptor
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    abandoned = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}")
    for name in filter(abandoned.fullmatch, os.listdir(path.parent)):
        beside = path.with_name(name)
        # Gone meanwhile, a living writer's, or not ours: it stays.
        with suppress(OSError):
            descriptor = os.open(beside, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_current(descriptor, beside):
                    beside.unlink()
            finally:
                os.close(descriptor)


def _is_current(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one the path names: a holder may have removed it."""
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), named)
