"""Whether the new revision does as well as the old one, by what both did at the same time."""

from dataclasses import dataclass, field

from havre.domain.latency import Latency
from havre.domain.policy import Canary

MIN_REQUESTS = 20
"""Of fewer no median is taken, and a share of failures is counted as if there had been so many."""
MIN_FAILURES = 2
"""A single request may be lost to anything."""
NOISE_S = 0.005
"""Medians that are no further apart are equal, whatever their factor."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests answered, those of them that failed, and how long ``predict`` took."""

    answered: int = 0
    failed: int = 0
    latency: Latency = field(default_factory=Latency)

    def plus(self, other: "Tally") -> "Tally":
        return Tally(
            self.answered + other.answered,
            self.failed + other.failed,
            self.latency.plus(other.latency),
        )

    def minus(self, earlier: "Tally") -> "Tally":
        """What came since; nothing where a count began anew."""
        return Tally(
            max(0, self.answered - earlier.answered),
            max(0, self.failed - earlier.failed),
            self.latency.minus(earlier.latency),
        )

    @property
    def failed_share(self) -> float:
        return self.failed / max(self.answered, MIN_REQUESTS)

    @property
    def median_s(self) -> float:
        return self.latency.quantile(0.5)

    def __str__(self) -> str:
        figures = f"{self.answered} requests, {self.failed} failed"
        if self.latency.count == 0:
            return figures
        return f"{figures}, median {in_ms(self.median_s)}"


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a step so far. ``for_s`` counts from when its share was first seen live."""

    for_s: float = 0.0
    new: Tally = field(default_factory=Tally)
    old: Tally = field(default_factory=Tally)

    def __str__(self) -> str:
        return f"new revision {self.new}; old revision {self.old}"


def exceeded(canary: Canary, trial: Trial) -> str:
    """Which limit the new revision is beyond, with the figures; "" if none."""
    new, old = trial.new, trial.old
    most = old.failed_share + canary.errors
    if new.failed >= MIN_FAILURES and new.failed_share > most:
        return (
            f"the canary was stopped: {new.failed_share:.1%} of the new revision's requests "
            f"failed, the limit is {most:.1%} ({trial})"
        )
    if min(new.latency.count, old.latency.count) >= MIN_REQUESTS and is_slower(
        new.median_s, old.median_s, canary.slowdown
    ):
        return (
            f"the canary was stopped: the new revision is more than {canary.slowdown:g} times "
            f"as slow ({trial})"
        )
    return ""


def in_ms(seconds: float) -> str:
    milliseconds = seconds * 1e3
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def is_slower(new_s: float, old_s: float, factor: float) -> bool:
    return new_s > old_s * factor and new_s - old_s > NOISE_S


def step_over(percent: int, trial: Trial) -> str:
    """A line for the log, when a step was held for its pause."""
    verdict = "" if trial.new.answered >= MIN_REQUESTS else " Too few requests to judge; going on."
    return f"Canary at {percent} %: {trial}.{verdict}"


def step_begins(percent: int, pause_s: float) -> str:
    return f"Canary: {percent} % of the requests go to the new revision for {pause_s:g} s."
