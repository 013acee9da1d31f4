"""An engine without processes, for tests: time is moved by hand and trouble is scripted.

By default an instance is READY as soon as it is started. A `Script` for its revision or its id says
otherwise; `break_engine` makes every call fail as an engine that cannot be reached does.
"""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from havre.domain.address import UnixAddress
from havre.domain.errors import EngineFault
from havre.domain.instance import (
    CheckRequest,
    CheckResponse,
    InstanceSpec,
    InstanceStatus,
    RecordedRequest,
)
from havre.domain.latency import BOUNDS_S, BUCKETS, Latency
from havre.domain.rollout.policy import NO_CAPTURE, Capture
from havre.domain.states import InstancePhase
from havre.engines.model_channel import always


def echo(request: CheckRequest) -> CheckResponse:
    """A model that answers with what it got, in a millisecond."""
    body = b'{"prediction": ' + request.body + b"}"
    return CheckResponse(200, "application/json", body, took_s=0.001)


@dataclass(frozen=True, slots=True)
class Script:
    """What an instance does, in seconds since its start; None is never. Its copies are up at
    ``ready_after_s``, and it is READY when they have lived for the ``min_ready_s`` of its spec.

    ``fails_with`` is the reason that loading the model ends with, at ``ready_after_s``.
    ``start_fault`` makes `start` itself raise EngineFault with this text. ``model`` answers checks
    and what `FakeEngine.predict` asks; ``sample`` is what came with the artifact.
    """

    ready_after_s: float | None = 0.0
    fails_with: str = ""
    degrades_after_s: float | None = None
    dies_after_s: float | None = None
    dies_of: str = "killed by signal 9"
    start_fault: str = ""
    notes: tuple[str, ...] = ()
    model: Callable[[CheckRequest], CheckResponse] = echo
    sample: CheckRequest | None = None


@dataclass(slots=True)
class _Run:
    spec: InstanceSpec
    script: Script
    started_at: float
    busy: int = 0
    busy_since: float = 0.0
    streaming: int = 0
    killed: str = ""
    is_keeper_ended: bool = False
    answered: int = 0
    failed: int = 0
    latency: Latency = field(default=Latency())
    recording: int = 0
    capture: Capture = NO_CAPTURE
    recorded: list[RecordedRequest] = field(default_factory=list)


class FakeEngine:
    """Implements `Engine`. ``calls`` lists what was asked, oldest first, as (verb, instance id).

    ``has_channels``: whether its models can be asked apart from their traffic.
    """

    def __init__(self, *, sockets: Path = Path("/nonexistent"), has_channels: bool = True) -> None:
        self.now = 0.0
        self.has_channels = has_channels
        self.calls: list[tuple[str, str]] = []
        self._sockets = sockets
        self._scripts: dict[str, Script] = {}
        self._runs: dict[str, _Run] = {}
        self._fault = ""
        self._lock = threading.Lock()

    # The scripting side.

    def script(self, name: str, script: Script) -> None:
        """Follow the script for every later start of this revision or this instance id."""
        with self._lock:
            self._scripts[name] = script

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self.now += seconds

    def occupy(self, instance_id: str, copies: int, *, streaming: int = 0) -> None:
        """Make so many copies of a running instance busy, from now until another number is set.

        ``streaming`` of them are in a stream.
        """
        with self._lock:
            run = self._runs[instance_id]
            run.busy, run.busy_since, run.streaming = copies, self.now, streaming

    def predict(self, instance_id: str, request: CheckRequest, times: int = 1) -> CheckResponse:
        """Live requests, all alike, answered by the script's model at once."""
        with self._lock:
            run = self._runs[instance_id]
            response = run.script.model(request)
            run.answered += times
            if response.status == 200:
                run.latency = run.latency.plus(_latency(response.took_s, times))
            else:
                run.failed += times
            kept = RecordedRequest(
                request.body, request.content_type, response.status, response.body, response.took_s
            )
            if run.recording:
                run.recorded = [*run.recorded, *[kept] * times][-run.recording :]
            return response

    def kill(self, instance_id: str, reason: str = "killed by signal 9") -> None:
        """The instance dies now."""
        with self._lock:
            self._runs[instance_id].killed = reason

    @contextmanager
    def break_engine(self, reason: str = "the engine cannot be reached") -> Iterator[None]:
        """Every call inside raises EngineFault."""
        self._fault = reason
        try:
            yield
        finally:
            self._fault = ""

    # The engine.

    def start(self, spec: InstanceSpec) -> None:
        with self._lock:
            self._record("start", spec.id)
            run = self._runs.get(spec.id)
            if run is not None and self._phase(run)[0] is not InstancePhase.FAILED:
                return
            script = self._scripts.get(spec.id) or self._scripts.get(spec.revision) or Script()
            if script.start_fault:
                raise EngineFault(script.start_fault)
            self._runs[spec.id] = _Run(spec, script, self.now)

    def inspect(self, instance_id: str) -> InstanceStatus:
        with self._lock:
            self._check_reachable()
            return self._status(instance_id)

    def instances(self) -> list[InstanceStatus]:
        with self._lock:
            self._check_reachable()
            return [self._status(instance_id) for instance_id in self._runs]

    def stop(self, instance_id: str) -> None:
        with self._lock:
            self._record("stop", instance_id)
            self._runs.pop(instance_id, None)

    def changes(self) -> Iterator[str]:
        """Nothing changes by itself here that a test does not know of."""
        return iter(())

    def channel(self, instance_id: str) -> "FakeChannel | None":
        return FakeChannel(self, instance_id) if self.has_channels else None

    @contextmanager
    def asked(self, verb: str, instance_id: str) -> Iterator[_Run]:
        """A READY instance, for as long as it is asked something that ``calls`` lists.

        An empty ``verb`` is not listed.
        """
        with self._lock:
            if verb:
                self._record(verb, instance_id)
            else:
                self._check_reachable()
            yield self._ready(instance_id)

    def end_keeper(self, instance_id: str) -> None:
        """Its keeper is dead from now on."""
        with self._lock:
            self._record("end_keeper", instance_id)
            if (run := self._runs.get(instance_id)) is not None:
                run.is_keeper_ended = True

    def _record(self, verb: str, instance_id: str) -> None:
        self._check_reachable()
        self.calls.append((verb, instance_id))

    def _check_reachable(self) -> None:
        if self._fault:
            raise EngineFault(self._fault)

    def _ready(self, instance_id: str) -> _Run:
        phase = self._status(instance_id).phase
        if phase is not InstancePhase.READY:
            raise EngineFault(f"instance {instance_id} is {phase} and cannot be asked")
        return self._runs[instance_id]

    def _status(self, instance_id: str) -> InstanceStatus:
        address = UnixAddress(self._sockets / f"{instance_id}.sock")
        run = self._runs.get(instance_id)
        if run is None:
            return InstanceStatus(instance_id, "", "", InstancePhase.GONE, address)
        phase, reason = self._phase(run)
        serves = phase in (InstancePhase.READY, InstancePhase.DEGRADED)
        return InstanceStatus(
            id=instance_id,
            deployment_id=run.spec.deployment_id,
            revision=run.spec.revision,
            phase=phase,
            address=address,
            copies=run.spec.copies,
            copies_ready=run.spec.copies if serves else 0,
            copies_busy=run.busy if serves else 0,
            pid=0 if phase is InstancePhase.FAILED else 1_000_000_000,
            reason=reason,
            notes=run.script.notes if serves else (),
            answered=run.answered,
            failed=run.failed,
            streaming=min(run.streaming, run.busy) if serves else 0,
            in_hand_s=(self.now - run.busy_since,) * (run.busy - run.streaming) if serves else (),
            latency=run.latency,
            recording=run.recording,
            capture=run.capture,
        )

    def _phase(self, run: _Run) -> tuple[InstancePhase, str]:
        age, script = self.now - run.started_at, run.script
        if run.killed:
            return InstancePhase.FAILED, run.killed
        if script.dies_after_s is not None and age >= script.dies_after_s:
            return InstancePhase.FAILED, script.dies_of
        if script.ready_after_s is None or age < script.ready_after_s:
            if age > run.spec.start_timeout_s:
                seconds = f"{run.spec.start_timeout_s:g}"
                return InstancePhase.FAILED, f"did not become ready within {seconds} s"
            return InstancePhase.STARTING, ""
        if script.fails_with:
            return InstancePhase.FAILED, script.fails_with
        if age < script.ready_after_s + run.spec.min_ready_s:
            return InstancePhase.STARTING, ""
        degrades = script.degrades_after_s is not None and age >= script.degrades_after_s
        if degrades or run.is_keeper_ended:
            return InstancePhase.DEGRADED, "its keeper is dead; its copies serve on"
        return InstancePhase.READY, ""


class FakeChannel:
    """Implements `ModelChannel`."""

    def __init__(self, engine: FakeEngine, instance_id: str) -> None:
        self._engine = engine
        self._id = instance_id

    def check(
        self, requests: Sequence[CheckRequest], *, should_continue: Callable[[], bool] = always
    ) -> Iterator[CheckResponse]:
        with self._engine.asked("check", self._id) as run:
            model = run.script.model
        for request in requests:
            if not should_continue():
                raise EngineFault("the answer is not wanted any more")
            yield model(request)

    def sample(self) -> CheckRequest | None:
        with self._engine.asked("", self._id) as run:
            return run.script.sample

    def record(self, limit: int) -> None:
        with self._engine.asked("record", self._id) as run:
            run.recording = limit
            run.recorded = run.recorded[-limit:] if limit else []

    def recorded(
        self,
        limit: int,
        *,
        should_continue: Callable[[], bool] = always,  # noqa: ARG002 - it is answered at once
    ) -> list[RecordedRequest]:
        with self._engine.asked("", self._id) as run:
            return run.recorded[-limit:] if limit else []

    def capture(self, policy: Capture) -> None:
        with self._engine.asked("capture", self._id) as run:
            run.capture = policy

    def end_keeper(self) -> None:
        self._engine.end_keeper(self._id)


def _latency(took_s: float, times: int) -> Latency:
    bucket = bisect_right(BOUNDS_S, took_s)
    counts = tuple(times if number == bucket else 0 for number in range(BUCKETS))
    return Latency(counts, took_s * times)
