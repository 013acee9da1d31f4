"""Metrics in Prometheus' text format: names, labels, every series from the start.

A label has as many values as there are deployments, or a few fixed ones: instances, which come and
go, are in no label.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from havre.domain.latency import BOUNDS_S, Latency
from havre.domain.logs import Category
from havre.domain.states import DeploymentState
from havre.telemetry.counters import Counter
from havre.telemetry.files.layout import KINDS
from havre.telemetry.metrics.control_plane import ControlPlaneMetrics
from havre.telemetry.metrics.figures import FAMILIES, DeploymentFigures, Figures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEPLOYMENT = "deployment"
EVERY = 2
"""Every second bucket of those counted is shown: 50 µs to 52 s, doubling."""

SIGNALS = ("logs", "metrics")
"""Of OTLP."""
_EXPORT_OUTCOMES = {
    "accepted": Counter.EXPORTED,
    "rejected": Counter.EXPORT_REJECTED,
    "failed": Counter.EXPORT_FAILED,
}


@dataclass(frozen=True, slots=True)
class ShownDeployment:
    """A deployment that exists, whether it has had requests or not."""

    id: str
    name: str
    state: DeploymentState


def exposition(
    figures: Figures, deployments: Sequence[ShownDeployment], own: ControlPlaneMetrics, version: str
) -> bytes:
    """The text of ``GET /metrics``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HavreCollector(figures, deployments, own, version))
    return generate_latest(registry)


def per_deployment(figures_of: Mapping[str, DeploymentFigures]) -> Iterator[Metric]:
    """Metrics with the label ``deployment``; ``figures_of`` is by OCID."""
    yield _counter(
        "havre_predict_requests",
        "Requests by the first digit of the response's status; none: the client closed the "
        "connection before there was one.",
        (DEPLOYMENT, "code"),
        {
            (key, family): figures.requests.get(family, 0)
            for key, figures in figures_of.items()
            for family in FAMILIES
        },
    )
    for name, help_, value_of in _COUNTERS:
        yield _counter(name, help_, (DEPLOYMENT,), _valued(figures_of, value_of))
    for name, help_, value_of in _GAUGES:
        yield _gauge(name, help_, (DEPLOYMENT,), _valued(figures_of, value_of))
    for name, help_, latency_of in _HISTOGRAMS:
        family = HistogramMetricFamily(name, help_, labels=(DEPLOYMENT,))
        for key, figures in figures_of.items():
            latency = latency_of(figures)
            shown = _buckets(BOUNDS_S, latency.counts, every=EVERY)
            family.add_metric((key,), shown, latency.total_s)
        yield family


def unlabelled(figures: Figures) -> Iterator[Metric]:
    """Metrics of the telemetry process without the label ``deployment``."""
    yield _counter(
        "havre_unrouted_requests",
        "Prediction requests whose path matched no deployment.",
        (),
        {(): figures.unrouted},
    )
    yield _counter(
        "havre_log_entries",
        "Entries of the logs and captured requests since the telemetry process began: stored, "
        "dropped because of the rate limit, or lost because the disk was full.",
        ("log", "outcome"),
        {
            (str(kind), str(outcome)): _count(figures, outcome, kind)
            for kind in KINDS
            for outcome in (Counter.STORED, Counter.DROPPED, Counter.LOST)
        },
    )
    yield _counter(
        "havre_log_write_failures",
        "Failed writes of the access log, each of up to half a second of entries.",
        (),
        {(): _count(figures, Counter.WRITE_FAILURES, Category.ACCESS)},
    )
    yield _counter(
        "havre_log_conversion_failures",
        "Failed conversions of log files to Parquet; each is tried again.",
        ("log",),
        {(str(kind),): _count(figures, Counter.CONVERSION_FAILURES, kind) for kind in KINDS},
    )
    yield _counter(
        "havre_otlp_export",
        "Log records and metric points sent to the OpenTelemetry collector since the telemetry "
        "process began: accepted, rejected, or in a request that failed.",
        ("signal", "outcome"),
        {
            (signal, outcome): _count(figures, counter, signal)
            for signal in SIGNALS
            for outcome, counter in _EXPORT_OUTCOMES.items()
        },
    )


def _count(figures: Figures, counter: Counter, label: str) -> int:
    return figures.counters.get(counter, {}).get(label, 0)


class HavreCollector(Collector):
    def __init__(
        self,
        figures: Figures,
        deployments: Sequence[ShownDeployment],
        own: ControlPlaneMetrics,
        version: str,
    ) -> None:
        self._figures = figures
        self._deployments = deployments
        self._own = own
        self._version = version

    def collect(self) -> Iterator[Metric]:
        yield from self._of_home()
        yield from self._of_control_plane()
        nothing = DeploymentFigures()
        yield from per_deployment(
            {
                deployment.id: self._figures.deployments.get(deployment.id, nothing)
                for deployment in self._deployments
            }
        )

    def _of_home(self) -> Iterator[Metric]:
        states = dict.fromkeys(DeploymentState, 0)
        for deployment in self._deployments:
            states[deployment.state] += 1
        del states[DeploymentState.DELETED]
        yield _gauge("havre_build_info", "Always 1.", ("version",), {(self._version,): 1})
        yield _gauge(
            "havre_deployments",
            "Deployments by state.",
            ("state",),
            {(str(state),): number for state, number in states.items()},
        )
        yield _gauge(
            "havre_deployment_info",
            "Always 1; the label has the display name.",
            (DEPLOYMENT, "name"),
            {(deployment.id, deployment.name): 1 for deployment in self._deployments},
        )
        yield from unlabelled(self._figures)
        yield _gauge(
            "havre_telemetry_last_collection_timestamp_seconds",
            "Unix time of the last collection; 0 if there was none.",
            (),
            {(): self._figures.collected_ms / 1000},
        )

    def _of_control_plane(self) -> Iterator[Metric]:
        lag = HistogramMetricFamily(
            "havre_reconciler_lag_seconds", "Delay of the reconciler's passes.", labels=()
        )
        builds = HistogramMetricFamily(
            "havre_environment_build_seconds",
            "Duration of the control plane's builds of inference environments.",
            labels=("outcome",),
        )
        for family, key, durations in (
            (lag, (), self._own.lag),
            *((builds, (outcome,), durations) for outcome, durations in self._own.builds.items()),
        ):
            shown = _buckets(durations.bounds_s, durations.counts)
            family.add_metric(key, shown, durations.total_s)
        yield from (lag, builds)
        yield _gauge(
            "havre_reconciler_stuck_passes",
            "Passes of the reconciler that have run for over a minute.",
            (),
            {(): self._own.stuck_passes},
        )


_ValueOf = Callable[[DeploymentFigures], float]
_COUNTERS: tuple[tuple[str, str, _ValueOf], ...] = (
    ("havre_predict_request_bytes", "Request body bytes.", lambda figures: figures.bytes_in),
    ("havre_predict_response_bytes", "Response body bytes.", lambda figures: figures.bytes_out),
    (
        "havre_predict_held_back",
        "Requests delayed or refused by the provisioned bandwidth.",
        lambda figures: figures.held,
    ),
    ("havre_copy_restarts", "Restarts of copies that had died.", lambda figures: figures.restarts),
    ("havre_cpu_seconds", "CPU time of a deployment's instances.", lambda figures: figures.cpu_s),
)
_GAUGES: tuple[tuple[str, str, _ValueOf], ...] = (
    ("havre_instances", "Running instances.", lambda figures: figures.instances),
    ("havre_copies", "Desired copies.", lambda figures: figures.copies),
    ("havre_copies_ready", "Copies that take requests.", lambda figures: figures.ready),
    ("havre_copies_busy", "Copies in a call of predict().", lambda figures: figures.busy),
    ("havre_queue_depth", "Requests waiting for a free copy.", lambda figures: figures.waiting),
    ("havre_memory_bytes", "Memory used by the instances.", lambda figures: figures.memory_bytes),
    (
        "havre_memory_limit_bytes",
        "Memory limit of the instances.",
        lambda figures: figures.memory_limit_bytes,
    ),
    (
        "havre_cpu_limit_cores",
        "CPU limit of the instances, in hardware threads.",
        lambda figures: figures.cpus,
    ),
)
_HISTOGRAMS: tuple[tuple[str, str, Callable[[DeploymentFigures], Latency]], ...] = (
    (
        "havre_predict_duration_seconds",
        "Request duration at the load balancer, from the request's first byte to the response's "
        "last.",
        lambda figures: figures.latency,
    ),
    (
        "havre_model_duration_seconds",
        "Duration of calls of predict() that returned; of a stream, to its first part.",
        lambda figures: figures.model_latency,
    ),
)


def _buckets(
    bounds_s: Sequence[float], counts: Sequence[int], *, every: int = 1
) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    buckets: list[tuple[str, float]] = []
    passed = 0
    for number, bound in enumerate(bounds_s):
        passed += counts[number]
        if number % every == 0:
            buckets.append((repr(bound), passed))
    return [*buckets, ("+Inf", passed + counts[-1])]


def _valued(
    figures_of: Mapping[str, DeploymentFigures], value_of: _ValueOf
) -> dict[tuple[str, ...], float]:
    return {(key,): value_of(figures) for key, figures in figures_of.items()}


def _counter(
    name: str, help_: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]
) -> Metric:
    family = CounterMetricFamily(name, help_, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _gauge(
    name: str, help_: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]
) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
