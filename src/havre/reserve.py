"""Disk that is kept back: on a full one it is what lets somebody make room.

Whoever deletes or deactivates needs a few pages for the database, the records and the routes. They
get them from here, a part at a time, in case what has filled the disk takes the first ones, too.
"""

import errno
import logging
import os
import shutil
import threading
from pathlib import Path

MAX_SIZE = 16 * 1024 * 1024
SHARE = 0.05
"""Of a small disk it takes no more."""
PARTS = 4
FULL_BELOW = 256 * 1024
"""Who has less free than that cannot write much."""

_BLOCK = 1024 * 1024

logger = logging.getLogger(__name__)


class Reserve:
    """One file. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    @property
    def is_whole(self) -> bool:
        return self._size() >= self._target_size()

    def keep(self) -> None:
        """Make it, or make it whole again, if the disk has room for more than that."""
        with self._lock:
            missing = self._target_size() - self._size()
            if self.is_whole or self._free() < missing + self._target_size():
                return
            try:
                self._grow(missing)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    logger.warning("%s cannot be written: %s", self._path, error)

    def release(self) -> bool:
        """If the disk is full, give a part of it back; whether it was, and there was one."""
        with self._lock:
            size = self._size()
            if not size or self._free() >= FULL_BELOW:
                return False
            left = max(0, size - max(self._target_size() // PARTS, 1))
            try:
                os.truncate(self._path, left)
            except OSError as error:
                logger.warning("%s cannot be given back: %s", self._path, error)
                return False
        logger.warning("the disk is full: %d bytes of the reserve are given back", size - left)
        return True

    def _grow(self, missing: int) -> None:
        """Random bytes: a file system may keep no room for a hole, or for zeros."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(self._path, flags, 0o600), "wb", buffering=0) as file:
            for at in range(0, missing, _BLOCK):
                file.write(os.urandom(min(_BLOCK, missing - at)))

    def _size(self) -> int:
        try:
            return self._path.lstat().st_size
        except OSError:
            return 0

    def _target_size(self) -> int:
        return min(MAX_SIZE, int(SHARE * shutil.disk_usage(self._path.parent).total))

    def _free(self) -> int:
        return shutil.disk_usage(self._path.parent).free
