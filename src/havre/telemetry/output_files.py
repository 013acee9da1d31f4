"""The files that instances print and capture into: which there are, how they are read and freed.

Copies' files are the model's own while it runs, and their content always was. So links are not
followed, nothing but plain files is read, and what was truncated or replaced is noticed.
"""

import contextlib
import ctypes
import itertools
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from havre.domain import instance_logs
from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry.layout import CAPTURE, Kind

KEEPER = "keeper"
MOST_LOOKED_AT = 4096
BLOCK = 64 * 1024
COUNTED = 256 * 1024 * 1024
"""Bytes in which lines are counted before they are skipped; of more only the bytes are."""

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h


@dataclass(frozen=True, slots=True)
class Source:
    """One file. ``copy`` is None for a keeper's; ``is_over``: nobody writes to it any more.

    ``begins`` is where what has not been read before begins, for who knows nothing of it.
    """

    instance: str
    revision: str
    name: str
    path: Path
    copy: int | None
    is_over: bool
    begins: int = 0
    kind: Kind = Category.PREDICT

    @property
    def key(self) -> str:
        """The same wherever the file lies; no other file ever has it."""
        return f"{self.instance}/{self.name}"


@dataclass(frozen=True, slots=True)
class Instance:
    """Whose output is read, and the files it is in."""

    id: str
    deployment: str
    about: Path
    lives: bool
    sources: tuple[Source, ...]


def find(home: Home) -> list[Instance]:
    """All whose output may not have been read to its end."""
    logs = home.instance_logs
    told = {
        instance_id: about
        for path in logs.glob("*.json")
        if (instance_id := instance_logs.instance_of(path.name)) and (about := _about(path))
    }
    running = {instance_id: _copies(home, instance_id) for instance_id in told}
    # Listed last: a file that is moved meanwhile is seen here or there, or twice.
    moved = _kept(logs, running)
    return [_instance(home, each, told[each], running[each], moved[each]) for each in sorted(told)]


def _about(path: Path) -> dict[str, Any] | None:
    try:
        about = json.loads(path.read_bytes())
        return {
            "deployment": str(about["deployment"]),
            "revision": str(about["revision"]),
            "begins": int(about["begins"]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _copies(home: Home, instance_id: str) -> list[str] | None:
    """Names of the copies' files; None when the instance is gone."""
    folder = home.instances / instance_id
    if not folder.is_dir():
        return None
    try:
        with os.scandir(folder / "output") as entries:
            looked_at = itertools.islice(entries, MOST_LOOKED_AT)
            return [entry.name for entry in looked_at if instance_logs.copy_of(entry.name)]
    except OSError:
        return []


def _kept(logs: Path, running: dict[str, list[str] | None]) -> dict[str, list[str]]:
    kept: dict[str, list[str]] = {instance_id: [] for instance_id in running}
    for name in os.listdir(logs) if running else ():
        instance_id, _, file = name.partition(".")
        if instance_id in kept and instance_logs.copy_of(file):
            kept[instance_id].append(file)
    return kept


def _instance(
    home: Home, instance_id: str, about: dict[str, Any], running: list[str] | None, moved: list[str]
) -> Instance:
    logs, folder = home.instance_logs, home.instances / instance_id / "output"
    files = {file: folder / file for file in running or ()}
    files |= {file: logs / instance_logs.kept(instance_id, file) for file in moved}
    newest: dict[int, int] = {}
    for file in running or ():
        copy, since = instance_logs.copy_of(file) or (0, 0)
        newest[copy] = max(since, newest.get(copy, 0))
    sources = [
        Source(
            instance=instance_id,
            revision=about["revision"],
            name=KEEPER,
            path=logs / instance_logs.of_keeper(instance_id),
            copy=None,
            is_over=running is None,
            begins=about["begins"],
        )
    ]
    for file in sorted(files, key=lambda file: instance_logs.copy_of(file) or (0, 0)):
        copy, since = instance_logs.copy_of(file) or (0, 0)
        sources.append(
            Source(
                instance=instance_id,
                revision=about["revision"],
                name=file,
                path=files[file],
                copy=copy,
                is_over=file in moved or since < newest.get(copy, 0),
                kind=CAPTURE if instance_logs.is_capture(file) else Category.PREDICT,
            )
        )
    return Instance(
        id=instance_id,
        deployment=about["deployment"],
        about=logs / instance_logs.about(instance_id),
        lives=running is not None,
        sources=tuple(sources[: instance_logs.MOST_FILES]),
    )


class OutputFile:
    """An open one. ``size`` in bytes and ``changed_ms`` are as they were when it was opened."""

    def __init__(self, descriptor: int, about: os.stat_result) -> None:
        self._descriptor = descriptor
        self.inode = about.st_ino
        self.size = about.st_size
        self.changed_ms = about.st_mtime_ns // 1_000_000

    def read(self, at: int, most: int) -> tuple[int, bytes]:
        """Up to ``most`` bytes from ``at`` on, or from where freed space ends; and where that is.

        Empty at the end of the file.
        """
        try:
            begins = os.lseek(self._descriptor, at, os.SEEK_DATA)
        except OSError:
            return max(at, self.size), b""  # nothing but freed space follows
        return begins, os.pread(self._descriptor, min(most, self.size - begins), begins)

    def count_lines(self, at: int, until: int) -> int:
        """How many lines end there, in the last ``COUNTED`` bytes of it."""
        here, lines = max(at, until - COUNTED), 0
        while here < until:
            here, data = self.read(here, min(1 << 20, until - here))
            if not data:
                break
            lines += data.count(b"\n")
            here += len(data)
        return lines


@contextmanager
def opened(path: Path) -> Iterator[OutputFile | None]:
    """None if there is no such file, or none that may be read."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError:
        yield None
        return
    try:
        about = os.fstat(descriptor)
        yield OutputFile(descriptor, about) if stat.S_ISREG(about.st_mode) else None
    finally:
        os.close(descriptor)


def free(path: Path, until: int) -> None:
    """Give the disk back what lies before ``until``: the file keeps its size.

    Where the file system cannot, nothing happens.
    """
    until -= until % BLOCK
    if until <= 0:
        return
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        descriptor = os.open(path, flags)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                offset = ctypes.c_int64(0), ctypes.c_int64(until)
                ctypes.CDLL(None).fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, *offset)
        finally:
            os.close(descriptor)
