"""A folder as the zip archive that the catalog takes."""

import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from havre.domain.errors import ArtifactInvalid

LEFT_OUT = frozenset({"__pycache__", ".git", ".ipynb_checkpoints", ".DS_Store"})
OLDEST = (1980, 1, 1, 0, 0, 0)

_MSDOS_FOLDER = 0x10


def pack(folder: Path, archive: Path, files: Mapping[str, bytes] | None = None) -> int:
    """Write the archive; returns the number of files. Equal folders make equal archives, so that
    the catalog keeps their bytes once. ``files`` are packed in place of those of their names, or
    beside the others. Raises ArtifactInvalid.
    """
    files = files or {}
    if not folder.is_dir():
        raise ArtifactInvalid(f"{folder} is not a folder; give the one that has score.py in it")
    if not (folder / "score.py").is_file():
        raise ArtifactInvalid(
            f"{folder} has no score.py; an artifact needs one, with load_model() and predict(data)"
        )
    count = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name, content in sorted(files.items()):
            target.writestr(_entry(name), content)
            count += 1
        for path in _contents(folder, folder, ()):
            name = path.relative_to(folder).as_posix()
            if name in files:
                continue
            if path.is_dir():
                entry = zipfile.ZipInfo(f"{name}/", OLDEST)
                entry.external_attr = (stat.S_IFDIR | 0o755) << 16 | _MSDOS_FOLDER
                target.writestr(entry, b"")
                continue
            entry = _entry(name)
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, target.open(entry, "w") as sink:
                while piece := source.read(1024 * 1024):
                    sink.write(piece)
            count += 1
    return count


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, OLDEST)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _contents(folder: Path, top: Path, within: tuple[Path, ...]) -> Iterator[Path]:
    """Files below a folder, and folders that hold nothing: a model may write or look there.

    Links are followed, but not out of the artifact; ``within`` are the real folders on the way.
    """
    within = (*within, folder.resolve())
    with os.scandir(folder) as entries:
        names = sorted({entry.name for entry in entries} - LEFT_OUT)
    for path in (folder / name for name in names):
        _check(path, top, within)
        if not path.is_dir():
            yield path
        elif below := list(_contents(path, top, within)):
            yield from below
        else:
            yield path


def _check(path: Path, top: Path, within: tuple[Path, ...]) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise ArtifactInvalid(f"{str(path)!a} has a name that is not UTF-8: rename it") from error
    if path.is_symlink():
        target = Path(os.path.realpath(path))  # of links in a circle, too
        if not target.is_relative_to(top.resolve()):
            raise ArtifactInvalid(f"{path} is a link to {target}, outside the artifact; copy it in")
        if not target.exists():
            raise ArtifactInvalid(f"{path} is a link to {target}, which does not exist: remove it")
        if target in within:
            raise ArtifactInvalid(f"{path} is a link to a folder that it lies in: remove it")
    if not path.is_dir() and not path.is_file():
        raise ArtifactInvalid(f"{path} is neither a file nor a folder: remove it")
