"""Metrics of the control plane itself, since its process began."""

import threading
from bisect import bisect_left
from dataclasses import dataclass, field

LAGS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
BUILDS_S = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
BUILT, FAILED = "built", "failed"


@dataclass(slots=True)
class Histogram:
    """A histogram. ``counts`` has a number per bucket of ``bounds_s``, and one for what is beyond
    the last.
    """

    bounds_s: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds_s) + 1)

    def observe(self, seconds: float) -> None:
        with self._lock:
            self.counts[bisect_left(self.bounds_s, seconds)] += 1
            self.total_s += seconds


class ControlPlaneMetrics:
    """Thread-safe. ``lag``: delay of the reconciler's passes; ``builds`` of inference
    environments, by their outcome; ``stuck_passes`` of the reconciler have run for over a minute.
    """

    def __init__(self) -> None:
        self.lag = Histogram(LAGS_S)
        self.stuck_passes = 0
        self.builds = {outcome: Histogram(BUILDS_S) for outcome in (BUILT, FAILED)}

    def observe_pass(self, late_s: float) -> None:
        self.lag.observe(max(0.0, late_s))

    def observe_stuck_passes(self, count: int) -> None:
        self.stuck_passes = count

    def observe_build(self, took_s: float, is_built: bool) -> None:
        self.builds[BUILT if is_built else FAILED].observe(took_s)
