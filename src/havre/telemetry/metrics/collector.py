"""The collector of metrics: samples instances every ten seconds, and counts collected requests.

Its whole state is in one file, which is replaced at each step; points that a step appended before
it was interrupted are removed again. So a process that is killed resumes where it was: no request
is counted twice, and no count falls.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from havre import durable
from havre.domain import metrics
from havre.domain.errors import Unavailable
from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry.counters import Counters
from havre.telemetry.files import layout
from havre.telemetry.files.layout import EntryKind
from havre.telemetry.files.listing import Listing
from havre.telemetry.metrics import requests
from havre.telemetry.metrics.figures import DeploymentFigures, Figures, state_file
from havre.telemetry.metrics.instances import Instances, InstanceSample
from havre.telemetry.metrics.points import MetricPoint, PointFiles
from havre.telemetry.metrics.requests import PERIOD_MS, CallGroup, RequestGroup

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LATEST_MS = 20_000
"""After this time a request has been counted: its entry takes 17 s at most
(``logs/access_log.py``)."""
WRITTEN_MS = 1000
"""After this time the load balancer has written its entry."""
MAX_GAP_MS = 3_600_000
"""After a gap in collection, points without requests are made up for at most so long."""
REMEMBERED_MS = 24 * 3_600_000
"""How long a deployment without a route or an instance keeps its counts."""
MAX_NUMBERS = 4096

Row = TypeVar("Row", RequestGroup, CallGroup)


class MetricsCollector:
    """A `havre.telemetry.loop.Collector`, and the `Observer` of the access log."""

    name = "metrics"

    def __init__(self, home: Home, counters: Counters) -> None:
        self._home = home
        self._file = state_file(home)
        self._counters = counters
        self._points = PointFiles(home)
        self._closed = layout.closed_folder(home, Category.ACCESS, "")
        self._listing = Listing(self._closed)
        self._instances = Instances(home)
        self._due_ms = 0
        self._has_resumed = False
        self._is_written = False  # the state is in the file
        self._figures = Figures()
        self._size = 0  # of the live file, at the last step
        self._reported_ms = 0  # periods before it have been reported
        self._pending: list[RequestGroup] = []
        self._pending_calls: list[CallGroup] = []
        self._counted: list[int] = []  # numbers of closed files
        self._last: dict[str, tuple[int, float]] = {}  # restarts and CPU of each instance

    def observe(
        self,
        connection: "DuckDBPyConnection",
        *,
        category: EntryKind,
        number: int,
    ) -> None:
        """Count the requests in a closed file. Raises OSError and duckdb.Error."""
        if category is not Category.ACCESS:
            return
        self._resume()
        if number in self._counted:
            if not self._is_written:
                self._write()  # the last write failed
            return
        known = self._figures.deployments
        with suppress(Unavailable):  # entries must not wait for routes
            for deployment in self._instances.routes():
                known.setdefault(deployment, DeploymentFigures())
        for group in requests.count(connection):
            if group.deployment in known:
                requests.add(known[group.deployment], group)
                self._pending.append(group)
            else:
                self._figures.unrouted += group.requests
        for calls in requests.count_calls(connection):
            if calls.deployment in known:
                requests.add_call(known[calls.deployment], calls)
                self._pending_calls.append(calls)
        self._counted = [*self._counted, number][-MAX_NUMBERS:]
        self._write()

    def collect(self, now_ms: int) -> None:
        """Collect, if it is time to. Raises OSError, Unavailable, duckdb.Error."""
        if self._due_ms - PERIOD_MS <= now_ms < self._due_ms:
            return  # otherwise it is due, or the clock was set back
        self._resume()
        period = now_ms - now_ms % PERIOD_MS
        self._due_ms = period + PERIOD_MS
        routes = self._instances.routes()
        samples = self._instances.sample()
        self._update_gauges(
            now_ms, {key: route.bandwidth_mbps for key, route in routes.items()}, samples
        )
        points = [*self._instance_points(period, now_ms, samples), *self._request_points(now_ms)]
        self._figures.collected_ms = now_ms
        self._figures.counters = self._counters.to_json()
        self._points.truncate(self._size)
        self._points.append(points)
        self._size = self._points.size
        self._write()
        if self._points.close_live(now_ms):
            self._size = 0
            self._write()
        self._points.maintain(now_ms)

    # One collection.

    def _update_gauges(
        self, now_ms: int, bandwidths: dict[str, int], samples: Iterable[InstanceSample]
    ) -> None:
        deployments = self._figures.deployments
        for figures in deployments.values():
            figures.reset_gauges()
        for deployment, bandwidth in bandwidths.items():
            figures = deployments.setdefault(deployment, DeploymentFigures())
            figures.observed_ms, figures.bandwidth_mbps = now_ms, bandwidth
        for sample in samples:
            figures = deployments.setdefault(sample.deployment, DeploymentFigures())
            figures.observed_ms = now_ms
            figures.instances += 1
            figures.copies += sample.copies
            figures.ready += sample.state.ready
            figures.busy += sample.state.busy
            figures.waiting += sample.waiting
            figures.memory_bytes += sample.memory_bytes
            figures.memory_limit_bytes += sample.memory_limit_bytes
            figures.cpus += sample.cpus
        for deployment in [
            key
            for key, figures in deployments.items()
            if figures.observed_ms < now_ms - REMEMBERED_MS and figures.observed_ms
        ]:
            del deployments[deployment]

    def _instance_points(
        self, period: int, now_ms: int, samples: Iterable[InstanceSample]
    ) -> list[MetricPoint]:
        points: list[MetricPoint] = []
        restarted: dict[str, int] = {}
        last: dict[str, tuple[int, float]] = {}
        took_s = (now_ms - self._figures.collected_ms) / 1000
        for sample in samples:
            figures = self._figures.deployments[sample.deployment]
            restarts, cpu_s = self._last.get(sample.id, (0, 0.0))
            now = sample.state.restarts
            new = now - restarts if now >= restarts else now  # a keeper may have been restarted
            spent_s = max(0.0, sample.cpu_s - cpu_s)
            figures.restarts += new
            figures.cpu_s += spent_s
            restarted[sample.deployment] = restarted.get(sample.deployment, 0) + new
            last[sample.id] = sample.state.restarts, sample.cpu_s
            dimensions = {metrics.RESOURCE: sample.deployment, metrics.INSTANCE: sample.id}
            if sample.cpus and sample.id in self._last and took_s > 0:
                share = 100 * spent_s / took_s / sample.cpus
                points.append(MetricPoint(period, metrics.CPU.name, dimensions, share))
            if sample.memory_limit_bytes:
                share = 100 * sample.memory_bytes / sample.memory_limit_bytes
                points.append(MetricPoint(period, metrics.MEMORY.name, dimensions, share))
        self._last = last
        for deployment, number in restarted.items():
            figures = self._figures.deployments[deployment]
            dimensions = {metrics.RESOURCE: deployment}
            for metric, value in (
                (metrics.READY, figures.ready),
                (metrics.BUSY, figures.busy),
                (metrics.QUEUE, figures.waiting),
                (metrics.RESTARTED, number),
            ):
                points.append(MetricPoint(period, metric.name, dimensions, value))
        return points

    def _request_points(self, now_ms: int) -> list[MetricPoint]:
        """Of the periods whose requests have all been counted; later periods follow later."""
        until = self._collected_until(now_ms) // PERIOD_MS * PERIOD_MS
        first = max(self._reported_ms or until - PERIOD_MS, until - MAX_GAP_MS)
        counted, self._pending = _due(self._pending, until)
        called, self._pending_calls = _due(self._pending_calls, until)
        silent = {
            (period, deployment)
            for period in range(first, until, PERIOD_MS)
            for deployment, figures in self._figures.deployments.items()
            if figures.bandwidth_mbps
        }
        points: list[MetricPoint] = []
        for key in sorted(silent | counted.keys()):
            figures = self._figures.deployments.get(key[1], DeploymentFigures())
            points += requests.points(
                *key,
                counted.get(key, ()),
                called.get(key, ()),
                bandwidth_mbps=figures.bandwidth_mbps,
            )
        self._reported_ms = max(until, self._reported_ms)
        return points

    def _collected_until(self, now_ms: int) -> int:
        """The moment before which all requests that ended have been counted."""
        live = layout.live_access(self._home)
        closed = layout.closed_files(self._closed, self._listing.files())
        if not closed and not layout.file_size(live):
            return now_ms - WRITTEN_MS
        return max(now_ms - LATEST_MS, max(self._counted, default=0) - WRITTEN_MS)

    # The file.

    def _write(self) -> None:
        state = {
            "figures": self._figures.to_json(),
            "size": self._size,
            "told_ms": self._reported_ms,
            "pending": self._pending,
            "pending_calls": self._pending_calls,
            "counted": self._counted,
            "last": self._last,
        }
        self._is_written = False
        durable.write_file(self._file, json.dumps(state, separators=(",", ":")).encode())
        self._is_written = True

    def _resume(self) -> None:
        """Resume from the last step, or from nothing if it cannot be read. Raises OSError."""
        if self._has_resumed:
            return
        durable.make_folder(self._file.parent)
        state = _read_state(self._file.read_bytes()) if self._file.exists() else None
        if state is not None:
            self._figures, self._size = state["figures"], state["size"]
            self._reported_ms, self._counted = state["told_ms"], state["counted"]
            self._pending, self._pending_calls = state["pending"], state["pending_calls"]
            self._last = state["last"]
        else:
            self._size = self._points.size
        self._points.truncate(self._size)
        self._size = self._points.size
        self._write()
        self._has_resumed = True


def _read_state(content: bytes) -> dict[str, Any] | None:
    """None if another version wrote it."""
    try:
        state = json.loads(content)
        return {
            "figures": Figures.from_json(state["figures"]),
            "size": int(state["size"]),
            "told_ms": int(state["told_ms"]),
            "counted": [int(number) for number in state["counted"]],
            "pending": [RequestGroup(*row) for row in state["pending"]],
            "pending_calls": [CallGroup(*row) for row in state["pending_calls"]],
            "last": {
                key: (int(restarts), float(cpu_s))
                for key, (restarts, cpu_s) in state["last"].items()
            },
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _due(pending: list[Row], until: int) -> tuple[dict[tuple[int, str], list[Row]], list[Row]]:
    """Rows of periods before ``until``, by period and deployment; and the other rows."""
    due: dict[tuple[int, str], list[Row]] = {}
    rest = []
    for row in pending:
        if row.period < until:
            due.setdefault((row.period, row.deployment), []).append(row)
        else:
            rest.append(row)
    return due, rest
