"""Where entries lie, and what the names of their files say.

An entry is in one file at a time: first in the *live* file, which grows; then in a *closed* file,
which is not written any more; then in a *segment*, a Parquet file of one deployment. A closed file
has a number, the epoch ms at which it was closed; no two have the same. The name of a segment says
which numbers are in it. A segment is superseded as long as a closed file of those numbers is still
there (its conversion may have been interrupted), or if another segment has them all (it was merged
into that one). So a process that dies between two of its steps leaves no entry twice.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from havre.domain.logs import Category
from havre.domain.ocid import DEPLOYMENT_OCID_PREFIX
from havre.home import Home

CAPTURE: Final = "capture"
"""Captured requests are stored like the entries of a log, but are no log."""
EntryKind = Category | Literal["capture"]
KINDS: tuple[EntryKind, ...] = (*Category, CAPTURE)

LIVE = "live.jsonl"
UNROUTED = "unrouted"
"""The folder of requests that matched no deployment: their paths are whatever clients sent."""


_SEGMENT = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)\.parquet")
_CLOSED = re.compile(r"closed-(\d+)\.jsonl")
_DEPLOYMENT = re.compile(re.escape(DEPLOYMENT_OCID_PREFIX) + "[a-z0-9._-]{1,200}")


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
    """That of all deployments, written by the load balancer."""
    return home.access_log


def live_file(home: Home, kind: EntryKind, deployment: str) -> Path:
    """A deployment's own, for every kind but the access log."""
    return segments_folder(home, kind, deployment) / LIVE


def segments_folder(home: Home, kind: EntryKind, deployment: str) -> Path:
    """A deployment's segments, and its live and closed files unless these are the access log's."""
    return home.telemetry / kind / _folder_name(deployment)


def closed_folder(home: Home, kind: EntryKind, deployment: str) -> Path:
    """Where closed files lie: those of the access log hold the entries of all deployments."""
    root = home.telemetry / kind
    return root if kind is Category.ACCESS else root / _folder_name(deployment)


def deployments(home: Home, kind: EntryKind) -> list[str]:
    """Those that have a folder, ``UNROUTED`` included."""
    try:
        return sorted(entry.name for entry in (home.telemetry / kind).iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []


def closed_name(number: int) -> str:
    return f"closed-{number}.jsonl"


def closed_files(folder: Path, names: Iterable[str] | None = None) -> dict[int, Path]:
    """Closed files by number, in order. ``names``: the names of the folder's files, if known."""
    if names is None:
        names = (path.name for path in _files(folder))
    numbered = {
        int(match[1]): folder / match[0] for name in names if (match := _CLOSED.fullmatch(name))
    }
    return dict(sorted(numbered.items()))


def segments(folder: Path) -> list[Segment]:
    """Every segment in a folder, by time, superseded ones included (see ``current_segments``)."""
    return sorted(segment for path in _files(folder) if (segment := Segment.of(path)) is not None)


def last_number(home: Home, category: Category) -> int:
    """The highest that a closed file has had, as far as segments and closed files still show."""
    numbers = list(closed_files(home.telemetry / category))
    for deployment in deployments(home, category):
        folder = home.telemetry / category / deployment
        numbers += closed_files(folder)
        numbers += [segment.last for segment in segments(folder)]
    return max(numbers, default=0)


def current_segments(segments: Iterable[Segment], closed: Iterable[int]) -> list[Segment]:
    """Those that are not superseded. ``closed`` must have been listed before ``segments``."""
    listed = list(segments)
    numbers = set(closed)
    merged = [segment for segment in listed if segment.first != segment.last]
    return [
        segment
        for segment in listed
        if not any(segment.is_within(other) for other in merged)
        and not any(segment.first <= number <= segment.last for number in numbers)
    ]


def file_size(path: Path) -> int | None:
    """Bytes in a file that may be renamed or removed at any moment; None when it is not there."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return None


def _folder_name(deployment: str) -> str:
    return deployment if _DEPLOYMENT.fullmatch(deployment) else UNROUTED


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
