"""Which havre this is: its version, and a digest of its code.

Two installations may name one version and differ, one of them from a branch: `havre up` compares
both with those of the server that runs.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import havre


@dataclass(frozen=True, slots=True)
class Release:
    """``code``: twelve hex digits; "" where a server is too old to tell."""

    version: str
    code: str

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "Release":
        """That of a server, from what its supervisor says of it."""
        return cls(str(about["version"]), str(about.get("code", "")))

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
    """The one that runs this very line. The digest is over the names and bytes of its files."""
    folder = Path(havre.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return Release(havre.__version__, digest.hexdigest()[:12])


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
