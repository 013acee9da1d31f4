"""How this side talks to a keeper: the spec file it reads, its control socket, its state file.

A keeper whose model is loading cannot answer; then the state file holds its last word.
"""

import json
import os
import re
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from havre.domain.instance import InstanceSpec

PROTOCOL = 1
ANSWER_WITHIN_S = 1.0
MAX_BODY = 10 * 1024 * 1024
ANSWER_LIMIT = 1024 * 1024

STARTING = "starting"
READY = "ready"
FAILED = "failed"
DRAINING = "draining"

OWN_LINE = re.compile(r"\S+Z \[keeper\] ")
"""How a line of the predict log begins that the keeper wrote, not the model."""


@dataclass(frozen=True, slots=True)
class KeeperState:
    """A keeper's word on its instance. Sizes in bytes, 0 until measured."""

    phase: str = STARTING
    reason: str = ""
    pid: int = 0
    ready: int = 0
    busy: int = 0
    restarts: int = 0
    answered: int = 0
    notes: tuple[str, ...] = ()
    shared_bytes: int = 0
    copy_bytes: int = 0

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "KeeperState":
        """Raises KeyError, TypeError or ValueError when it is not a keeper's word."""
        if told["protocol"] != PROTOCOL:
            raise ValueError(f"protocol {told['protocol']}")
        return cls(
            phase=str(told["phase"]),
            reason=str(told["reason"]),
            pid=int(told["pid"]),
            ready=int(told["ready"]),
            busy=int(told["busy"]),
            restarts=int(told["restarts"]),
            answered=int(told["answered"]),
            notes=tuple(str(note) for note in told["notes"]),
            shared_bytes=int(told["shared_bytes"]),
            copy_bytes=int(told["copy_bytes"]),
        )


def spec_json(spec: InstanceSpec, state_file: Path) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "instance": spec.id,
        "deployment": spec.deployment_id,
        "revision": spec.revision,
        "interpreter": str(spec.interpreter),  # the environment in use is found by it
        "artifact": str(spec.artifact),
        "copies": spec.copies,
        "predict_timeout_s": spec.predict_timeout_s,
        "stream_idle_s": spec.stream_idle_s,
        "stream_total_s": spec.stream_total_s,
        "start_timeout_s": spec.start_timeout_s,
        "max_body": MAX_BODY,
        "state_file": str(state_file),
    }


def ask(control: Path, op: str) -> KeeperState | None:
    """Ask the keeper; None when it does not answer in time, or not as a keeper does.

    User code may have taken its place: nothing it says can hold us up for longer.
    """
    deadline = time.monotonic() + ANSWER_WITHIN_S
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_WITHIN_S)
            connection.connect(str(control))
            connection.sendall(json.dumps({"op": op}).encode() + b"\n")
            while not answer.endswith(b"\n") and len(answer) < ANSWER_LIMIT:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                part = connection.recv(65536)
                if not part:
                    break
                answer += part
        return KeeperState.from_json(json.loads(answer))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def read_state(state_file: Path) -> KeeperState | None:
    """The keeper's last word on disk; None when there is none that can be read.

    The folder is the model's own: what lies there may be a link, a pipe or endless.
    """
    try:
        descriptor = os.open(state_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return KeeperState.from_json(json.loads(file.read(ANSWER_LIMIT)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
