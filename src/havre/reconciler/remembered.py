"""What only shows over time: since when an instance is out of the route, how often starts have
failed, when the canary's step began.

It may be lost at any time, as with a new control plane; waiting then starts again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from havre.domain.instance import InstanceStatus
from havre.domain.rollout.canary import RequestStats
from havre.domain.states import InstancePhase
from havre.reconciler.silence import Silence

MIN_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
PROVEN_S = 60.0
"""An instance that has been ready for this long resets the back-off, and is replaced at once if it
fails after all; one that fails sooner makes the next start wait, longer each time."""

HUNG = "its keeper hangs: it does not answer"

BLINK_S = 2.0
"""A copy that died is back long before: an instance without copies for this long is in trouble."""


@dataclass(slots=True)
class BackOff:
    """Starts of one revision that failed in a row, and until when none is tried."""

    failures: int = 0
    until: float = 0.0


@dataclass(slots=True)
class CanaryStep:
    """Since when a share is live, and the figures of each instance at that time."""

    key: tuple[str, str, int]  # change, revision, percent
    began: float
    before: dict[str, RequestStats] = field(default_factory=dict)


@dataclass(slots=True)
class Changing:
    """The present change: which instances were ``there`` before it, which were observed ``alive``
    and which were ``lost`` since it began, and since when too few are well.
    """

    change_id: str
    there: set[str] = field(default_factory=set)
    alive: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    unwell_since: float | None = None


@dataclass(slots=True)
class Memory:
    """Monotonic seconds throughout."""

    unrouted_since: dict[str, float] = field(default_factory=dict)
    ready_since: dict[str, float] = field(default_factory=dict)
    copyless_since: dict[str, float] = field(default_factory=dict)
    silences: dict[str, Silence] = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)
    proven: set[str] = field(default_factory=set)
    """Instances whose failure does not count against the present change: they were there before it,
    or have been in the route."""
    failed: set[str] = field(default_factory=set)
    last_failure: str = ""
    back_offs: dict[str, BackOff] = field(default_factory=dict)
    step: CanaryStep | None = None
    changing: Changing | None = None
    quiet_passes: int = 0
    trouble_since: float | None = None

    def observe(
        self,
        statuses: Iterable[InstanceStatus],
        revisions: Mapping[str, str],
        routed: frozenset[str],
        now: float,
    ) -> None:
        """Take in what was observed, before the planner is called."""
        self.proven |= routed
        known: set[str] = set()
        failed_young: set[str] = set()
        for status in statuses:
            known.add(status.id)
            is_ready = status.phase is InstancePhase.READY
            for since, is_so in (
                (self.unrouted_since, status.id not in routed),
                (self.copyless_since, is_ready and status.copies_ready == 0),
            ):
                if is_so:
                    since.setdefault(status.id, now)
                else:
                    since.pop(status.id, None)
            if status.is_silent:
                silence = self.silences.setdefault(status.id, Silence.begin(status, now))
                silence.note(status, now)
            else:
                self.silences.pop(status.id, None)
            is_hung = is_ready and self.is_hung(status.id, now)
            if is_ready and not is_hung:
                ready_s = now - self.ready_since.setdefault(status.id, now)
                if ready_s > PROVEN_S:
                    self.back_offs.pop(revisions[status.id], None)
            elif (is_hung or status.phase is InstancePhase.FAILED) and status.id not in self.failed:
                self.failed.add(status.id)
                self.last_failure = HUNG if is_hung else status.reason
                if now - self.ready_since.get(status.id, now) <= PROVEN_S:
                    failed_young.add(revisions[status.id])
        for revision in failed_young:
            back_off = self.back_offs.setdefault(revision, BackOff())
            back_off.until = now + min(MAX_PAUSE_S, MIN_PAUSE_S * 2**back_off.failures)
            back_off.failures += 1
        for revision in set(self.back_offs) - set(revisions.values()):
            if now - self.back_offs[revision].until > PROVEN_S:
                del self.back_offs[revision]  # it is not desired any more
        for table in (self.unrouted_since, self.ready_since, self.copyless_since):
            for gone in set(table) - known:
                del table[gone]
        for gone in set(self.silences) - known:
            del self.silences[gone]
        self.announced &= known
        self.proven &= known
        self.failed &= known

    def begin_change(self, change_id: str, revision: str, there: Iterable[str]) -> None:
        """A change to this revision begins; ``there`` are instances not to be held against it."""
        self.start_at_once(revision)  # this very change may repair what failed before
        self.proven.update(there)
        self.changing = Changing(change_id, set(there))

    def start_at_once(self, revision: str) -> None:
        """Whatever made its starts fail may have been repaired."""
        if revision in self.back_offs:
            self.back_offs[revision].until = 0.0

    def is_hung(self, instance_id: str, now: float) -> bool:
        """Whether its keeper hangs."""
        silence = self.silences.get(instance_id)
        return silence is not None and silence.is_hang(now)

    def backing_off(self, now: float) -> dict[str, float]:
        """Seconds to wait, by revision."""
        waits = {revision: back_off.until - now for revision, back_off in self.back_offs.items()}
        return {revision: seconds for revision, seconds in waits.items() if seconds > 0}
