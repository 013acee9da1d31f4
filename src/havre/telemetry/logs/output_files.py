"""The files that instances print and capture into: finding, reading and freeing them.

The model owns its copies' files while it runs, and it wrote their content. So links are not
followed, only regular files are read, and truncated or replaced files are noticed.
"""

import contextlib
import ctypes
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from havre import foreign
from havre.domain import instance_logs
from havre.domain.logs import Category
from havre.engines.instance_reader import InstanceReader
from havre.home import Home
from havre.telemetry.files.layout import CAPTURE, EntryKind
from havre.telemetry.files.listing import Listing

KEEPER = "keeper"
MAX_LISTED = 4096
BLOCK = 64 * 1024
MAX_COUNTED_BYTES = 256 * 1024 * 1024
"""Of skipped bytes, at most so many are searched for lines to count."""

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h


@dataclass(frozen=True, slots=True)
class Source:
    """One file. ``copy`` is None for a keeper's; ``is_over``: it is not written any more.
    ``ours`` is a folder above it that no model can write to.

    ``begins`` is the offset at which to start a file that has not been read before.
    """

    instance: str
    revision: str
    name: str
    path: Path
    copy: int | None
    is_over: bool
    ours: Path
    begins: int = 0
    kind: EntryKind = Category.PREDICT

    @property
    def key(self) -> str:
        """Unique, and the same when the file is moved."""
        return f"{self.instance}/{self.name}"


@dataclass(frozen=True, slots=True)
class InstanceOutput:
    """An instance and the files of its output."""

    id: str
    deployment: str
    about: Path
    is_alive: bool
    sources: tuple[Source, ...]


def find(home: Home, listing: Listing) -> list[InstanceOutput]:
    """Instances whose output may not be read to the end. ``listing``: of the logs' folder."""
    logs = home.instance_logs
    metadata = {
        instance_id: about
        for name in listing.files()
        if (instance_id := instance_logs.instance_of(name)) and (about := _about(logs / name))
    }
    running = {instance_id: _copies(home, instance_id) for instance_id in metadata}
    # Listed last: a file that is moved meanwhile is in one list or in both.
    moved = _kept(listing, running)
    return [
        _instance(
            home, instance_id, metadata[instance_id], running[instance_id], moved[instance_id]
        )
        for instance_id in sorted(metadata)
    ]


def _about(path: Path) -> dict[str, Any] | None:
    try:
        about = foreign.read_json(path, below=path.parent)
        return {
            "deployment": str(about["deployment"]),
            "revision": str(about["revision"]),
            "begins": int(about["begins"]),
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _copies(home: Home, instance_id: str) -> list[str] | None:
    """Names of the copies' files; None if the instance is gone."""
    paths = InstanceReader(home).paths(instance_id)
    if not paths.folder.is_dir():
        return None
    try:
        with (
            foreign.open_folder(paths.output, below=home.instances) as output,
            os.scandir(output) as entries,
        ):
            listed = itertools.islice(entries, MAX_LISTED)
            return [entry.name for entry in listed if instance_logs.copy_of(entry.name)]
    except OSError:
        return []


def _kept(listing: Listing, running: dict[str, list[str] | None]) -> dict[str, list[str]]:
    kept: dict[str, list[str]] = {instance_id: [] for instance_id in running}
    for name in listing.files() if running else ():
        instance_id, _, file = name.partition(".")
        if instance_id in kept and instance_logs.copy_of(file):
            kept[instance_id].append(file)
    return kept


def _instance(
    home: Home, instance_id: str, about: dict[str, Any], running: list[str] | None, moved: list[str]
) -> InstanceOutput:
    logs, folder = home.instance_logs, InstanceReader(home).paths(instance_id).output
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
            ours=logs,
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
                ours=logs if file in moved else home.instances,
                kind=CAPTURE if instance_logs.is_capture(file) else Category.PREDICT,
            )
        )
    return InstanceOutput(
        id=instance_id,
        deployment=about["deployment"],
        about=logs / instance_logs.about(instance_id),
        is_alive=running is not None,
        sources=tuple(sources[: instance_logs.MAX_FILES]),
    )


class OutputFile:
    """An open file. ``size`` (bytes) and ``changed_ms`` are those at the time of opening."""

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self._descriptor = descriptor
        self.inode = status.st_ino
        self.size = status.st_size
        self.changed_ms = status.st_mtime_ns // 1_000_000

    def read(self, at: int, limit: int) -> tuple[int, bytes]:
        """Up to ``limit`` bytes from offset ``at`` on, or from the end of freed space; and that
        offset. Empty at the end of the file.
        """
        try:
            begins = os.lseek(self._descriptor, at, os.SEEK_DATA)
        except OSError:
            return max(at, self.size), b""  # only freed space follows
        return begins, os.pread(self._descriptor, min(limit, self.size - begins), begins)

    def count_lines(self, at: int, until: int) -> int:
        """How many lines end in this range, in its last ``MAX_COUNTED_BYTES``."""
        offset, lines = max(at, until - MAX_COUNTED_BYTES), 0
        while offset < until:
            offset, data = self.read(offset, min(1 << 20, until - offset))
            if not data:
                break
            lines += data.count(b"\n")
            offset += len(data)
        return lines


@contextmanager
def opened(source: Source) -> Iterator[OutputFile | None]:
    """None if there is no such file, or it must not be read."""
    try:
        descriptor = foreign.open_file(source.path, below=source.ours)
    except OSError:
        yield None
        return
    try:
        yield OutputFile(descriptor, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def remove(source: Source) -> None:
    """Does nothing if it is absent, or its folder cannot be opened safely."""
    with (
        contextlib.suppress(OSError),
        foreign.open_folder(source.path.parent, below=source.ours) as folder,
    ):
        os.unlink(source.path.name, dir_fd=folder)


def free(source: Source, until: int) -> None:
    """Free the disk space before offset ``until`` by hole punching: the file keeps its size.

    Does nothing where the file system cannot.
    """
    until -= until % BLOCK
    if until <= 0:
        return
    with contextlib.suppress(OSError):
        descriptor = foreign.open_file(source.path, below=source.ours, access=os.O_WRONLY)
        try:
            offset = ctypes.c_int64(0), ctypes.c_int64(until)
            ctypes.CDLL(None).fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, *offset)
        finally:
            os.close(descriptor)
