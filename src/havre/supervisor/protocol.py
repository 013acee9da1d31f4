"""What the supervisor and its clients say to each other: the nouns, as JSON, a line each."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Restart(StrEnum):
    NEVER = "never"
    ALWAYS = "always"


class Phase(StrEnum):
    RUNNING = "running"
    BACKOFF = "backoff"  # died, is started again after a pause
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to keep. ``environment`` is complete: nothing is inherited.

    ``listen`` are Unix sockets that the supervisor binds (mode 0600) and passes as descriptors
    3, 4, …; ``log`` takes standard output and error, appended.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    log: str
    listen: tuple[str, ...] = ()
    restart: Restart = Restart.NEVER
    stop_grace_s: float = 10.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ProcessSpec":
        lists = {key: tuple(stored[key]) for key in ("argv", "listen")}
        return cls(**{**stored, **lists, "restart": Restart(stored["restart"])})


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """What the supervisor knows of one process. ``exit_code`` is negative for a signal.

    ``orphans`` counts processes of its group that outlived it.
    """

    name: str
    phase: Phase
    pid: int
    start_time: int
    restarts: int = 0
    exit_code: int | None = None
    adopted: bool = False
    orphans: int = 0
    spec_digest: str = field(default="")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ProcessStatus":
        return cls(**{**stored, "phase": Phase(stored["phase"])})
