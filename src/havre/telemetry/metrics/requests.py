"""Requests, counted from the access log's entries as these are collected."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from havre.domain import metrics
from havre.domain.latency import BOUNDS_S, BUCKETS, Latency
from havre.domain.metrics import NetworkType, Result
from havre.domain.mql import PERIOD_S
from havre.telemetry.metrics.figures import FAMILIES, DeploymentFigures
from havre.telemetry.metrics.points import MetricPoint

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PERIOD_MS = PERIOD_S * 1000
_FIRST_MS = BOUNDS_S[0] * 1000

# By the moment at which a request ended, so that what comes late is not of long ago. A bucket is
# that of `BOUNDS_S`, each of which is the square root of two times the one before.
_COUNT = f"""
    SELECT ingested - ingested % {PERIOD_MS} AS period, deployment, coalesce(instance, ''),
           coalesce(status, 0),
           least({BUCKETS - 1}, greatest(0, CAST(ceil(
               2 * log2(greatest(coalesce(total_ms, 0), 1e-6) / {_FIRST_MS})) AS INTEGER))),
           count(*), sum(coalesce(total_ms, 0)),
           CAST(sum(coalesce(bytes_in, 0)) AS BIGINT), CAST(sum(coalesce(bytes_out, 0)) AS BIGINT)
    FROM batch GROUP BY ALL
"""


class Counted(NamedTuple):
    """Requests that have all of this in common. ``period`` is its beginning, epoch ms."""

    period: int
    deployment: str
    instance: str
    status: int
    bucket: int
    requests: int
    total_ms: float
    bytes_in: int
    bytes_out: int

    @property
    def result(self) -> Result:
        return Result.SUCCESS if 200 <= self.status < 400 else Result.FAILURE


def count(connection: "DuckDBPyConnection") -> list[Counted]:
    """What is in the table ``batch``. Raises duckdb.Error."""
    return [Counted(*row) for row in connection.execute(_COUNT).fetchall()]


def add(figures: DeploymentFigures, counted: Counted) -> None:
    family = f"{counted.status // 100}xx"
    figures.requests[family if family in FAMILIES else "none"] += counted.requests
    buckets = [0] * BUCKETS
    buckets[counted.bucket] = counted.requests
    figures.latency = figures.latency.plus(Latency(tuple(buckets), counted.total_ms / 1000))
    figures.bytes_in += counted.bytes_in
    figures.bytes_out += counted.bytes_out


def points(
    period: int, deployment: str, of_it: Iterable[Counted], *, bandwidth_mbps: int
) -> list[MetricPoint]:
    """What Monitoring is told of one deployment's requests in a period; of none, that there were
    none.
    """
    counted = list(of_it)
    responses: defaultdict[int, int] = defaultdict(int)
    latencies: defaultdict[tuple[Result, int], list[float]] = defaultdict(lambda: [0, 0.0])
    network: defaultdict[tuple[str, NetworkType], int] = defaultdict(int)
    total: defaultdict[NetworkType, int] = defaultdict(int)
    for each in counted:
        responses[each.status] += each.requests
        latency = latencies[each.result, each.bucket]
        latency[0] += each.requests
        latency[1] += each.total_ms
        for direction, size in ((NetworkType.IN, each.bytes_in), (NetworkType.OUT, each.bytes_out)):
            total[direction] += size
            if each.instance:
                network[each.instance, direction] += size
    found = [_point(period, metrics.REQUESTS, deployment, sum(responses.values()))]
    for status, number in responses.items():
        found.append(_point(period, metrics.RESPONSES, deployment, number, **_outcome(status)))
    for (result, _), (times, took_ms) in latencies.items():
        dimensions = {metrics.RESULT: str(result)}
        mean = _point(period, metrics.LATENCY, deployment, took_ms / times, **dimensions)
        found.append(mean._replace(times=int(times)))
    if bandwidth_mbps:
        provisioned = bandwidth_mbps * 1_000_000 / 8 * PERIOD_S
        share = 100 * max(total.values(), default=0) / provisioned
        found.append(_point(period, metrics.BANDWIDTH, deployment, share))
    for (instance, direction), size in network.items():
        dimensions = {metrics.INSTANCE: instance, metrics.NETWORK_TYPE: str(direction)}
        found.append(_point(period, metrics.NETWORK, deployment, size / PERIOD_S, **dimensions))
    return found


def _outcome(status: int) -> dict[str, str]:
    result = Result.SUCCESS if 200 <= status < 400 else Result.FAILURE
    # Status 0 is the client's own doing.
    family = f"{status // 100 or 4}XX"
    return {
        metrics.STATUS_CODE: str(status),
        metrics.RESULT: str(result),
        metrics.STATUS_FAMILY: family,
    }


def _point(
    period: int, metric: metrics.Metric, deployment: str, value: float, **dimensions: str
) -> MetricPoint:
    return MetricPoint(period, metric.name, {metrics.RESOURCE: deployment, **dimensions}, value)
