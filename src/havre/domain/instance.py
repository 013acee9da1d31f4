"""One placed unit of a deployment: what an engine starts, and what it says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from havre.domain.states import InstancePhase


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """Everything an engine needs to run one instance of one revision.

    ``id`` is short (12 characters): it names sockets and folders. ``environment`` is complete:
    nothing else of ours reaches the model's process.
    """

    id: str
    deployment_id: str
    revision: str
    artifact: Path
    interpreter: Path
    copies: int
    cpus: float
    memory_bytes: int
    environment: Mapping[str, str]
    predict_timeout_s: float = 58.0
    stream_idle_s: float = 60.0
    stream_total_s: float = 300.0
    start_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What an engine knows of one instance now.

    ``copies_ready`` take requests, ``copies_busy`` of them are in a ``predict`` call. ``notes`` are
    sentences for the work request's log (how copies are started, measured memory).
    ``memory_bytes`` is what one copy costs beyond what all share, and ``shared_bytes`` what they
    share; both 0 until measured.
    """

    id: str
    deployment_id: str
    revision: str
    phase: InstancePhase
    socket: Path
    copies: int = 0
    copies_ready: int = 0
    copies_busy: int = 0
    restarts: int = 0
    pid: int = 0
    reason: str = ""
    notes: tuple[str, ...] = field(default=())
    memory_bytes: int = 0
    shared_bytes: int = 0
