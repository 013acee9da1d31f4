"""Zip archives from strangers: everything is checked before a byte is written.

Files come out bit for bit as they went in and none is dropped or rewritten, because artifacts may
carry a manifest of their own hashes that ``load_model`` verifies.
"""

import io
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from havre import full_disk
from havre.catalog.archive_names import name_in_unicode
from havre.domain.errors import ArtifactInvalid, Unavailable
from havre.durable import remove_tree

_GIB = 1024**3
_CHUNK = 1024**2
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_LOCAL_HEADER = 30  # bytes, without the name: at least this lies before an entry's data
_BESIDE_SCORE = ("runtime.yaml", "requirements.txt")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may ask for.

    ``ratio`` (unpacked : packed) is checked from ``ratio_free_bytes`` on: a small archive of
    zeros does no harm. Deflate itself reaches 1032.
    """

    entries: int = 100_000
    total_bytes: int = 32 * _GIB
    ratio: float = 200.0
    ratio_free_bytes: int = _GIB // 4
    directory_bytes: int = 16 * 1024**2
    name_bytes: int = 255
    path_bytes: int = 1024
    depth: int = 64


LIMITS = ArchiveLimits()


@dataclass(frozen=True, slots=True)
class ArchiveListing:
    """Paths relative to the archive's top, ``/`` between the parts; sizes unpacked, in bytes."""

    files: dict[str, int]
    folders: frozenset[str]

    @property
    def total_bytes(self) -> int:
        return sum(self.files.values())


def inspect_archive(path: Path, limits: ArchiveLimits = LIMITS) -> ArchiveListing:
    """Check an archive without unpacking it.

    Raises ArtifactInvalid naming the entry and what is wrong with it.
    """
    with _opened(path, limits) as archive:
        return _check(archive, path.stat().st_size, limits)


def unpack(path: Path, into: Path, limits: ArchiveLimits = LIMITS) -> ArchiveListing:
    """Check an archive, then unpack it into a new folder; on failure the folder is not left.

    Raises ArtifactInvalid (the archive's fault) or Unavailable (no space on the disk).
    """
    with _opened(path, limits) as archive:
        listing = _check(archive, path.stat().st_size, limits)
        _ask_for_space(into.parent, listing.total_bytes)
        try:
            into.mkdir(mode=0o700)
            for folder in sorted(listing.folders):
                (into / folder).mkdir(mode=0o700)
            for info in archive.infolist():
                if not info.is_dir():
                    _extract(archive, info, into / _relative(info))
        except OSError as error:
            remove_tree(into)
            raise _refusal(error, into.parent) from error
        except BaseException:
            remove_tree(into)
            raise
    return listing


def score_folder(root: Path) -> Path:
    """The folder that holds ``score.py``: the top, or the one folder that wraps everything.

    Raises ArtifactInvalid saying what is there instead.
    """
    if (root / "score.py").is_file():
        return root
    wrapping = [
        folder
        for folder in sorted(root.iterdir())
        if folder.is_dir() and (folder / "score.py").is_file()
    ]
    if len(wrapping) == 1:
        for name in _BESIDE_SCORE:
            if (root / name).is_file() and not (wrapping[0] / name).exists():
                raise ArtifactInvalid(
                    f"the artifact has {name} at its top and score.py in "
                    f"{wrapping[0].name}/, where it would be looked for: put both into one folder"
                )
        return wrapping[0]
    if wrapping:
        detail = f"several folders hold one: {_some([folder.name for folder in wrapping])}"
    else:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
        detail = f"its top holds {_some(names)}" if names else "it is empty"
    raise ArtifactInvalid(
        f"the artifact has no score.py at its top or in a single folder there: {detail}. "
        "Zip the folder's content so that score.py is at the top"
    )


class _BoundedFile(io.FileIO):
    """zipfile reads an archive's whole table of contents in one read: this bounds that read."""

    limit = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > self.limit:
            raise ArtifactInvalid(
                f"the archive's table of contents is larger than {self.limit >> 20} MiB: "
                "put fewer files into the artifact"
            )
        return super().read(size) or b""


@contextmanager
def _opened(path: Path, limits: ArchiveLimits) -> Iterator[zipfile.ZipFile]:
    with _BoundedFile(path) as file:
        file.limit = max(limits.directory_bytes, _CHUNK)
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise ArtifactInvalid(f"the artifact is not a zip archive: {error}") from error
        except (struct.error, ValueError, OSError, OverflowError) as error:
            raise ArtifactInvalid(
                f"the artifact is not a zip archive that can be read: {error}"
            ) from error
        with archive:
            name_in_unicode(archive)
            yield archive


def _check(archive: zipfile.ZipFile, size: int, limits: ArchiveLimits) -> ArchiveListing:
    entries = archive.infolist()
    if len(entries) > limits.entries:
        raise ArtifactInvalid(
            f"the archive has {len(entries)} entries; {limits.entries} is the most"
        )
    files: dict[str, int] = {}
    folders: set[str] = set()
    for info in entries:
        _check_entry(info, limits)
        name = _relative(info)
        if not info.is_dir():
            if name in files:
                raise _invalid(info, "occurs twice")
            files[name] = info.file_size
        elif name:
            folders.add(name)
        parent = os.path.dirname(name)
        while parent and parent not in folders:
            folders.add(parent)
            parent = os.path.dirname(parent)
    if clashes := sorted(folders & files.keys()):
        raise ArtifactInvalid(f"the archive has {clashes[0]!r} both as a file and as a folder")
    _check_sizes(entries, size, limits)
    for info in entries:
        with _translated_errors(info):
            archive.open(info).close()  # its local header must agree with the table of contents
    return ArchiveListing(files, frozenset(folders))


def _check_entry(info: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    name = info.filename
    if info.header_offset < 0:
        raise _invalid(info, "is damaged: it lies before the archive's beginning")
    if "\0" in info.orig_filename or "\0" in name:
        raise _invalid(info, "has a NUL in its name")
    if "\\" in name:
        raise _invalid(info, "has a backslash in its name: use / between folders")
    if name.startswith("/") or _DRIVE.match(name):
        raise _invalid(info, "has an absolute name: names must be relative to the archive's top")
    parts = name.split("/")
    if ".." in parts:
        raise _invalid(info, "leads out of the archive with '..'")
    if max(len(part.encode()) for part in parts) > limits.name_bytes:
        raise _invalid(info, f"has a name longer than {limits.name_bytes} bytes")
    if len(name.encode()) > limits.path_bytes:
        raise _invalid(info, f"has a path longer than {limits.path_bytes} bytes")
    if len(parts) > limits.depth:
        raise _invalid(info, f"lies more than {limits.depth} folders deep")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise _invalid(info, "is a symbolic link: put the file itself into the archive")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _invalid(info, "is a special file: only files and folders are allowed")
    if (kind == stat.S_IFDIR) > info.is_dir() or (info.is_dir() and info.file_size):
        raise _invalid(info, "is a file and a folder at once")
    if not info.is_dir() and not _relative(info):
        raise _invalid(info, "has no name")
    if info.flag_bits & _ENCRYPTED:
        raise _invalid(info, "is encrypted: zip it again without a password")
    if info.compress_type not in _METHODS:
        raise _invalid(
            info,
            f"is compressed by method {info.compress_type}: use deflate, or store it as it is",
        )


def _check_sizes(entries: list[zipfile.ZipInfo], size: int, limits: ArchiveLimits) -> None:
    end = 0
    previous: zipfile.ZipInfo | None = None
    for info in sorted(entries, key=lambda info: info.header_offset):
        if previous is not None and info.header_offset < end:
            raise _invalid(info, f"overlaps {previous.filename!r}: this is a zip bomb's way")
        end = info.header_offset + _LOCAL_HEADER + info.compress_size
        if end > size:
            raise _invalid(info, "reaches beyond the archive's end: the upload was cut short")
        previous = info
    total = sum(info.file_size for info in entries)
    if total > limits.total_bytes:
        raise ArtifactInvalid(
            f"the archive unpacks to {total} bytes; {limits.total_bytes} is the most"
        )
    if total > limits.ratio_free_bytes and total > limits.ratio * size:
        widest = max(entries, key=lambda info: info.file_size / max(info.compress_size, 1))
        raise _invalid(
            widest,
            f"makes the archive unpack to {total / size:.0f} times its size ({limits.ratio:g} is "
            "the most): store such a file in a compact form",
        )


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    written = 0
    with _translated_errors(info):
        source = archive.open(info)
    with source, target.open("xb") as file:
        while True:
            with _translated_errors(info):
                chunk = source.read(_CHUNK)
            if not chunk:
                break
            file.write(chunk)
            written += len(chunk)
    if written != info.file_size:
        raise _invalid(info, f"is {written} bytes long but declares {info.file_size}")


@contextmanager
def _translated_errors(info: zipfile.ZipInfo) -> Iterator[None]:
    """zipfile's own complaints about an entry, in our words."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise _invalid(info, f"is damaged: {error}") from error


def _relative(info: zipfile.ZipInfo) -> str:
    return "/".join(part for part in info.filename.split("/") if part not in ("", "."))


def _ask_for_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Unavailable(
            f"the artifact needs {needed} bytes unpacked and the disk of {folder} has {free} free: "
            "make room and try again"
        )


def _refusal(error: OSError, folder: Path) -> Unavailable:
    cause = full_disk.cause(error, folder)
    return Unavailable(f"the artifact cannot be unpacked below {folder}: {cause}")


def _invalid(info: zipfile.ZipInfo, problem: str) -> ArtifactInvalid:
    name = info.filename if len(info.filename) <= 120 else info.filename[:117] + "..."
    return ArtifactInvalid(f"the archive's entry {name!r} {problem}")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
