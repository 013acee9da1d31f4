"""Whether the new revision does as well as the old one, by what both did at the same time.

Three things count against it: requests that failed, a median that is too long, and too many slow
requests, including those still in hand. A revision that hangs answers nothing: the requests that it
has in hand are all that can be observed of it.
"""

from dataclasses import dataclass, field
from math import sqrt

from havre.domain.latency import Latency
from havre.domain.rollout.policy import Canary

MIN_REQUESTS = 20
"""Fewer prove nothing: a step lasts until there are this many, and shares are of at least this
many."""
MIN_FAILURES = 2
"""A single request may be lost to anything."""
NOISE_S = 0.005
"""Times that differ by no more than this count as equal, whatever their ratio."""
USUAL_SHARE = 0.95
"""Slow is what takes ``slowdown`` times as long as this share of the old revision's requests."""
LONG_IN_HAND_S = 5.0
"""The first requests of a new copy load what the model loads lazily; they may take this long."""
CONFIDENCE = 4.0
"""Standard deviations: two equal revisions rarely differ by more, however often compared."""


@dataclass(frozen=True, slots=True)
class RequestStats:
    """Requests answered, those of them that failed, and how long ``predict`` took.

    ``in_hand_s``: for how long it has had each of the requests that it has now. ``copies``: of
    how many copies these are.
    """

    answered: int = 0
    failed: int = 0
    latency: Latency = field(default_factory=Latency)
    in_hand_s: tuple[float, ...] = ()
    copies: int = 0

    def plus(self, other: "RequestStats") -> "RequestStats":
        return RequestStats(
            self.answered + other.answered,
            self.failed + other.failed,
            self.latency.plus(other.latency),
            self.in_hand_s + other.in_hand_s,
            self.copies + other.copies,
        )

    def minus(self, earlier: "RequestStats") -> "RequestStats":
        """What came since; nothing where a count was reset."""
        return RequestStats(
            max(0, self.answered - earlier.answered),
            max(0, self.failed - earlier.failed),
            self.latency.minus(earlier.latency),
            self.in_hand_s,
            self.copies,
        )

    @property
    def failed_share(self) -> float:
        return self.failed / max(self.answered, MIN_REQUESTS)

    @property
    def median_s(self) -> float:
        return self.latency.quantile(0.5)

    def __str__(self) -> str:
        figures = f"{self.answered} requests, {self.failed} failed"
        if self.latency.count:
            figures += f", median {in_ms(self.median_s)}"
        if self.in_hand_s:
            figures += f", {len(self.in_hand_s)} in hand for up to {max(self.in_hand_s):.1f} s"
        return figures


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step has shown so far. ``for_s`` counts from when its share was found to be live."""

    for_s: float = 0.0
    new: RequestStats = field(default_factory=RequestStats)
    old: RequestStats = field(default_factory=RequestStats)

    def __str__(self) -> str:
        return f"new revision {self.new}; old revision {self.old}"

    @property
    def is_idle(self) -> bool:
        """Whether there were no requests at all: then waiting longer proves nothing."""
        both = self.new.plus(self.old)
        return not both.answered and not both.in_hand_s

    def slow_s(self, slowdown: float) -> float:
        """What takes longer is slow; 0 where the old revision has answered too few to judge."""
        latency = self.old.latency
        if latency.count < MIN_REQUESTS:
            return 0.0
        return latency.quantile(USUAL_SHARE) * slowdown + NOISE_S


def violated_limit(canary: Canary, result: StepResult, percent: int) -> str:
    """The limit that the new revision exceeds in the step ``percent``, with the figures; or ""."""
    new, old = result.new, result.old
    limit = old.failed_share + canary.errors
    if _is_worse(new.failed, new.answered, old.failed_share, canary.errors):
        return (
            f"the canary was stopped: {new.failed_share:.1%} of the new revision's requests "
            f"failed, the limit is {limit:.1%} ({result})"
        )
    if min(new.latency.count, old.latency.count) >= MIN_REQUESTS and is_slower(
        new.median_s, old.median_s, canary.slowdown
    ):
        return (
            f"the canary was stopped: the new revision is more than {canary.slowdown:g} times "
            f"as slow ({result})"
        )
    if reason := _too_many_slow(canary, result):
        return f"the canary was stopped: {reason} ({result})"
    if _lasts(canary, result, percent) and result.for_s >= canary.pause_of(percent) + canary.wait_s:
        return (
            f"the canary was stopped: {result.for_s:.0f} s at {percent} % have brought too few "
            f"answers of the new revision to judge it by, {MIN_REQUESTS} are needed ({result}). "
            "Let it wait longer (wait=1h), give it a larger share, or roll out without a canary"
        )
    return ""


def is_step_done(canary: Canary, result: StepResult, percent: int) -> bool:
    """Whether the step has had its time, and has shown enough to continue."""
    return result.for_s >= canary.pause_of(percent) and not _lasts(canary, result, percent)


def in_ms(seconds: float) -> str:
    milliseconds = seconds * 1e3
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def is_slower(new_s: float, old_s: float, factor: float) -> bool:
    return new_s > old_s * factor and new_s - old_s > NOISE_S


def step_done_note(percent: int, result: StepResult) -> str:
    """A line for the work request's log, when a step is done."""
    verdict = " There were no requests; continuing." if result.is_idle else ""
    return f"Canary at {percent} %: {result}.{verdict}"


def step_start_note(percent: int, pause_s: float) -> str:
    return (
        f"Canary: {percent} % of the requests go to the new revision for {pause_s:g} s, and until "
        f"{MIN_REQUESTS} are answered."
    )


def _lasts(canary: Canary, result: StepResult, percent: int) -> bool:
    """Whether the step must continue after its pause: for more answers, or for overdue ones."""
    if canary.pause_of(percent) == 0:
        return False  # the share of an earlier canary: not one of these steps
    if result.is_idle:
        return False
    slow_s = result.slow_s(canary.slowdown)
    has_overdue = slow_s > 0 and any(seconds > slow_s for seconds in result.new.in_hand_s)
    return has_overdue or result.new.answered < MIN_REQUESTS


def _too_many_slow(canary: Canary, result: StepResult) -> str:
    slow_s = result.slow_s(canary.slowdown)
    if slow_s == 0:
        return ""
    new, old = result.new, result.old
    # A copy's first request may be slow; one that has been in hand for long is not that one.
    answered = max(0, round(new.latency.beyond(slow_s)) - new.copies)
    overdue_s = max(slow_s, old.latency.quantile(1.0), LONG_IN_HAND_S)
    in_hand = sum(seconds > overdue_s for seconds in new.in_hand_s)
    slow, all_new = answered + in_hand, new.latency.count + in_hand
    if in_hand < MIN_FAILURES and all_new < MIN_REQUESTS:
        return ""  # late answers are answers: wait until there are more of them
    before = old.latency.beyond(slow_s) / old.latency.count
    if not _is_worse(slow, all_new, before, canary.errors):
        return ""
    return (
        f"{slow} of the new revision's requests took over {in_ms(slow_s)}, {in_hand} of them are "
        f"still in hand; of the old one's {before:.1%} did"
    )


def _is_worse(count: int, of: int, before: float, more: float) -> bool:
    """Whether a share exceeds ``before + more``; if ``before`` is not 0, with confidence."""
    of = max(of, MIN_REQUESTS)
    if count < MIN_FAILURES or count / of <= before + more:
        return False
    return before == 0 or _lower_bound(count, of) > before + more


def _lower_bound(count: int, of: int) -> float:
    """Of the share behind what was observed: the lower end of Wilson's interval."""
    share, square = count / of, CONFIDENCE * CONFIDENCE
    middle = share + square / (2 * of)
    spread = CONFIDENCE * sqrt(share * (1 - share) / of + square / (4 * of * of))
    return max(0.0, middle - spread) / (1 + square / of)
