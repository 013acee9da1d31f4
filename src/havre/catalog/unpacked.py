"""Unpacked artifacts, shared read-only by every instance that serves the same bytes.

As root, a folder is open to one group only, whose members are the instances that serve it: another
deployment's model cannot read it.

The folder of a digest is whole or absent. Who unpacks it holds the digest's lock, so whatever lies
aside under that lock was left by a dead process and may go.
"""

import os
from pathlib import Path

from havre import full_disk
from havre.catalog.archive import LIMITS, ArchiveLimits, unpack
from havre.catalog.artifacts import ArtifactStore
from havre.domain.errors import Unavailable
from havre.durable import file_lock, remove_tree, sync_folder, sync_tree, try_lock
from havre.unprivileged import group_of, why_not_separate_users


class Unpacker:
    """The unpacked artifacts of one home."""

    def __init__(self, store: ArtifactStore, root: Path, *, limits: ArchiveLimits = LIMITS) -> None:
        self._store = store
        self._root = root
        self._limits = limits

    def ensure(self, digest: str) -> Path:
        """The folder with the artifact's files (0444) and folders (0555); blocks while unpacking.

        Raises ArtifactInvalid, NotFound, Unavailable.
        """
        archive = self._store.path(digest)
        target = self._root / digest
        if target.is_dir():
            return target
        size = archive.stat().st_size if archive.exists() else 0
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file_lock(self._lock(digest)):
                if not target.is_dir():
                    self._unpack(archive, self._aside(digest), target)
        except OSError as error:
            cause = full_disk.cause(error, self._root, needed=size)
            raise Unavailable(f"the artifact cannot be unpacked: {cause}") from error
        return target

    def remove(self, digest: str) -> None:
        """Remove a digest's folder; absent is fine. The caller knows that no instance uses it."""
        target = self._root / digest
        if not self._root.is_dir():
            return
        lock = self._lock(digest)
        with file_lock(lock):
            aside = self._aside(digest)
            remove_tree(aside)
            if target.is_dir():
                target.rename(aside)
                remove_tree(aside)
            lock.unlink()

    def sweep(self) -> int:
        """Remove what dead processes left half done; run at start. Returns how many there were."""
        removed = 0
        for aside in sorted(self._root.glob(".*.aside")):
            digest = aside.name[1 : -len(".aside")]
            descriptor = try_lock(self._lock(digest))
            if descriptor is not None:
                remove_tree(aside)
                os.close(descriptor)
                removed += 1
        return removed

    def _unpack(self, archive: Path, aside: Path, target: Path) -> None:
        remove_tree(aside)
        unpack(archive, aside, self._limits)
        try:
            _make_read_only(aside)
            if not why_not_separate_users():
                os.chown(aside, 0, group_of(target.name))
                aside.chmod(0o550)
            sync_tree(aside)
            aside.rename(target)
            sync_folder(self._root)
        except OSError:
            remove_tree(aside)
            raise

    def _aside(self, digest: str) -> Path:
        return self._root / f".{digest}.aside"

    def _lock(self, digest: str) -> Path:
        return self._root / f".{digest}.lock"


def _make_read_only(root: Path) -> None:
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            os.chmod(os.path.join(folder, name), 0o444)
        os.chmod(folder, 0o555)
