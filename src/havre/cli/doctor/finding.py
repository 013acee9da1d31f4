"""The result of one of the doctor's checks."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: what was checked, in what state it is, and what to do about it."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """The row as `havre doctor --json` prints it."""
        return {
            "check": self.check,
            "verdict": self.verdict,
            "found": self.detail,
            "remedy": self.remedy,
        }


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
