"""Where entries lie, and what the names of their files say.

An entry is in one file at a time: first in the *live* file, which grows; then in a *closed* one,
which nobody writes any more; then in a *segment*, Parquet, of one deployment. A closed file has a
number, the epoch ms at which it was closed, and no two have the same. The name of a segment says
which numbers are in it: it counts for nothing as long as a closed file of those numbers is still
there (its conversion may not have come to its end), or another segment has them all (it was merged
into that one). So a process that dies between two of its steps leaves nothing twice.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from havre.domain.logs import Category
from havre.home import Home

CAPTURE: Final = "capture"
"""Requests that were captured are kept as entries of logs are, but are no log."""
Kind = Category | Literal["capture"]
KINDS: tuple[Kind, ...] = (*Category, CAPTURE)

LIVE = "live.jsonl"
UNROUTED = "unrouted"
"""The folder of entries that led to no deployment: their paths are whatever clients sent."""


_SEGMENT = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)\.parquet")
_CLOSED = re.compile(r"closed-(\d+)\.jsonl")
_DEPLOYMENT = re.compile(r"ocid1\.datasciencemodeldeployment\.[a-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """Entries of one deployment. Times are epoch ms; ``first`` and ``last`` number closed files."""

    from_ms: int
    to_ms: int
    first: int
    last: int
    path: Path

    @classmethod
    def of(cls, path: Path) -> "Segment | None":
        match = _SEGMENT.fullmatch(path.name)
        if match is None:
            return None
        from_ms, to_ms, first, last = map(int, match.groups())
        return cls(from_ms, to_ms, first, last, path)

    @classmethod
    def name(cls, *, from_ms: int, to_ms: int, first: int, last: int) -> str:
        return f"{from_ms}-{to_ms}-{first}-{last}.parquet"

    def overlaps(self, from_ms: int, to_ms: int) -> bool:
        """Whether it may have entries of this time, both ends included."""
        return self.from_ms <= to_ms and self.to_ms >= from_ms

    def is_within(self, other: "Segment") -> bool:
        return self != other and other.first <= self.first and self.last <= other.last


def live_access(home: Home) -> Path:
    """All deployments', written by the load balancer."""
    return home.access_log


def live_file(home: Home, kind: Kind, deployment: str) -> Path:
    """A deployment's own, of any kind but the access log."""
    return folder(home, kind, deployment) / LIVE


def folder(home: Home, kind: Kind, deployment: str) -> Path:
    """A deployment's segments; but for the access log its live and closed files as well."""
    return home.telemetry / kind / _folder_name(deployment)


def closed_folder(home: Home, kind: Kind, deployment: str) -> Path:
    """Where closed files lie: those of the access log hold all deployments'."""
    root = home.telemetry / kind
    return root if kind is Category.ACCESS else root / _folder_name(deployment)


def deployments(home: Home, kind: Kind) -> list[str]:
    """Those that have a folder, ``UNROUTED`` included."""
    try:
        return sorted(each.name for each in (home.telemetry / kind).iterdir() if each.is_dir())
    except FileNotFoundError:
        return []


def closed_name(number: int) -> str:
    return f"closed-{number}.jsonl"


def closed_files(place: Path) -> dict[int, Path]:
    """Closed files by number, in their order."""
    found = {
        int(match[1]): path for path in _files(place) if (match := _CLOSED.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


def segments(place: Path) -> list[Segment]:
    """Every segment in a folder, by time; some may count for nothing (see ``counting``)."""
    return sorted(found for path in _files(place) if (found := Segment.of(path)) is not None)


def last_number(home: Home, category: Category) -> int:
    """The highest that a closed file has had, as far as segments and closed files still tell."""
    found = list(closed_files(home.telemetry / category))
    for deployment in deployments(home, category):
        place = home.telemetry / category / deployment
        found += closed_files(place)
        found += [each.last for each in segments(place)]
    return max(found, default=0)


def counting(found: Iterable[Segment], closed: Iterable[int]) -> list[Segment]:
    """Those whose entries are nowhere else. ``closed`` must have been listed before ``found``."""
    listed = list(found)
    numbers = set(closed)
    merged = [each for each in listed if each.first != each.last]
    return [
        each
        for each in listed
        if not any(each.is_within(other) for other in merged)
        and not any(each.first <= number <= each.last for number in numbers)
    ]


def size(path: Path) -> int | None:
    """Bytes in a file that may be renamed or removed at any moment; None when it is not there."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return None


def _folder_name(deployment: str) -> str:
    return deployment if _DEPLOYMENT.fullmatch(deployment) else UNROUTED


def _files(place: Path) -> list[Path]:
    try:
        return list(place.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
