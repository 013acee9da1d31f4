"""How far each file has been read, on disk: what one deployment's entries go on from.

The state is written after the entries, and says how long the live file was then: what the live file
has beyond that is read anew from its source, and was cut off first. So whenever the process dies,
every line is there once.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from havre.durable import write_file

NAME = "positions.json"


@dataclass(slots=True)
class Place:
    """Of one file: ``at`` is how far it has been read, in bytes.

    ``life`` counts how often its name has come to mean another file, or a shorter one.
    """

    at: int
    inode: int
    life: int = 0


@dataclass(slots=True)
class Positions:
    """``live_bytes`` of the live file are accounted for. ``dropped`` has not been told yet."""

    born_ms: int
    at_ms: int
    live_bytes: int = 0
    notices: int = 0
    dropped_lines: int = 0
    unread_bytes: int = 0
    lost_lines: int = 0
    files: dict[str, Place] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, now_ms: int) -> "Positions":
        """What was stored; from the beginning if nothing was."""
        try:
            told = json.loads((folder / NAME).read_bytes())
            files = {key: Place(**place) for key, place in told.pop("files").items()}
            return cls(**told, files=files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(born_ms=now_ms, at_ms=now_ms)

    def store(self, folder: Path) -> None:
        """Raises OSError; what was stored before is then there still."""
        told: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        told["files"] = {
            key: {"at": place.at, "inode": place.inode, "life": place.life}
            for key, place in self.files.items()
        }
        write_file(folder / NAME, json.dumps(told).encode())

    @property
    def is_empty(self) -> bool:
        return not (self.files or self.live_bytes or self.has_untold)

    @property
    def has_untold(self) -> bool:
        return bool(self.dropped_lines or self.unread_bytes or self.lost_lines)

    def told(self) -> None:
        """What was dropped and lost has been told in an entry."""
        self.notices += 1
        self.dropped_lines = self.unread_bytes = self.lost_lines = 0
