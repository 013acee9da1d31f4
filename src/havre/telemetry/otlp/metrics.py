"""Exports the metrics of ``GET /metrics`` to an OpenTelemetry collector, by the same names.

Counts are cumulative, so a request that fails loses a point in time and no count: nothing is kept
for a collector that is away.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from havre.home import Home
from havre.telemetry.counters import Counters
from havre.telemetry.metrics.figures import Figures, read_figures
from havre.telemetry.metrics.prometheus import per_deployment, unlabelled
from havre.telemetry.otlp import encoding
from havre.telemetry.otlp.sender import Delivery, OtlpSender

INTERVAL_S = 15.0
CUMULATIVE = 2

Json = dict[str, Any]


class MetricExport:
    """A collector for a thread of its own: it waits for the network."""

    name = "metric export"

    def __init__(
        self, home: Home, sender: OtlpSender, counters: Counters, *, interval_s: float = INTERVAL_S
    ) -> None:
        self._home = home
        self._delivery = Delivery(sender, counters, "metrics")
        self._interval_s = interval_s
        self._sent_ms = 0

    def collect(self, now_ms: int) -> None:  # noqa: ARG002 - the points have a time of their own
        """Send the last figures. Raises OSError, SettingInvalid."""
        if not self._delivery.is_due:
            return
        self._delivery.wait(self._interval_s)
        figures = read_figures(self._home)
        if figures.collected_ms == self._sent_ms:
            return
        body = metrics(figures)
        if self._delivery.deliver(body, _count(body)):
            self._sent_ms = figures.collected_ms


def metrics(figures: Figures) -> Json:
    """The body of a request to ``/v1/metrics``."""
    families = [*unlabelled(figures), *per_deployment(figures.deployments)]
    at = encoding.nanoseconds(figures.collected_ms)
    scope = {
        "scope": {"name": encoding.SCOPE},
        "metrics": [_metric(family, at) for family in families if family.samples],
    }
    return {"resourceMetrics": [{"resource": encoding.resource(), "scopeMetrics": [scope]}]}


def _metric(family: Metric, at: str) -> Json:
    described = {"name": family.name, "description": family.documentation}
    if family.type == "histogram":
        points = list(_histograms(family.samples, at))
        return {**described, "histogram": {"dataPoints": points, **_CUMULATIVE}}
    points = [
        {"timeUnixNano": at, "asDouble": float(sample.value), "attributes": _attributes(sample)}
        for sample in family.samples
    ]
    if family.type == "counter":
        return {**described, "sum": {"dataPoints": points, "isMonotonic": True, **_CUMULATIVE}}
    return {**described, "gauge": {"dataPoints": points}}


_CUMULATIVE = {"aggregationTemporality": CUMULATIVE}


def _histograms(samples: Iterable[Sample], at: str) -> Iterator[Json]:
    """From Prometheus' samples: buckets in order with cumulative counts, then count and sum."""
    bounds: list[float] = []
    counts: list[int] = []
    before = 0.0
    for sample in samples:
        if sample.name.endswith("_bucket"):
            counts.append(round(sample.value - before))
            before = sample.value
            bounds.append(float(sample.labels["le"]))
        elif sample.name.endswith("_sum"):
            yield {
                "timeUnixNano": at,
                "count": str(sum(counts)),
                "sum": float(sample.value),
                "bucketCounts": [str(count) for count in counts],
                "explicitBounds": bounds[:-1],
                "attributes": _attributes(sample),
            }
            bounds, counts, before = [], [], 0.0


def _attributes(sample: Sample) -> list[Json]:
    renamed = {"deployment": "havre.deployment.id"}
    return encoding.attribute_list(
        {renamed.get(name, name): value for name, value in sample.labels.items()}
    )


def _count(body: Json) -> int:
    [of_resource] = body["resourceMetrics"]
    metrics_of_scope = of_resource["scopeMetrics"][0]["metrics"]
    return sum(len(_data(metric)["dataPoints"]) for metric in metrics_of_scope)


def _data(metric: Json) -> Json:
    data: Json = metric.get("histogram") or metric.get("sum") or metric["gauge"]
    return data
