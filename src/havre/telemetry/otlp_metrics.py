"""Metrics go to an OpenTelemetry collector: those of ``GET /metrics``, by the same names.

Counts are cumulative, so one that does not arrive costs a point in time and no count: nothing is
kept for a collector that is away.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from havre.domain import otlp
from havre.home import Home
from havre.telemetry.collecting import Tally
from havre.telemetry.metrics.figures import Figures, read_figures
from havre.telemetry.metrics.prometheus import of_deployments, of_none
from havre.telemetry.otlp_sender import Delivery, OtlpSender

EVERY_S = 15.0
CUMULATIVE = 2

Json = dict[str, Any]


class MetricExport:
    """A collector for a thread of its own: it waits for the network."""

    name = "metric export"

    def __init__(
        self, home: Home, sender: OtlpSender, tally: Tally, *, every_s: float = EVERY_S
    ) -> None:
        self._home = home
        self._delivery = Delivery(sender, tally, "metrics")
        self._every_s = every_s
        self._sent_ms = 0

    def collect(self, now_ms: int) -> None:  # noqa: ARG002 - the points have a time of their own
        """Send what was seen last. Raises OSError, SettingInvalid."""
        if not self._delivery.is_due:
            return
        self._delivery.wait(self._every_s)
        figures = read_figures(self._home)
        if figures.looked_ms == self._sent_ms:
            return
        body = metrics(figures)
        if self._delivery.deliver(body, _count(body)):
            self._sent_ms = figures.looked_ms


def metrics(figures: Figures) -> Json:
    """The body of a request to ``/v1/metrics``."""
    families = [*of_none(figures), *of_deployments(figures.deployments)]
    at = otlp.nanoseconds(figures.looked_ms)
    scope = {
        "scope": {"name": otlp.SCOPE},
        "metrics": [_metric(family, at) for family in families if family.samples],
    }
    return {"resourceMetrics": [{"resource": otlp.resource(), "scopeMetrics": [scope]}]}


def _metric(family: Metric, at: str) -> Json:
    named = {"name": family.name, "description": family.documentation}
    if family.type == "histogram":
        points = list(_histograms(family.samples, at))
        return {**named, "histogram": {"dataPoints": points, **_SUMMED}}
    points = [
        {"timeUnixNano": at, "asDouble": float(each.value), "attributes": _attributes(each)}
        for each in family.samples
    ]
    if family.type == "counter":
        return {**named, "sum": {"dataPoints": points, "isMonotonic": True, **_SUMMED}}
    return {**named, "gauge": {"dataPoints": points}}


_SUMMED = {"aggregationTemporality": CUMULATIVE}


def _histograms(samples: Iterable[Sample], at: str) -> Iterator[Json]:
    """Buckets come in their order, then the count and the sum; there the counts are cumulative."""
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
    named = {"deployment": "havre.deployment.id"}
    return otlp.attribute_list(
        {named.get(name, name): value for name, value in sample.labels.items()}
    )


def _count(body: Json) -> int:
    [of_resource] = body["resourceMetrics"]
    found = of_resource["scopeMetrics"][0]["metrics"]
    return sum(len(_data(each)["dataPoints"]) for each in found)


def _data(metric: Json) -> Json:
    found: Json = metric.get("histogram") or metric.get("sum") or metric["gauge"]
    return found
