"""Artifact bytes at rest, by digest.

An upload streams into ``incoming/``, is hashed on the way, and is renamed to ``sha256/ab/<hex>``
once it is whole and durable; the same bytes uploaded twice are one file. Memory use is that of a
few chunks, whatever the artifact's size.

MD5 is the slowest step, so it has a thread of its own. So has the disk, which begins to make bytes
durable long before the last has come: what is left for the end is little.
"""

import base64
import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from havre import full_disk
from havre.catalog.background import SerialWorker
from havre.domain.errors import NotFound, Unavailable
from havre.durable import make_folder, sync_folder, try_lock

HASHED_BEHIND = 4
"""Chunks that are written already and wait for MD5, at most."""
SYNC_EVERY = 64 * 1024**2
"""Bytes after which the disk is asked to make durable what is written so far."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """``digest`` is the SHA-256 in 64 hex digits; ``md5_base64`` is what content-md5 carries."""

    digest: str
    size: int
    md5_base64: str


class ArtifactStore:
    """The artifacts in one folder, of a home or of several that share it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def receive(self) -> "IncomingArtifact":
        """A place for an upload; a context manager that leaves nothing unless committed.

        Raises Unavailable if the disk refuses.
        """
        return IncomingArtifact(self._root)

    def path(self, digest: str) -> Path:
        """Where the bytes lie, read-only. Raises NotFound."""
        path = _path_of(self._root, digest)
        if not path.is_file():
            raise NotFound(
                f"the bytes of artifact {digest} are not where this server keeps them: if another "
                "server of its database received them, let both use the same artifact_store; else "
                "upload it again"
            )
        return path

    def has(self, digest: str) -> bool:
        """Whether the bytes are here."""
        return _path_of(self._root, digest).is_file()

    def open(self, digest: str) -> BinaryIO:
        """The bytes, seekable. Raises NotFound."""
        return self.path(digest).open("rb")

    def delete(self, digest: str) -> None:
        """Remove the bytes; absent is fine. The caller knows that nothing refers to them."""
        path = _path_of(self._root, digest)
        if path.exists():
            path.unlink(missing_ok=True)
            sync_folder(path.parent)

    def sweep(self) -> int:
        """Remove what uploads that died left behind; run at start. Returns how many there were.

        A living upload holds a lock on its file, so this is safe beside running servers.
        """
        removed = 0
        for leftover in sorted((self._root / "incoming").glob("*")):
            descriptor = try_lock(leftover)
            if descriptor is not None:
                leftover.unlink(missing_ok=True)
                os.close(descriptor)
                removed += 1
        return removed


class IncomingArtifact:
    """One upload under way."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._md5_worker = SerialWorker(HASHED_BEHIND)
        self._sync_worker = SerialWorker(1)
        self._size = 0
        self._sync_at = SYNC_EVERY
        self._path = root / "incoming" / secrets.token_hex(16)
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A sweep may take the new file in the instant before its lock: then make another.
            while (descriptor := try_lock(self._path)) is None:
                self._path = self._path.with_name(secrets.token_hex(16))
        except OSError as error:
            raise self._refusal(error) from error
        self._descriptor = descriptor
        return self

    @property
    def path(self) -> Path:
        """Where the bytes lie until they are committed, for a look before that."""
        return self._path

    @property
    def sha256_base64(self) -> str:
        """Of what has come so far, as ``x-content-sha256`` carries it."""
        return base64.b64encode(self._sha256.digest()).decode()

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes, which stay as they are: they are hashed for a while after this.

        Raises Unavailable (disk full); nothing is left behind then.
        """
        view = memoryview(chunk)
        self._md5_worker.add(self._md5.update, view)
        self._sha256.update(view)
        self._size += len(view)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
            if self._size >= self._sync_at:
                self._sync_at = self._size + SYNC_EVERY
                self._sync_worker.add(os.fdatasync, self._descriptor)
        except OSError as error:
            self._discard()
            raise self._refusal(error) from error

    def commit(self) -> StoredArtifact:
        """Make the artifact durable and known by its digest. Raises Unavailable."""
        digest = self._sha256.hexdigest()
        path = _path_of(self._root, digest)
        try:
            self._sync_worker.finish()
            os.fchmod(self._descriptor, 0o444)
            os.fsync(self._descriptor)
            make_folder(path.parent)
            self._path.rename(path)
            sync_folder(path.parent)
            sync_folder(path.parent.parent)
        except OSError as error:
            self._discard()
            raise self._refusal(error) from error
        self._md5_worker.finish()
        self._close()
        md5 = base64.b64encode(self._md5.digest()).decode()
        return StoredArtifact(digest, self._size, md5)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._discard()

    def _discard(self) -> None:
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        self._md5_worker.close()
        self._sync_worker.close()
        os.close(self._descriptor)
        self._descriptor = -1

    def _refusal(self, error: OSError) -> Unavailable:
        if full_disk.is_full(error):
            return Unavailable(
                f"{full_disk.message(self._root, needed=self._size)} ({self._size} bytes of the "
                "artifact had come): free some space and upload it again"
            )
        return Unavailable(f"the artifact cannot be stored in {self._root}: {error.strerror}")


def _path_of(root: Path, digest: str) -> Path:
    if not _DIGEST.fullmatch(digest):
        raise NotFound(f"{digest!r} is not an artifact's digest: 64 hex digits are")
    return root / "sha256" / digest[:2] / digest
