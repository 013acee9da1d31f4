"""How long to wait before a process that died is started again. Pure."""

from dataclasses import dataclass

HEALTHY_AFTER_S = 30.0
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """``quick_deaths`` counts deaths in a row that came before the process had proved itself."""

    quick_deaths: int = 0

    def after_death(self, uptime_s: float) -> "Backoff":
        """A process that crashes after a healthy life starts a new count."""
        return Backoff(1 if uptime_s >= HEALTHY_AFTER_S else self.quick_deaths + 1)

    @property
    def delay_s(self) -> float:
        """None at the first death, then doubling."""
        if self.quick_deaths <= 1:
            return 0.0
        # The exponent is bounded: a process may die quickly for years.
        doublings = min(self.quick_deaths - 2, 16)
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0**doublings)
