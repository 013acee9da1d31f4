"""Packs: archives with conda-pack's layout, unpacked safely: nothing in them is run here.

The archive may come from strangers, so names, links and sizes are checked entry by entry while it
streams: nothing is written outside the folder, and no link leads out of it. The compression is
detected from the first bytes, because published packs often have no extension.
"""

import bz2
import errno
import gzip
import lzma
import os
import re
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from havre.domain.errors import EnvironmentFault

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

UNPACK_PROGRAM = "bin/conda-unpack"

_CHUNK = 1024**2
_MAX_PADDING = 64 * _CHUNK  # bytes after the last entry
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class PackLimits:
    """What a pack may ask for; ``ratio`` (unpacked : packed) counts from ``ratio_free_bytes``."""

    entries: int = 1_000_000
    total_bytes: int = 64 * _GIB
    ratio: float = 100.0
    ratio_free_bytes: int = _GIB
    path_bytes: int = 1024


LIMITS = PackLimits()


def unpack_pack(
    file: BinaryIO,
    into: Path,
    *,
    size: int,
    limits: PackLimits = LIMITS,
) -> int:
    """Unpack an archive of ``size`` bytes into an empty folder; returns the number of entries.

    Raises EnvironmentFault naming the entry and what is wrong with it, or OSError (a full disk);
    the caller clears the folder.
    """
    try:
        with _decompressed(file) as plain:
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                entries = _extract_all(archive, into, size, limits)
            for _ in range(_MAX_PADDING // _CHUNK):  # to the end, where the checksum is
                if not plain.read(_CHUNK):
                    break
            return entries
    except tarfile.ReadError as error:
        raise EnvironmentFault(
            f"it is not a pack that can be read ({error}): make it with 'conda pack' or "
            "'havre env export'"
        ) from error
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
        raise EnvironmentFault(f"the pack is damaged or cut short: {error}") from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report broken data so
            raise EnvironmentFault(f"the pack is damaged or cut short: {error}") from error
        raise


def pack_slug(address: str) -> str:
    """What a pack is called by its address: the last part, without the endings of archives."""
    name = address.rstrip("/").rpartition("/")[2]
    return re.sub(r"\.(tar\.\w+|tar|t[gbxz]z2?)$", "", name)


class _Peeked:
    """A file that is read once, from start to end, whose first bytes were peeked at."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._file.read(size)
        whole = self._head if size < 0 or size >= len(self._head) else self._head[:size]
        self._head = self._head[len(whole) :]
        return whole + (self._file.read() if size < 0 else b"")


@contextmanager
def _decompressed(file: BinaryIO) -> Iterator[IO[bytes]]:
    head = file.read(8)
    source = cast("BinaryIO", _Peeked(head, file))
    if head.startswith(b"\x1f\x8b"):
        plain: IO[bytes] = cast("IO[bytes]", gzip.GzipFile(fileobj=source, mode="rb"))
    elif head.startswith(b"BZh"):
        plain = bz2.BZ2File(source)
    elif head.startswith(b"\xfd7zXZ\x00"):
        plain = lzma.LZMAFile(source)  # noqa: SIM115  # closed below
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        plain = cast("IO[bytes]", zstd.ZstdFile(source))
    elif head.startswith(b"PK\x03\x04"):
        raise EnvironmentFault("it is a zip archive: pack it as .tar.gz or .tar.zst")
    else:
        yield source
        return
    with plain:
        yield plain


def _extract_all(archive: tarfile.TarFile, into: Path, size: int, limits: PackLimits) -> int:
    root = into.resolve()
    total = count = 0
    for entry in archive:
        count += 1
        total += entry.size if entry.isreg() else 0
        if count > limits.entries:
            raise EnvironmentFault(f"the pack has more than {limits.entries} entries")
        if total > limits.total_bytes:
            raise EnvironmentFault(f"the pack unpacks to more than {limits.total_bytes} bytes")
        if total > limits.ratio_free_bytes and total > limits.ratio * max(size, 1):
            raise EnvironmentFault(
                f"the pack unpacks to over {limits.ratio:g} times its size: this is a bomb's way"
            )
        target = _target(entry, root, limits)
        if target is not None:
            _extract(archive, entry, target, root)
        archive.members = []  # type: ignore[attr-defined]  # a stream of many entries is not kept
    if count == 0:
        raise EnvironmentFault("the pack is empty")
    return count


def _target(entry: tarfile.TarInfo, root: Path, limits: PackLimits) -> Path | None:
    """Where an entry goes; None for the top itself. Raises EnvironmentFault."""
    name = entry.name
    if name.startswith("/"):
        raise _wrong(entry, "has an absolute name")
    if len(name.encode(errors="surrogateescape")) > limits.path_bytes:
        raise _wrong(entry, f"has a path longer than {limits.path_bytes} bytes")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _wrong(entry, "leads out of the pack with '..'")
    if not parts:
        return None
    target = root.joinpath(*parts)
    # Asked of the disk: an earlier entry may have put a link in the way.
    if not target.parent.resolve().is_relative_to(root):
        raise _wrong(entry, "lies behind a link that leads out of the pack")
    return target


def _extract(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Path, root: Path) -> None:
    if entry.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.is_file():
        target.unlink()
    if entry.isreg():
        source = archive.extractfile(entry)
        assert source is not None
        _write(source, target, (entry.mode & 0o777 & ~0o022) | 0o600)
    elif entry.issym():
        if entry.linkname.startswith("/"):
            raise _wrong(entry, f"is a link to an absolute path, {entry.linkname}")
        led = os.path.normpath(os.path.join(target.parent.resolve(), entry.linkname))
        if not Path(led).is_relative_to(root):
            raise _wrong(entry, f"is a link out of the pack, to {entry.linkname}")
        target.symlink_to(entry.linkname)
    elif entry.islnk():
        linked = root / entry.linkname
        if ".." in Path(entry.linkname).parts or not linked.resolve().is_relative_to(root):
            raise _wrong(entry, f"is a hard link out of the pack, to {entry.linkname}")
        if linked.is_symlink() or not linked.is_file():
            raise _wrong(entry, f"is a hard link to {entry.linkname}, which is not in the pack")
        try:
            os.link(linked, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Before Linux 5.19 what is confined may not link from one folder into another.
            with linked.open("rb") as source:
                _write(source, target, linked.stat().st_mode & 0o777)
    else:
        raise _wrong(entry, "is a special file: only files, folders and links are allowed")


def _write(source: IO[bytes], target: Path, mode: int) -> None:
    """A new file, of its mode from the start: where packs are unpacked, no mode may be changed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(target, flags, mode), "wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)


def _wrong(entry: tarfile.TarInfo, problem: str) -> EnvironmentFault:
    return EnvironmentFault(f"the pack's entry {entry.name[:120]!r} {problem}")
