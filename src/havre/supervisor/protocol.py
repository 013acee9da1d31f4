"""What the supervisor and its clients send each other: the nouns, as JSON, a line each.

A request is an object with ``op``; the answer has ``ok``, and ``error`` (a sentence) when it is
false. `shutdown` answers ``progress`` lines first; `watch` answers ``event`` lines for ever.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

CONTROL_PLANE = "control-plane"
BALANCER = "load-balancer"
TELEMETRY = "telemetry"
INSTANCE_PREFIX = "i-"
"""How the name of an instance's keeper begins; its id follows."""
SERVES = "the control plane serves"
CANNOT_BEGIN = "the control plane cannot begin:"
"""The one that a control plane's log has last shows whether it has come up."""
STOP_ORDER = (CONTROL_PLANE, BALANCER)
"""Who is stopped first when a home shuts down; everything else follows, all at once."""

LINE_LIMIT = 4 * 1024 * 1024
"""Bytes in one line of the protocol."""


class Restart(StrEnum):
    NEVER = "never"
    ALWAYS = "always"


class Phase(StrEnum):
    RUNNING = "running"
    BACKOFF = "backoff"  # died, is started again after a pause
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class User:
    """Who a process runs as, by number; ``groups`` are its other groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a process may use of the machine; whatever this machine can enforce of it, it does.

    Without a ``user`` it keeps the supervisor's. ``memory_bytes``, ``cpus`` (hardware threads) and
    ``processes`` (threads included) are limits of the process and all it starts together;
    ``open_files`` of each. ``readable`` (and executable), ``writable`` and ``devices`` are the only
    files and folders within reach; ``hidden`` folders are empty for it. ``temporary`` is its own
    /tmp. It can neither connect to a TCP port of ``closed_ports`` nor listen there; without
    ``network`` it makes no sockets at all but pairs.
    ``unix_sockets``: that it may make Unix sockets although it keeps the supervisor's user;
    ``file_modes``: that it may change the modes of that user's files although it sees them all.
    ``opened`` are folders closed to the ``user``: in their place are ones that lead to what it may
    use below them.
    """

    user: User | None = None
    memory_bytes: int = 0
    cpus: float = 0.0
    processes: int = 512
    open_files: int = 4096
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    temporary: str = ""
    closed_ports: tuple[int, ...] = ()
    unix_sockets: bool = False
    file_modes: bool = False
    opened: tuple[str, ...] = ()
    network: bool = True

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Confinement":
        user = stored["user"]
        lists = ("readable", "writable", "devices", "hidden", "closed_ports", "opened")
        return cls(
            **{
                **stored,
                **{key: tuple(stored[key]) for key in lists if key in stored},
                "user": user and User(**{**user, "groups": tuple(user["groups"])}),
            }
        )


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to keep. ``environment`` is complete: nothing is inherited.

    ``listen`` are Unix sockets that the supervisor binds (mode 0600) and passes as descriptors
    3, 4, …; ``log`` takes standard output and error, appended. Without a ``confinement`` the
    process has all the rights that the supervisor has. ``batch_scheduling``: woken by work, it
    waits until whoever has the processor has had its turn (``SCHED_BATCH``).
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    log: str
    listen: tuple[str, ...] = ()
    restart: Restart = Restart.NEVER
    stop_grace_s: float = 10.0
    confinement: Confinement | None = None
    batch_scheduling: bool = False

    @property
    def digest(self) -> str:
        """Sixteen hex digits over every field: the same digest, the same process."""
        text = json.dumps(self.to_json(), sort_keys=True).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ProcessSpec":
        lists = {key: tuple(stored[key]) for key in ("argv", "listen")}
        confinement = stored["confinement"]
        return cls(
            **{
                **stored,
                **lists,
                "restart": Restart(stored["restart"]),
                "confinement": confinement and Confinement.from_json(confinement),
            }
        )


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """What the supervisor knows of one process. ``exit_code`` is negative for a signal.

    ``orphans`` counts processes of its group that outlived it. ``out_of_memory`` counts processes
    that the kernel ended at the memory limit. ``warnings`` are sentences: what this machine did not
    do of the confinement. ``renewed``: it runs from an earlier specification than ``spec_digest``
    names, which holds from its next start on.
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
    out_of_memory: int = 0
    warnings: tuple[str, ...] = ()
    renewed: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ProcessStatus":
        """Fields of a newer supervisor that are not known here are left out."""
        known = {entry.name: stored[entry.name] for entry in fields(cls) if entry.name in stored}
        warnings = tuple(stored["warnings"])
        return cls(**{**known, "phase": Phase(stored["phase"]), "warnings": warnings})


def encode(message: Mapping[str, Any]) -> bytes:
    """One line of the protocol."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
