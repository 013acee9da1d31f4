"""A folder as the zip archive that the catalog takes."""

import os
import zipfile
from pathlib import Path

from havre.domain.errors import ArtifactInvalid

LEFT_OUT = frozenset({"__pycache__", ".git", ".ipynb_checkpoints", ".DS_Store"})
OLDEST = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, archive: Path) -> int:
    """Write the archive; returns the number of files. Equal folders make equal archives, so that
    the catalog keeps their bytes once. Raises ArtifactInvalid.
    """
    if not folder.is_dir():
        raise ArtifactInvalid(f"{folder} is not a folder; give the one that has score.py in it")
    if not (folder / "score.py").is_file():
        raise ArtifactInvalid(
            f"{folder} has no score.py; an artifact needs one, with load_model() and predict(data)"
        )
    count = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for path in _files(folder):
            entry = zipfile.ZipInfo(str(path.relative_to(folder)), OLDEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, target.open(entry, "w") as sink:
                while piece := source.read(1024 * 1024):
                    sink.write(piece)
            count += 1
    return count


def _files(folder: Path) -> list[Path]:
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        for name in sorted(set(names) - LEFT_OUT):
            path = Path(root, name)
            if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                raise ArtifactInvalid(
                    f"{path} is a link to {path.resolve()}, outside the artifact; copy the file in"
                )
            found.append(path)
    return found
