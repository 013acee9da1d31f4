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
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice, takewhile
from pathlib import Path

_OPEN_AT_ONCE = 64
_ENTRIES_AT_ONCE = 4096
_MAX_KEPT = 4096
_MAX_REFILLS = 100
"""How often a folder is emptied again that somebody fills meanwhile."""


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file at once: readers see the old content or the new. Raises OSError.

    What a writer that was killed has left beside it goes, too.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _remove_abandoned(folder, path.name)
        beside, descriptor = _open_beside(folder, path.name, mode)
        with open(descriptor, "wb") as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
                os.rename(beside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(beside, dir_fd=folder)
                raise
        os.fsync(folder)
    finally:
        os.close(folder)


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


def remove_tree(root: Path, *, within_s: float = float("inf")) -> None:
    """Remove a folder and all in it, whoever filled it; absent is fine.

    However deep it is, whatever its names, modes and number of entries: no path is put together, no
    link followed, and a bounded number of folders is open. What cannot be removed is passed over
    and the rest goes. Raises OSError, the first there was; TimeoutError when it takes longer.
    """
    deadline = time.monotonic() + within_s
    for left in reversed(range(_MAX_REFILLS)):
        try:
            _Emptying(_open_to_empty(root)).run(deadline)
            root.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not left:
                raise


class _Folder:
    """One that is being emptied. ``kept``: names in it that cannot be removed."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.kept: set[str] = set()
        self._entries: list[tuple[str, bool]] = []

    def next(self) -> tuple[str, bool] | None:
        """Name of what is to go, and whether it is a folder; None when nothing is."""
        if not self._entries:
            # Somebody else may be removing it, too: then there is nothing to list any more.
            with suppress(FileNotFoundError), os.scandir(self.descriptor) as entries:
                left = (entry for entry in entries if entry.name not in self.kept)
                self._entries = [
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in islice(left, _ENTRIES_AT_ONCE)
                ]
        return self._entries.pop() if self._entries else None


class _Emptying:
    """Removes what is in the folder ``top``, a descriptor that is its own from then on."""

    def __init__(self, top: int) -> None:
        self._way = [_Folder("", top)]
        self._troubles: list[OSError] = []
        self._refilled = 0

    def run(self, deadline: float) -> None:
        """Raises OSError, the first there was."""
        try:
            while self._step():
                if time.monotonic() > deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "removing so many files takes longer")
        finally:
            for folder in self._way:
                os.close(folder.descriptor)
        if self._troubles:
            raise self._troubles[0]

    def _step(self) -> bool:
        here = self._way[-1]
        entry = here.next()
        if len(self._troubles) > _MAX_KEPT or (entry is None and len(self._way) == 1):
            return False
        if entry is not None:
            name, is_folder = entry
            self._try(here, name, self._enter if is_folder else _remove_file)
            return True
        self._way.pop()
        os.close(here.descriptor)
        if here.kept:
            self._way[-1].kept.add(here.name)
        else:
            self._try(self._way[-1], here.name, _remove_folder)
        return True

    def _try(self, folder: _Folder, name: str, act: Callable[[str, int], None]) -> None:
        try:
            act(name, folder.descriptor)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.ENOTEMPTY and self._refilled < _MAX_REFILLS:
                self._refilled += 1  # somebody writes there still: it is found once more
                return
            folder.kept.add(name)
            self._troubles.append(error)

    def _enter(self, name: str, parent: int) -> None:
        descriptor = _open_to_empty(name, dir_fd=parent)
        if len(self._way) < _OPEN_AT_ONCE:
            self._way.append(_Folder(name, descriptor))
            return
        os.close(descriptor)
        # Deeper than folders are held open: it goes on from the top.
        raised = f".{secrets.token_hex(8)}"
        os.rename(name, raised, src_dir_fd=parent, dst_dir_fd=self._way[0].descriptor)


def _remove_file(name: str, parent: int) -> None:
    os.unlink(name, dir_fd=parent)


def _remove_folder(name: str, parent: int) -> None:
    os.rmdir(name, dir_fd=parent)


def _open_to_empty(path: str | Path, *, dir_fd: int | None = None) -> int:
    """A descriptor of a folder whose entries may be removed. Raises OSError."""
    flags = os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
    # Without any permission on it this is still allowed; and it can be nothing but this folder.
    held = os.open(path, os.O_PATH | flags, dir_fd=dir_fd)
    try:
        itself = f"/proc/self/fd/{held}"
        if stat.S_IMODE(os.fstat(held).st_mode) & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(itself, stat.S_IRWXU)
        return os.open(itself, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(held)


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
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError:  # ours, and closed to changes since, as a finished upload is
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return _lock_now(descriptor, path)


def try_lock_folder(path: Path) -> int | None:
    """The same on a folder itself, which holds until it is gone. Raises OSError if it is none."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return _lock_now(os.open(path, flags), path)


def _lock_now(descriptor: int, path: Path) -> int | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_current(descriptor, path):
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
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


def _open_beside(folder: int, name: str, mode: int) -> tuple[str, int]:
    """A new file for what will be ``name``; the lock on it says that its writer lives."""
    while True:
        beside = f".{name}.{secrets.token_hex(6)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(beside, flags, mode, dir_fd=folder)
        with suppress(OSError):  # no locks here: then nobody takes it for abandoned, either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another writer may have found it before it was locked.
        if _is_current(descriptor, beside, dir_fd=folder):
            return beside, descriptor
        os.close(descriptor)


def _remove_abandoned(folder: int, name: str) -> None:
    abandoned = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{12}}")
    # Whatever has such a name: opening it must not wait for the other end of a pipe.
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    for beside in filter(abandoned.fullmatch, os.listdir(folder)):
        # Gone meanwhile, a living writer's, or not ours: it stays.
        with suppress(OSError):
            descriptor = os.open(beside, flags, dir_fd=folder)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_current(descriptor, beside, dir_fd=folder):
                    os.unlink(beside, dir_fd=folder)
            finally:
                os.close(descriptor)


def _is_current(descriptor: int, path: str | Path, *, dir_fd: int | None = None) -> bool:
    """Whether the locked file is still the one the path names: a holder may have removed it."""
    try:
        named = os.stat(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), named)
