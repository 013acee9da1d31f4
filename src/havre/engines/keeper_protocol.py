"""How this side talks to a keeper: the spec file it reads, its control socket, its state file.

A keeper whose model is loading cannot answer; then the state file holds its last word.
"""

import json
import re
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from havre import foreign
from havre.domain import reported as words
from havre.domain.instance import InstanceSpec
from havre.domain.latency import BUCKETS, Latency
from havre.domain.limits import MAX_PREDICTION_BYTES
from havre.domain.rollout.policy import MAX_REDACTED, MAX_REPLAYED, NO_CAPTURE, Capture

PROTOCOL = 1
RESPONSE_TIMEOUT_S = 1.0
MAX_STATE_BYTES = 1024 * 1024
_READ = 65536
_LOOK_S = 0.5
"""So often it is asked whether an answer is still wanted."""

MAX_COPIES = 1 << 16
MAX_RESTARTS = 10**9
MAX_MEMORY = 1 << 50
LONGEST_REASON = 2000
MAX_NOTES, LONGEST_NOTE = 32, 500
MAX_PARTS = 100_000
"""Values in one answer. Each costs twenty times the memory of the two bytes that it may have."""

STARTING = "starting"
READY = "ready"
FAILED = "failed"
DRAINING = "draining"
PHASES = (STARTING, READY, FAILED, DRAINING)
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
    in_hand_s: tuple[float, ...] = ()
    latency: Latency = field(default=Latency())
    recording: int = 0
    capture: Capture = NO_CAPTURE

    @classmethod
    def from_json(cls, report: dict[str, Any]) -> "KeeperState":
        """Raises KeyError, TypeError or ValueError when it is not a keeper's word."""
        if report["protocol"] != PROTOCOL:
            raise ValueError("another protocol")
        if report["phase"] not in PHASES:
            raise ValueError("no phase of a keeper")
        return cls(
            phase=report["phase"],
            reason=words.text(report["reason"], LONGEST_REASON),
            pid=words.count(report["pid"], 1 << 31),
            ready=words.count(report["ready"], MAX_COPIES),
            busy=words.count(report["busy"], MAX_COPIES),
            restarts=words.count(report["restarts"], MAX_RESTARTS),
            answered=words.count(report["answered"]),
            notes=_notes(report["notes"]),
            shared_bytes=words.count(report["shared_bytes"], MAX_MEMORY),
            copy_bytes=words.count(report["copy_bytes"], MAX_MEMORY),
            mode=words.text(report.get("mode", ""), LONGEST_NOTE),
            failed=words.count(report.get("failed", 0)),
            streaming=words.count(report.get("streaming", 0), MAX_COPIES),
            in_hand_s=_in_hand(report.get("in_hand_s", ())),
            latency=_latency(report.get("latency", {})),
            recording=words.count(report.get("recording", 0), MAX_REPLAYED),
            capture=_capture(report.get("capturing", {})),
        )


def spec_json(spec: InstanceSpec, state_file: Path, output: Path | None = None) -> dict[str, Any]:
    """What a keeper is given. Without a folder for it, copies print where the keeper does."""
    return {
        "protocol": PROTOCOL,
        "instance": spec.id,
        "deployment": spec.deployment_id,
        "revision": spec.revision,
        "interpreter": str(spec.workload.interpreter),  # the environment in use is found by it
        "artifact": str(spec.workload.artifact),
        "copies": spec.copies,
        "predict_timeout_s": spec.predict_timeout_s,
        "stream_idle_s": spec.stream_idle_s,
        "stream_total_s": spec.stream_total_s,
        "start_timeout_s": spec.start_timeout_s,
        "min_ready_s": spec.min_ready_s,
        "max_body": MAX_PREDICTION_BYTES,
        "state_file": str(state_file),
        "output": str(output or ""),
    }


def ask(control: Path, op: str, *, within_s: float = RESPONSE_TIMEOUT_S) -> KeeperState | None:
    """Ask the keeper; None when it does not answer in time, or not as a keeper does.

    User code may have taken its place: nothing it says can hold us up for longer.
    """
    try:
        answers = talk(control, {"op": op}, max_bytes=MAX_STATE_BYTES, within_s=within_s)
        with closing(answers):
            return KeeperState.from_json(next(answers))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def talk(
    control: Path,
    request: Mapping[str, Any],
    *,
    max_bytes: int,
    within_s: float = RESPONSE_TIMEOUT_S,
    should_continue: Callable[[], bool] | None = None,
) -> Generator[dict[str, Any], None, None]:
    """The answers to a request, one after the other, for as long as they are asked for.

    Each of at most ``max_bytes``, and ``within_s`` after the one before, or after the request.
    Raises OSError when it does not come, or is not wanted any more; ValueError when it is none.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        deadline = time.monotonic() + within_s
        connection.settimeout(within_s)
        connection.connect(str(control))
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        connection.sendall(json.dumps(request).encode() + b"\n")
        received = bytearray()
        while True:
            searched = 0
            while (end := received.find(b"\n", searched)) < 0:
                searched = len(received)
                if searched > max_bytes:
                    raise ValueError(f"an answer of over {max_bytes} bytes")
                received += _receive(connection, deadline, should_continue)
            line = bytes(received[:end])
            del received[: end + 1]
            yield _parse(line)
            deadline = time.monotonic() + within_s


def _receive(
    connection: socket.socket, deadline: float, should_continue: Callable[[], bool] | None
) -> bytes:
    """The next part, not empty. Raises OSError."""
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it did not answer in time")
        connection.settimeout(left_s if should_continue is None else min(left_s, _LOOK_S))
        try:
            part = connection.recv(_READ)
        except TimeoutError:
            part = None
        if should_continue is not None and not should_continue():
            raise ConnectionAbortedError("the answer is not wanted any more")
        if part:
            return part
        if part is not None:
            raise ConnectionError("it ended without an answer")


def _parse(line: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    if sum(map(line.count, (b",", b"[", b"{"))) > MAX_PARTS:
        raise ValueError(f"an answer of over {MAX_PARTS} parts")
    try:
        parsed = json.loads(line, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("an answer that nests too deeply") from error
    if not isinstance(parsed, dict):
        raise ValueError("an answer that is no object")
    return parsed


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def read_state(state_file: Path, *, below: Path | None = None) -> KeeperState | None:
    """The keeper's last word on disk; None when there is none that can be read.

    ``below``: the folder above it that is ours, if that is not the one it is in.
    """
    try:
        return KeeperState.from_json(_read(state_file, below))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def has_served(state_file: Path, *, below: Path) -> bool:
    """Whether a keeper of whatever protocol has come so far as to take requests, by its last word.

    The phases have the same names in every protocol.
    """
    try:
        return _read(state_file, below)["phase"] in (READY, DRAINING)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read(state_file: Path, below: Path | None) -> dict[str, Any]:
    content = foreign.read(state_file, below=below or state_file.parent, max_bytes=MAX_STATE_BYTES)
    return _parse(content)


def _notes(report: object) -> tuple[str, ...]:
    """The first ones."""
    if not isinstance(report, list):
        raise TypeError("notes are a list")
    return tuple(words.text(note, LONGEST_NOTE) for note in report[:MAX_NOTES])


def _in_hand(report: Sequence[Any]) -> tuple[float, ...]:
    if len(report) > MAX_COPIES:
        raise ValueError("more requests in hand than copies")
    return tuple(words.seconds(age) for age in report)


def _latency(report: Mapping[str, Any]) -> Latency:
    """Empty where the keeper counts in other buckets than these."""
    counts = report.get("counts", ())
    if len(counts) != BUCKETS:
        return Latency()
    return Latency(
        tuple(map(words.count, counts)), words.seconds(report["total_s"], words.MAX_COUNT)
    )


def _capture(report: Mapping[str, Any]) -> Capture:
    names = report.get("redact", [])
    if not isinstance(names, list) or len(names) > MAX_REDACTED:
        raise TypeError("redact is a list of a few names")
    return Capture(
        words.seconds(report.get("percent", 0), 100),
        tuple(words.text(name, LONGEST_REASON) for name in names),
    )
