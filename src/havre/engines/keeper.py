"""How this side talks to a keeper: the spec file it reads, its control socket, its state file.

A keeper whose model is loading cannot answer; then the state file holds its last word.
"""

import json
import socket
from dataclasses import dataclass
from importlib.util import find_spec
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


def launcher() -> Path:
    """The program that a model's interpreter is started with."""
    found = find_spec("havre_copy")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name("launch.py")


def spec_json(spec: InstanceSpec, state_file: Path) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "instance": spec.id,
        "deployment": spec.deployment_id,
        "revision": spec.revision,
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
    """Ask the keeper; None when it does not answer in time, or not as a keeper does."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_WITHIN_S)
            connection.connect(str(control))
            connection.sendall(json.dumps({"op": op}).encode() + b"\n")
            with connection.makefile("rb") as answers:
                return KeeperState.from_json(json.loads(answers.readline(ANSWER_LIMIT)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_state(state_file: Path) -> KeeperState | None:
    """The keeper's last word on disk; None when there is none that can be read."""
    try:
        return KeeperState.from_json(json.loads(state_file.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
