"""Which havre this is: its version, and a digest of its code, that of copies included.

Two installations may name one version and differ, one of them from a branch: `havre up` compares
both with those of the server that runs.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import havre

PACKAGES = ("havre", "havre_copy")


@dataclass(frozen=True, slots=True)
class Release:
    """``code``: twelve hex digits."""

    version: str
    code: str

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "Release":
        """That of a server, from what its supervisor says of it."""
        return cls(str(about["version"]), str(about["code"]))

    def __str__(self) -> str:
        return f"{self.version}+{self.code}"

    def change_to(self, later: "Release") -> str:
        """In words, what it is to go from this one to the other."""
        if self.version == later.version:
            return f"replacing {self.version} by other code of the same version"
        verb = "going back" if _order(later.version) < _order(self.version) else "upgrading"
        return f"{verb} {self.version} → {later.version}"


@cache
def current() -> Release:
    """The one that runs this very line."""
    return Release(havre.__version__, code_digest([_folder_of(name) for name in PACKAGES]))


def code_digest(packages: Iterable[Path]) -> str:
    """Twelve hex digits, over the names and bytes of all files in the folders of packages."""
    digest = hashlib.sha256()
    for folder in packages:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                content = path.read_bytes()
                name = path.relative_to(folder.parent)
                digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _folder_of(package: str) -> Path:
    """Found, not imported: `havre_copy` is for other Pythons."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
