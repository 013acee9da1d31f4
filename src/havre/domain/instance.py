"""One placed unit of a deployment: what an engine starts, and what it says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from havre.domain.address import Address
from havre.domain.latency import Latency
from havre.domain.rollout.policy import NO_CAPTURE, Capture
from havre.domain.states import InstancePhase
from havre.domain.workload import Workload


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """Everything an engine needs to run one instance of one revision.

    ``id`` is short (12 characters): it names sockets and folders. ``variables`` are all those of
    its environment: nothing else of ours reaches the model's process. It is ready when all its
    copies have lived for ``min_ready_s``; 0: when one is up.
    """

    id: str
    deployment_id: str
    revision: str
    workload: Workload
    copies: int
    cpus: float
    memory_bytes: int
    variables: Mapping[str, str]
    predict_timeout_s: float = 58.0
    stream_idle_s: float = 60.0
    stream_total_s: float = 300.0
    start_timeout_s: float = 300.0
    min_ready_s: float = 0.0


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What an engine knows of one instance now.

    ``copies_ready`` take requests, ``copies_busy`` of them are in a ``predict`` call. ``notes`` are
    sentences for the work request's log (how copies are started, measured memory).
    ``memory_bytes`` is what one copy costs beyond what all share, and ``shared_bytes`` what they
    share; both 0 until measured.

    ``answered`` counts all answers since the instance began, refusals and failures among them,
    ``failed`` the 500s and the requests that died with their copy, ``latency`` the predictions;
    of an instance whose keeper is dead they are what it last wrote down, which may be less than was
    seen before. ``streaming`` of the busy copies are sending a stream, ``in_hand_s`` is for how
    long each of the others has had its request. ``recording`` is how many requests it was asked to
    keep (`Engine.record`), ``capture`` what it was asked to capture.
    ``is_silent``: its keeper lives and has not answered now; all this is what it last wrote down.
    Then ``is_held_up``: it may only be waiting, for a processor or a disk; ``keeper_cpu_s`` is the
    time it has been running in all.
    """

    id: str
    deployment_id: str
    revision: str
    phase: InstancePhase
    address: Address
    copies: int = 0
    copies_ready: int = 0
    copies_busy: int = 0
    restarts: int = 0
    pid: int = 0
    reason: str = ""
    notes: tuple[str, ...] = field(default=())
    memory_bytes: int = 0
    shared_bytes: int = 0
    answered: int = 0
    failed: int = 0
    streaming: int = 0
    in_hand_s: tuple[float, ...] = ()
    latency: Latency = field(default=Latency())
    recording: int = 0
    capture: Capture = NO_CAPTURE
    is_silent: bool = False
    is_held_up: bool = False
    keeper_cpu_s: float = 0.0

    @property
    def is_streaming(self) -> bool:
        """Whether all requests that its copies have are streams."""
        return 0 < self.streaming >= self.copies_busy


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """A request of our own to a model; the body has at most 10 MiB, as of any request."""

    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class CheckResponse:
    """What came back. ``status`` 0: nothing did, and ``error`` says why.

    ``took_s`` is the time in ``predict()`` alone, 0 where it was not called or did not end. An
    answer of over 10 MiB has its status, an ``error`` that says so, and no body.
    """

    status: int
    content_type: str = ""
    body: bytes = b""
    took_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A live request and its response: 200, or 500 where ``predict()`` raised.

    ``content_type`` as it was sent, which may be empty; ``took_s`` as in `CheckResponse`.
    """

    body: bytes
    content_type: str
    status: int
    response: bytes
    took_s: float
