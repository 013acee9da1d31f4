"""The control plane's own metrics, in a registry of their own: since this process began."""

from prometheus_client import CollectorRegistry, Histogram

LAGS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
BUILDS_S = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
BUILT, FAILED = "built", "failed"


class OwnMetrics:
    """Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lag = Histogram(
            "havre_reconciler_lag_seconds",
            "How late the passes of the reconciler begin.",
            buckets=LAGS_S,
            registry=self.registry,
        )
        self._builds = Histogram(
            "havre_environment_build_seconds",
            "How long the builds of inference environments take, downloads included.",
            ["outcome"],
            buckets=BUILDS_S,
            registry=self.registry,
        )
        for outcome in (BUILT, FAILED):
            self._builds.labels(outcome)

    def saw_pass(self, late_s: float) -> None:
        self._lag.observe(max(0.0, late_s))

    def saw_build(self, took_s: float, is_built: bool) -> None:
        self._builds.labels(BUILT if is_built else FAILED).observe(took_s)
