"""Finds files in a finished environment that do not belong there, without running anything.

Packages may bring any file: some that decide what the environment's Python loads first, or links
that lead out of the environment. Code that Python runs at its start (``.pth`` files,
``sitecustomize``) is allowed: it runs where the model runs, under the same confinement.
"""

import csv
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from havre.domain.errors import EnvironmentFault
from havre.trees import everything_below

FOLDERS = frozenset(
    {"bin", "lib", "lib64", "libexec", "share", "include", "etc", "opt", "man", "doc"}
)
"""Where packages put files."""
OF_INSTALLERS = frozenset({".lock"})
_TOPS = frozenset((name,) for name in FOLDERS)

_PYTHON = re.compile(r"python(\d+(\.\d+)?t?)?")
_LARGEST_RECORD = 64 * 1024**2  # bytes


@dataclass(frozen=True, slots=True)
class Made:
    """What stood in a new environment before anything was installed, by relative path.

    A file is its content, a link where it leads.
    """

    files: dict[str, bytes]

    @classmethod
    def of(cls, prefix: Path) -> "Made":
        return cls(
            {
                os.path.relpath(path, prefix): _content(Path(path))
                for path, status in everything_below(prefix)
                if not stat.S_ISDIR(status.st_mode)
            }
        )

    def check(self, prefix: Path) -> None:
        """Whether all of it is as it was, and no Python beside it. Raises EnvironmentFault."""
        for name, content in self.files.items():
            try:
                is_same = _content(prefix / name) == content
            except OSError:
                is_same = False
            if not is_same:
                raise EnvironmentFault(
                    f"what was installed has changed {name}, which is the environment's own"
                )
        for path in sorted((prefix / "bin").iterdir()):
            if _PYTHON.fullmatch(path.name) and f"bin/{path.name}" not in self.files:
                raise EnvironmentFault(
                    f"what was installed brings a Python of its own, {path.name}"
                )
        tops = {name.partition("/")[0] for name in self.files}
        for path in sorted(prefix.iterdir()):
            if path.name not in FOLDERS | OF_INSTALLERS | tops:
                raise EnvironmentFault(
                    f"what was installed brings {path.name}, which has no place in an environment: "
                    f"packages put files into {', '.join(sorted(FOLDERS))}"
                )


def check_records(prefix: Path) -> None:
    """Whether packages name only files of the environment. Raises EnvironmentFault."""
    for record in sorted(prefix.glob("lib/python*/site-packages/*.dist-info/RECORD")):
        if record.is_symlink() or record.stat().st_size > _LARGEST_RECORD:
            raise EnvironmentFault(f"{record.parent.name} has no RECORD that can be read")
        site = record.parents[1]
        package = record.parent.name.removesuffix(".dist-info")
        try:
            with record.open(newline="", encoding="utf-8", errors="replace") as file:
                named = [row[0] for row in csv.reader(file) if row]
        except csv.Error as error:
            raise EnvironmentFault(f"the RECORD of {package} cannot be read: {error}") from error
        for name in named:
            if not _belongs(prefix, site, name):
                raise EnvironmentFault(
                    f"{package} claims the file {name[:200]!r}, which is none of an environment's"
                )


def check_files(prefix: Path, *, made: Made | None = None, owner: int) -> None:
    """Whether all are files, folders and links that stay inside, of ``owner`` (a user's number).

    What was ``made`` before is known to be good. Raises EnvironmentFault naming the first that is
    not.
    """
    known = made.files if made is not None else {}
    root = os.path.realpath(prefix)
    hard_links: Counter[tuple[int, int, int]] = Counter()
    paths: dict[tuple[int, int, int], str] = {}
    for path, status in everything_below(prefix):
        inside = os.path.relpath(path, prefix)
        if status.st_uid != owner:
            raise EnvironmentFault(f"{inside} belongs to another user")
        if stat.S_ISLNK(status.st_mode):
            target = os.path.realpath(path)
            if inside not in known and target != root and not target.startswith(root + os.sep):
                raise EnvironmentFault(f"{inside} is a link out of it, to {target}")
        elif stat.S_ISREG(status.st_mode):
            if status.st_nlink > 1:
                key = status.st_dev, status.st_ino, status.st_nlink
                hard_links[key] += 1
                paths[key] = inside
        elif not stat.S_ISDIR(status.st_mode):
            raise EnvironmentFault(f"{inside} is a special file")
    for key, count in hard_links.items():
        if count != key[2]:
            raise EnvironmentFault(f"{paths[key]} is a hard link to a file outside of it")


def _content(path: Path) -> bytes:
    if path.is_symlink():
        return b"-> " + os.fsencode(os.readlink(path))
    if not path.is_file():  # something that waits for a reader is not opened
        raise FileNotFoundError(path)
    return path.read_bytes()


def _belongs(prefix: Path, site: Path, name: str) -> bool:
    if "\0" in name:
        return False
    path = Path(os.path.normpath(site / name))
    return path.is_relative_to(prefix) and path.relative_to(prefix).parts[0:1] in _TOPS
