"""Whether a keeper that does not answer hangs, or only waits for a busy machine. Pure.

One that was stopped, or waits for what never comes, sleeps although it has been asked. One that the
machine does not let run is ready to run, or waits for a disk, whenever it is observed: it gets more
time. One that runs without answering hangs just as well.
"""

from dataclasses import dataclass

from havre.domain.instance import InstanceStatus

HANG_S = 3.0
"""A keeper hangs that has not answered for this long, at `MIN_OBSERVATIONS` in a row, with nothing
that held it up."""
MIN_OBSERVATIONS = 3
PATIENCE_S = 60.0
"""However busy the machine is, a keeper answers in less."""
RAN_S = 2.0
"""A status takes a keeper a millisecond: one that ran for this long meanwhile was not held up."""


@dataclass(slots=True)
class Silence:
    """Of one keeper, from the first time that it did not answer. Monotonic seconds."""

    since: float
    cpu_s: float
    hanging_since: float
    observations: int = 0

    @classmethod
    def begin(cls, status: InstanceStatus, now: float) -> "Silence":
        return cls(now, status.keeper_cpu_s, now)

    def note(self, status: InstanceStatus, now: float) -> None:
        """Another observation, the first one included."""
        if status.is_held_up and status.keeper_cpu_s - self.cpu_s < RAN_S:
            self.hanging_since, self.observations = now, 0
        else:
            self.observations += 1

    def is_hang(self, now: float) -> bool:
        is_proven = now - self.hanging_since >= HANG_S and self.observations >= MIN_OBSERVATIONS
        return is_proven or now - self.since >= PATIENCE_S
