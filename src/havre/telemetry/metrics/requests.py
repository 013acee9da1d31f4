"""Counts requests from entries of the access log, as these are collected."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from havre.domain import metrics
from havre.domain.latency import BOUNDS_S, BUCKETS, Latency
from havre.domain.metrics import NetworkType, Result
from havre.queries.mql_parser import PERIOD_S
from havre.telemetry.metrics.figures import FAMILIES, DeploymentFigures
from havre.telemetry.metrics.points import MetricPoint

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PERIOD_MS = PERIOD_S * 1000
_FIRST_MS = BOUNDS_S[0] * 1000


def _bucket(column: str) -> str:
    """Bucket of `BOUNDS_S`, where each bound is the square root of two times the one before."""
    return (
        f"least({BUCKETS - 1}, greatest(0, CAST(ceil("
        f"2 * log2(greatest(coalesce({column}, 0), 1e-6) / {_FIRST_MS})) AS INTEGER)))"
    )


REFUSED = "RL"
"""Envoy's flag of a request that its rate limit refused: the one that holds the bandwidth."""

# By the moment at which a request ended, so that late entries are of a recent period.
_COUNT = f"""
    SELECT ingested - ingested % {PERIOD_MS} AS period, deployment, coalesce(instance, ''),
           coalesce(status, 0), {_bucket("total_ms")}, count(*), sum(coalesce(total_ms, 0)),
           CAST(sum(coalesce(bytes_in, 0)) AS BIGINT), CAST(sum(coalesce(bytes_out, 0)) AS BIGINT),
           count(*) FILTER (held_ms > 0 OR flags = '{REFUSED}')
    FROM batch GROUP BY ALL
"""
_COUNT_CALLS = f"""
    SELECT ingested - ingested % {PERIOD_MS} AS period, deployment, {_bucket("model_ms")},
           count(*), sum(model_ms)
    FROM batch WHERE model_ms IS NOT NULL AND status BETWEEN 200 AND 399 GROUP BY ALL
"""


class RequestGroup(NamedTuple):
    """Requests that have all of this in common. ``period`` is its start, epoch ms."""

    period: int
    deployment: str
    instance: str
    status: int
    bucket: int
    requests: int
    total_ms: float
    bytes_in: int
    bytes_out: int
    held: int

    @property
    def result(self) -> Result:
        return Result.SUCCESS if 200 <= self.status < 400 else Result.FAILURE


class CallGroup(NamedTuple):
    """Calls of ``predict()`` that returned, in one bucket of duration."""

    period: int
    deployment: str
    bucket: int
    calls: int
    model_ms: float


def count(connection: "DuckDBPyConnection") -> list[RequestGroup]:
    """Groups of the requests in the table ``batch``. Raises duckdb.Error."""
    return [RequestGroup(*row) for row in connection.execute(_COUNT).fetchall()]


def count_calls(connection: "DuckDBPyConnection") -> list[CallGroup]:
    """Groups of the calls in it. Raises duckdb.Error."""
    return [CallGroup(*row) for row in connection.execute(_COUNT_CALLS).fetchall()]


def add(figures: DeploymentFigures, group: RequestGroup) -> None:
    family = f"{group.status // 100}xx"
    figures.requests[family if family in FAMILIES else "none"] += group.requests
    figures.latency = _with(figures.latency, group.bucket, group.requests, group.total_ms)
    figures.bytes_in += group.bytes_in
    figures.bytes_out += group.bytes_out
    figures.held += group.held


def add_call(figures: DeploymentFigures, group: CallGroup) -> None:
    figures.model_latency = _with(figures.model_latency, group.bucket, group.calls, group.model_ms)


def points(
    period: int,
    deployment: str,
    request_groups: Sequence[RequestGroup],
    call_groups: Sequence[CallGroup],
    *,
    bandwidth_mbps: int,
) -> list[MetricPoint]:
    """Monitoring's points of one deployment's requests in a period; a count of 0 without any."""
    responses: defaultdict[int, int] = defaultdict(int)
    latencies: defaultdict[tuple[Result, int], list[float]] = defaultdict(lambda: [0, 0.0])
    network: defaultdict[tuple[str, NetworkType], int] = defaultdict(int)
    total: defaultdict[NetworkType, int] = defaultdict(int)
    for row in request_groups:
        responses[row.status] += row.requests
        latency = latencies[row.result, row.bucket]
        latency[0] += row.requests
        latency[1] += row.total_ms
        for direction, size in ((NetworkType.IN, row.bytes_in), (NetworkType.OUT, row.bytes_out)):
            total[direction] += size
            if row.instance:
                network[row.instance, direction] += size
    metric_points = [_point(period, metrics.REQUESTS, deployment, sum(responses.values()))]
    if request_groups:
        held = sum(row.held for row in request_groups)
        metric_points.append(_point(period, metrics.HELD, deployment, held))
    for status, number in responses.items():
        metric_points.append(
            _point(period, metrics.RESPONSES, deployment, number, **_outcome(status))
        )
    for (result, _), (times, took_ms) in latencies.items():
        dimensions = {metrics.RESULT: str(result)}
        mean = _point(period, metrics.LATENCY, deployment, took_ms / times, **dimensions)
        metric_points.append(mean._replace(times=int(times)))
    for call_group in call_groups:
        mean = _point(
            period, metrics.MODEL_LATENCY, deployment, call_group.model_ms / call_group.calls
        )
        metric_points.append(mean._replace(times=call_group.calls))
    if bandwidth_mbps:
        provisioned = bandwidth_mbps * 1_000_000 / 8 * PERIOD_S
        share = 100 * max(total.values(), default=0) / provisioned
        metric_points.append(_point(period, metrics.BANDWIDTH, deployment, share))
    for (instance, direction), size in network.items():
        dimensions = {metrics.INSTANCE: instance, metrics.NETWORK_TYPE: str(direction)}
        metric_points.append(
            _point(period, metrics.NETWORK, deployment, size / PERIOD_S, **dimensions)
        )
    return metric_points


def _with(latency: Latency, bucket: int, number: int, took_ms: float) -> Latency:
    counts = list(latency.counts)
    counts[bucket] += number
    return Latency(tuple(counts), latency.total_s + took_ms / 1000)


def _outcome(status: int) -> dict[str, str]:
    result = Result.SUCCESS if 200 <= status < 400 else Result.FAILURE
    # Status 0: the client closed the connection.
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
