"""The offset up to which each file has been read, on disk: where a deployment's collection resumes.

The state is written after the entries, and holds the size of the live file at that moment: what the
live file has beyond it is cut off first, then read again from its source. So whenever the process
dies, every line is there once.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from havre.durable import write_file

NAME = "positions.json"


@dataclass(slots=True)
class FileOffset:
    """Of one file: ``at`` is the offset up to which it has been read, in bytes.

    ``life`` counts how often the file has been replaced or truncated; ``last`` is the position of
    its last entry (``ordering.py``).
    """

    at: int
    inode: int
    life: int = 0
    last: int = 0


@dataclass(slots=True)
class Offsets:
    """``live_bytes`` of the live file are accounted for. What was dropped, not read or lost has not
    been reported yet."""

    born_ms: int
    at_ms: int
    live_bytes: int = 0
    notices: int = 0
    dropped_lines: int = 0
    unread_bytes: int = 0
    lost_lines: int = 0
    files: dict[str, FileOffset] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, now_ms: int) -> "Offsets":
        """What was stored; from the start if nothing was."""
        try:
            stored = json.loads((folder / NAME).read_bytes())
            files = {key: FileOffset(**offset) for key, offset in stored.pop("files").items()}
            return cls(**stored, files=files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return cls(born_ms=now_ms, at_ms=now_ms)

    def store(self, folder: Path) -> None:
        """Raises OSError; then what was stored before is still there."""
        state: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        state["files"] = {
            key: {name: getattr(offset, name) for name in offset.__slots__}
            for key, offset in self.files.items()
        }
        write_file(folder / NAME, json.dumps(state).encode())

    @property
    def is_empty(self) -> bool:
        return not (self.files or self.live_bytes or self.has_unreported)

    @property
    def has_unreported(self) -> bool:
        return bool(self.dropped_lines or self.unread_bytes or self.lost_lines)

    def mark_reported(self) -> None:
        """An entry has reported what was dropped and lost."""
        self.notices += 1
        self.dropped_lines = self.unread_bytes = self.lost_lines = 0
