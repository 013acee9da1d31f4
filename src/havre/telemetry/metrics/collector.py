"""The collector of metrics: it looks every ten seconds, and counts requests as they are collected.

Everything it knows is in one file, which is replaced at each step; points that were appended
without that step having come to its end are taken back. So a process that is killed goes on where
it was: no request is counted twice, and no count falls.
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
from havre.telemetry import layout
from havre.telemetry.collecting import Tally
from havre.telemetry.layout import Kind
from havre.telemetry.metrics import requests
from havre.telemetry.metrics.figures import DeploymentFigures, Figures, state_file
from havre.telemetry.metrics.instances import Instance, Instances
from havre.telemetry.metrics.points import MetricPoint, PointFiles
from havre.telemetry.metrics.requests import PERIOD_MS, Called, Counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LATEST_MS = 20_000
"""By then a request has been counted: its entry is for 17 s at most on the way
(``havre.telemetry.access_log``)."""
WRITTEN_MS = 1000
"""By then the load balancer has written its entry."""
LONGEST_GAP_MS = 3_600_000
"""For how long it is told afterwards that nothing was asked while nobody looked."""
REMEMBERED_MS = 24 * 3_600_000
"""A deployment without a route or an instance keeps its counts for so long."""
MOST_NUMBERS = 4096

Row = TypeVar("Row", Counted, Called)


class MetricsCollector:
    """A `havre.telemetry.collecting.Collector`, and the `Observer` of the access log."""

    name = "metrics"

    def __init__(self, home: Home, tally: Tally) -> None:
        self._home = home
        self._file = state_file(home)
        self._tally = tally
        self._points = PointFiles(home)
        self._instances = Instances(home)
        self._due_ms = 0
        self._has_begun = False
        self._is_written = False  # what is known is in the file
        self._figures = Figures()
        self._size = 0  # of the live file, at the last step
        self._told_ms = 0  # periods before it have been told
        self._pending: list[Counted] = []
        self._pending_calls: list[Called] = []
        self._counted: list[int] = []  # numbers of closed files
        self._last: dict[str, tuple[int, float]] = {}  # restarts and CPU of each instance

    def observe(
        self,
        connection: "DuckDBPyConnection",
        *,
        category: Kind,
        source: str,  # noqa: ARG002 - there is one access log
        number: int,
    ) -> None:
        """Count the requests in a closed file. Raises OSError and duckdb.Error."""
        if category is not Category.ACCESS:
            return
        self._begin()
        if number in self._counted:
            if not self._is_written:
                self._write()  # it failed before
            return
        known = self._figures.deployments
        with suppress(Unavailable):  # the entries must not wait for the routes
            for deployment in self._instances.routes():
                known.setdefault(deployment, DeploymentFigures())
        for counted in requests.count(connection):
            if counted.deployment in known:
                requests.add(known[counted.deployment], counted)
                self._pending.append(counted)
            else:
                self._figures.unrouted += counted.requests
        for called in requests.count_calls(connection):
            if called.deployment in known:
                requests.add_call(known[called.deployment], called)
                self._pending_calls.append(called)
        self._counted = [*self._counted, number][-MOST_NUMBERS:]
        self._write()

    def collect(self, now_ms: int) -> None:
        """Look, if it is time to. Raises OSError, Unavailable, duckdb.Error."""
        if self._due_ms - PERIOD_MS <= now_ms < self._due_ms:
            return  # else it is due, or the clock was set back
        self._begin()
        period = now_ms - now_ms % PERIOD_MS
        self._due_ms = period + PERIOD_MS
        routes = self._instances.routes()
        looked = self._instances.look()
        self._see(now_ms, {key: route.bandwidth_mbps for key, route in routes.items()}, looked)
        points = [*self._of_instances(period, now_ms, looked), *self._of_requests(now_ms)]
        self._figures.looked_ms = now_ms
        self._figures.failed_writes = self._tally["failed_writes", Category.ACCESS]
        self._figures.lost = {
            str(each): self._tally["lost", each] + self._tally["dropped", each] for each in Category
        }
        self._points.go_back(self._size)
        self._points.append(points)
        self._size = self._points.size
        self._write()
        if self._points.close_live(now_ms):
            self._size = 0
            self._write()
        self._points.maintain(now_ms)

    # A look.

    def _see(self, now_ms: int, bandwidths: dict[str, int], looked: Iterable[Instance]) -> None:
        deployments = self._figures.deployments
        for figures in deployments.values():
            figures.forget_now()
        for deployment, bandwidth in bandwidths.items():
            figures = deployments.setdefault(deployment, DeploymentFigures())
            figures.seen_ms, figures.bandwidth_mbps = now_ms, bandwidth
        for each in looked:
            figures = deployments.setdefault(each.deployment, DeploymentFigures())
            figures.seen_ms = now_ms
            figures.instances += 1
            figures.copies += each.copies
            figures.ready += each.state.ready
            figures.busy += each.state.busy
            figures.waiting += each.waiting
            figures.memory_bytes += each.memory_bytes
            figures.memory_limit_bytes += each.memory_limit_bytes
            figures.cpus += each.cpus
        for deployment in [
            key
            for key, figures in deployments.items()
            if figures.seen_ms < now_ms - REMEMBERED_MS and figures.seen_ms
        ]:
            del deployments[deployment]

    def _of_instances(
        self, period: int, now_ms: int, looked: Iterable[Instance]
    ) -> list[MetricPoint]:
        points: list[MetricPoint] = []
        restarted: dict[str, int] = {}
        last: dict[str, tuple[int, float]] = {}
        took_s = (now_ms - self._figures.looked_ms) / 1000
        for each in looked:
            figures = self._figures.deployments[each.deployment]
            restarts, cpu_s = self._last.get(each.id, (0, 0.0))
            now = each.state.restarts
            more = now - restarts if now >= restarts else now  # a keeper may have begun anew
            spent_s = max(0.0, each.cpu_s - cpu_s)
            figures.restarts += more
            figures.cpu_s += spent_s
            restarted[each.deployment] = restarted.get(each.deployment, 0) + more
            last[each.id] = each.state.restarts, each.cpu_s
            of_it = {metrics.RESOURCE: each.deployment, metrics.INSTANCE: each.id}
            if each.cpus and each.id in self._last and took_s > 0:
                share = 100 * spent_s / took_s / each.cpus
                points.append(MetricPoint(period, metrics.CPU.name, of_it, share))
            if each.memory_limit_bytes:
                share = 100 * each.memory_bytes / each.memory_limit_bytes
                points.append(MetricPoint(period, metrics.MEMORY.name, of_it, share))
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

    def _of_requests(self, now_ms: int) -> list[MetricPoint]:
        """Of the periods whose requests have all been counted; what comes later is told then."""
        until = self._collected_until(now_ms) // PERIOD_MS * PERIOD_MS
        first = max(self._told_ms or until - PERIOD_MS, until - LONGEST_GAP_MS)
        counted, self._pending = _ripe(self._pending, until)
        called, self._pending_calls = _ripe(self._pending_calls, until)
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
        self._told_ms = max(until, self._told_ms)
        return points

    def _collected_until(self, now_ms: int) -> int:
        """All requests that ended before have been counted."""
        live = layout.live_access(self._home)
        closed = layout.closed_files(layout.closed_folder(self._home, Category.ACCESS, ""))
        if not closed and not layout.size(live):
            return now_ms - WRITTEN_MS
        return max(now_ms - LATEST_MS, max(self._counted, default=0) - WRITTEN_MS)

    # The file.

    def _write(self) -> None:
        state = {
            "figures": self._figures.to_json(),
            "size": self._size,
            "told_ms": self._told_ms,
            "pending": self._pending,
            "pending_calls": self._pending_calls,
            "counted": self._counted,
            "last": self._last,
        }
        self._is_written = False
        durable.write_file(self._file, json.dumps(state, separators=(",", ":")).encode())
        self._is_written = True

    def _begin(self) -> None:
        """Go on from the last step; from nothing where none can be read. Raises OSError."""
        if self._has_begun:
            return
        durable.make_folder(self._file.parent)
        state = _stored(self._file.read_bytes()) if self._file.exists() else None
        if state is not None:
            self._figures, self._size = state["figures"], state["size"]
            self._told_ms, self._counted = state["told_ms"], state["counted"]
            self._pending, self._pending_calls = state["pending"], state["pending_calls"]
            self._last = state["last"]
        else:
            self._size = self._points.size
        self._points.go_back(self._size)
        self._size = self._points.size
        self._write()
        self._has_begun = True


def _stored(content: bytes) -> dict[str, Any] | None:
    """None for what another version wrote."""
    try:
        state = json.loads(content)
        return {
            "figures": Figures.from_json(state["figures"]),
            "size": int(state["size"]),
            "told_ms": int(state["told_ms"]),
            "counted": [int(number) for number in state["counted"]],
            "pending": [Counted(*row) for row in state["pending"]],
            "pending_calls": [Called(*row) for row in state["pending_calls"]],
            "last": {
                key: (int(restarts), float(cpu_s))
                for key, (restarts, cpu_s) in state["last"].items()
            },
        }
    except (ValueError, KeyError, TypeError):
        return None


def _ripe(pending: list[Row], until: int) -> tuple[dict[tuple[int, str], list[Row]], list[Row]]:
    """Those of periods before ``until``, by period and deployment; and the rest."""
    ripe: dict[tuple[int, str], list[Row]] = {}
    rest = []
    for row in pending:
        if row.period < until:
            ripe.setdefault((row.period, row.deployment), []).append(row)
        else:
            rest.append(row)
    return ripe, rest
