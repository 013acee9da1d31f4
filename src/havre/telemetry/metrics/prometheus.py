"""Metrics as Prometheus wants them: names, labels, every series from the start.

A label has as many values as there are deployments, or a few that are known: instances, which come
and go, are in none.
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
from havre.telemetry.metrics.figures import FAMILIES, DeploymentFigures, Figures
from havre.telemetry.metrics.own import OwnMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEPLOYMENT = "deployment"
EVERY = 2
"""Of the buckets that are counted, each second one is shown: 50 µs to 52 s, doubling."""


@dataclass(frozen=True, slots=True)
class ShownDeployment:
    """A deployment that there is, whether it has ever been asked anything or not."""

    id: str
    name: str
    state: DeploymentState


def exposition(
    figures: Figures, deployments: Sequence[ShownDeployment], own: OwnMetrics, version: str
) -> bytes:
    """The text of ``GET /metrics``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Shown(figures, deployments, own, version))
    return generate_latest(registry)


def of_deployments(of_each: Mapping[str, DeploymentFigures]) -> Iterator[Metric]:
    """What has the label ``deployment``; ``of_each`` is by OCID."""
    yield _counter(
        "havre_predict_requests",
        "Requests to a deployment by the first digit of their status; none: the client had "
        "gone before there was one.",
        (DEPLOYMENT, "code"),
        {
            (key, family): each.requests.get(family, 0)
            for key, each in of_each.items()
            for family in FAMILIES
        },
    )
    for name, help_, of in _COUNTERS:
        yield _counter(name, help_, (DEPLOYMENT,), _valued(of_each, of))
    for name, help_, of in _GAUGES:
        yield _gauge(name, help_, (DEPLOYMENT,), _valued(of_each, of))
    for name, help_, latency_of in _HISTOGRAMS:
        family = HistogramMetricFamily(name, help_, labels=(DEPLOYMENT,))
        for key, each in of_each.items():
            latency = latency_of(each)
            shown = _buckets(BOUNDS_S, latency.counts, every=EVERY)
            family.add_metric((key,), shown, latency.total_s)
        yield family


def of_none(figures: Figures) -> Iterator[Metric]:
    """What the telemetry process counts beside deployments."""
    yield _counter(
        "havre_unrouted_requests",
        "Requests for predictions that led to no deployment.",
        (),
        {(): figures.unrouted},
    )
    yield _counter(
        "havre_log_entries_lost",
        "Entries that were not kept, by log.",
        ("log",),
        {(str(each),): figures.lost.get(each, 0) for each in Category},
    )
    yield _counter(
        "havre_log_failed_writes",
        "Writes of the access log that failed, each of up to half a second of entries.",
        (),
        {(): figures.failed_writes},
    )


class _Shown(Collector):
    def __init__(
        self,
        figures: Figures,
        deployments: Sequence[ShownDeployment],
        own: OwnMetrics,
        version: str,
    ) -> None:
        self._figures = figures
        self._deployments = deployments
        self._own = own
        self._version = version

    def collect(self) -> Iterator[Metric]:
        yield from self._of_all()
        yield from self._of_control_plane()
        nothing = DeploymentFigures()
        yield from of_deployments(
            {each.id: self._figures.deployments.get(each.id, nothing) for each in self._deployments}
        )

    def _of_all(self) -> Iterator[Metric]:
        states = dict.fromkeys(DeploymentState, 0)
        for each in self._deployments:
            states[each.state] += 1
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
            "Always 1: what a deployment is called.",
            (DEPLOYMENT, "name"),
            {(each.id, each.name): 1 for each in self._deployments},
        )
        yield from of_none(self._figures)
        yield _gauge(
            "havre_telemetry_looked_timestamp_seconds",
            "When the telemetry process last looked, since the epoch; 0: never.",
            (),
            {(): self._figures.looked_ms / 1000},
        )

    def _of_control_plane(self) -> Iterator[Metric]:
        lag = HistogramMetricFamily(
            "havre_reconciler_lag_seconds", "How late passes of the reconciler begin.", labels=()
        )
        builds = HistogramMetricFamily(
            "havre_environment_build_seconds",
            "How long the control plane's builds of inference environments took.",
            labels=("outcome",),
        )
        for family, key, durations in (
            (lag, (), self._own.lag),
            *((builds, (outcome,), each) for outcome, each in self._own.builds.items()),
        ):
            shown = _buckets(durations.bounds_s, durations.counts)
            family.add_metric(key, shown, durations.total_s)
        yield from (lag, builds)


_Of = Callable[[DeploymentFigures], float]
_COUNTERS: tuple[tuple[str, str, _Of], ...] = (
    ("havre_predict_request_bytes", "Bodies of requests.", lambda it: it.bytes_in),
    ("havre_predict_response_bytes", "Bodies of answers.", lambda it: it.bytes_out),
    ("havre_copy_restarts", "Copies started anew because one had died.", lambda it: it.restarts),
    ("havre_cpu_seconds", "Processor time of a deployment's instances.", lambda it: it.cpu_s),
)
_GAUGES: tuple[tuple[str, str, _Of], ...] = (
    ("havre_instances", "Instances that run.", lambda it: it.instances),
    ("havre_copies", "Copies that its instances are to have.", lambda it: it.copies),
    ("havre_copies_ready", "Copies that take requests.", lambda it: it.ready),
    ("havre_copies_busy", "Copies in a call of predict().", lambda it: it.busy),
    ("havre_queue_depth", "Requests that wait for a copy to be free.", lambda it: it.waiting),
    ("havre_memory_bytes", "Memory of its instances.", lambda it: it.memory_bytes),
    (
        "havre_memory_limit_bytes",
        "Memory that its instances may have.",
        lambda it: it.memory_limit_bytes,
    ),
    ("havre_cpu_limit_threads", "Hardware threads that its instances may use.", lambda it: it.cpus),
)
_HISTOGRAMS: tuple[tuple[str, str, Callable[[DeploymentFigures], Latency]], ...] = (
    (
        "havre_predict_duration_seconds",
        "From a request's first byte to its answer's last, at the load balancer.",
        lambda it: it.latency,
    ),
    (
        "havre_model_duration_seconds",
        "Time in predict(), of calls that returned.",
        lambda it: it.model_latency,
    ),
)


def _buckets(
    bounds_s: Sequence[float], counts: Sequence[int], *, every: int = 1
) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    found: list[tuple[str, float]] = []
    passed = 0
    for number, bound in enumerate(bounds_s):
        passed += counts[number]
        if number % every == 0:
            found.append((repr(bound), passed))
    return [*found, ("+Inf", passed + counts[-1])]


def _valued(of_each: Mapping[str, DeploymentFigures], of: _Of) -> dict[tuple[str, ...], float]:
    return {(key,): of(each) for key, each in of_each.items()}


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
