"""How this side talks to a keeper: the spec file it reads, its control socket, its state file.

A keeper whose model is loading cannot answer; then the state file holds its last word.
"""

import json
import os
import re
import socket
import stat
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from havre.domain.instance import InstanceSpec
from havre.domain.latency import BUCKETS, Latency
from havre.domain.policy import NO_CAPTURE, Capture

PROTOCOL = 1
ANSWER_WITHIN_S = 1.0
MAX_BODY = 10 * 1024 * 1024
ANSWER_LIMIT = 1024 * 1024
_READ = 65536

STARTING = "starting"
READY = "ready"
FAILED = "failed"
DRAINING = "draining"
PER_COPY = "per_copy"

OWN_LINE = re.compile(r"\S+Z \[keeper\] ")
"""How a line of the predict log begins that the keeper wrote, not the model."""


@dataclass(frozen=True, slots=True)
class KeeperState:
    """A keeper's word on its instance. Sizes in bytes, 0 until measured.

    A keeper that an earlier version started says less: what it does not know of is 0.
    """

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
    mode: str = ""
    failed: int = 0
    streaming: int = 0
    latency: Latency = field(default=Latency())
    recording: int = 0
    capture: Capture = NO_CAPTURE

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
            mode=str(told.get("mode", "")),
            failed=int(told.get("failed", 0)),
            streaming=int(told.get("streaming", 0)),
            latency=_latency(told.get("latency", {})),
            recording=int(told.get("recording", 0)),
            capture=_capture(told.get("capturing", {})),
        )


def spec_json(spec: InstanceSpec, state_file: Path, output: Path | None = None) -> dict[str, Any]:
    """What a keeper is told. Without a folder for it, copies print where the keeper does."""
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
        "output": str(output or ""),
    }


def ask(control: Path, op: str) -> KeeperState | None:
    """Ask the keeper; None when it does not answer in time, or not as a keeper does.

    User code may have taken its place: nothing it says can hold us up for longer.
    """
    try:
        with closing(talk(control, {"op": op}, most=ANSWER_LIMIT)) as answers:
            return KeeperState.from_json(next(answers))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def talk(
    control: Path, request: Mapping[str, Any], *, most: int, within_s: float = ANSWER_WITHIN_S
) -> Generator[dict[str, Any], None, None]:
    """The answers to a request, one after the other, for as long as they are asked for.

    Each of at most ``most`` bytes, and ``within_s`` after the one before. Raises OSError when it
    does not come, ValueError when it is no answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        deadline = time.monotonic() + within_s
        connection.settimeout(within_s)
        connection.connect(str(control))
        connection.sendall(json.dumps(request).encode() + b"\n")
        heard = bytearray()
        while True:
            while b"\n" not in heard[-_READ:]:
                if len(heard) > most:
                    raise ValueError(f"an answer of over {most} bytes")
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                part = connection.recv(_READ)
                if not part:
                    raise ConnectionError("it ended without an answer")
                heard += part
            line, _, heard = heard.partition(b"\n")
            try:
                answer = json.loads(line)
            except RecursionError as error:
                raise ValueError("an answer that nests too deeply") from error
            if not isinstance(answer, dict):
                raise ValueError("an answer that is no object")
            yield answer
            deadline = time.monotonic() + within_s


def read_state(state_file: Path) -> KeeperState | None:
    """The keeper's last word on disk; None when there is none that can be read."""
    try:
        return KeeperState.from_json(_read(state_file))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def has_served(state_file: Path) -> bool:
    """Whether a keeper of whatever protocol has come so far as to take requests, by its last word.

    The phases have the same names in every protocol.
    """
    try:
        return _read(state_file)["phase"] in (READY, DRAINING)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _read(state_file: Path) -> dict[str, Any]:
    """The folder is the model's own: what lies there may be a link, a pipe or endless."""
    descriptor = os.open(state_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{state_file} is not a file")
        return dict(json.loads(file.read(ANSWER_LIMIT)))


def _latency(told: Mapping[str, Any]) -> Latency:
    """Empty where the keeper counts in other buckets than these."""
    counts = tuple(int(count) for count in told.get("counts", ()))
    if len(counts) != BUCKETS:
        return Latency()
    return Latency(counts, float(told["total_s"]))


def _capture(told: Mapping[str, Any]) -> Capture:
    names = tuple(str(name) for name in told.get("redact", ()))
    return Capture(float(told.get("percent", 0)), names)
