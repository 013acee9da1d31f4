"""Metrics from the access log's entries and from instances: counted once, kept, made coarser."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.telemetry.files.test_log_reader import DEPLOYMENT, line

from havre import durable
from havre.balancer.envoy.files import Files
from havre.balancer.envoy.table import RoutingTable
from havre.domain.logs import Category
from havre.domain.route import Route
from havre.engines.instance_reader import InstanceReading
from havre.home import Home
from havre.queries.mql_eval import Windows, evaluate
from havre.queries.mql_parser import Selection, parse
from havre.telemetry.counters import Counter, Counters
from havre.telemetry.files.duck import connect
from havre.telemetry.files.schema import select_json
from havre.telemetry.metrics.collector import MetricsCollector
from havre.telemetry.metrics.figures import (
    DeploymentFigures,
    Figures,
    read_figures,
    state_file,
)
from havre.telemetry.metrics.instances import Instances, InstanceSample
from havre.telemetry.metrics.points import MetricPoint, PointFiles, live_file, points_folder
from havre.telemetry.metrics.store import MetricStore

BEGAN = 1_795_600_800_000  # 2026-11-25T10:00:00Z
DAY = 24 * 3_600_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    route = Route(DEPLOYMENT, "r1", (), 128, bandwidth_mbps=8)
    files = Files(home)
    files.write(files.routing_table, RoutingTable({DEPLOYMENT: route}).to_json())
    return home


@pytest.fixture
def store(home: Home) -> Iterator[MetricStore]:
    store = MetricStore(home)
    yield store
    store.close()


class FewInstances(Instances):
    """With the answers of keepers that are not there."""

    looked: tuple[InstanceSample, ...] = ()

    def sample(self) -> list[InstanceSample]:
        return list(self.looked)


@pytest.fixture
def instances(monkeypatch: pytest.MonkeyPatch) -> type[FewInstances]:
    monkeypatch.setattr("havre.telemetry.metrics.collector.Instances", FewInstances)
    monkeypatch.setattr(FewInstances, "looked", ())
    return FewInstances


def observe(collector: MetricsCollector, home: Home, number: int, *lines: dict[str, Any]) -> None:
    closed = home.logs / "closed.jsonl"
    closed.write_text("".join(json.dumps(each) + "\n" for each in lines))
    connection = connect()
    connection.execute(f"CREATE TABLE batch AS {select_json(Category.ACCESS, [closed])}")
    collector.observe(connection, category=Category.ACCESS, number=number)


def values(store: MetricStore, text: str, *, start: int = BEGAN, end: int = BEGAN + 60_000) -> Any:
    """By the dimensions beside the deployment's, at each minute."""

    def source(selection: Selection, from_ms: int, to_ms: int) -> Any:
        return store.streams(selection, from_ms, to_ms, deployments=None)

    found = evaluate(parse(text), Windows(start, end, 60_000), source)
    return {
        tuple(sorted(set(each.dimensions.values()) - {DEPLOYMENT})): list(each.values.values())
        for each in found
    }


def test_requests_become_counts_and_points(
    home: Home, store: MetricStore, instances: type[FewInstances]
) -> None:
    collector = MetricsCollector(home, Counters())
    collector.collect(BEGAN)
    observe(
        collector,
        home,
        1,
        *(
            line(number, total_ms=10, bytes_in=100_000, held_ms=5 if number < 3 else None)
            for number in range(1, 10)
        ),
        line(11, status=500, total_ms=200),
        line(12, status=0, copy=None, flags="RL"),
        line(
            13, status=404, deployment=None, path="/ocid1.datasciencemodeldeployment.oc1..x/predict"
        ),
    )
    figures = read_figures(home)
    of_it = figures.deployments[DEPLOYMENT]
    assert of_it.requests == {"2xx": 9, "3xx": 0, "4xx": 0, "5xx": 1, "none": 1}
    assert (of_it.latency.count, of_it.latency.total_s) == (11, pytest.approx(0.302))
    assert of_it.bytes_in == 900_100
    assert of_it.held == 3
    assert (of_it.model_latency.count, of_it.model_latency.total_s) == (9, pytest.approx(0.0819))
    assert figures.unrouted == 1
    home.access_log.write_text("{}")  # more is on the way
    collector.collect(BEGAN + 20_000)
    assert values(store, "PredictRequestCount[1m].sum()") == {}
    home.access_log.unlink()
    collector.collect(BEGAN + 61_000)
    assert values(store, "PredictRequestCount[1m].sum()") == {(): [11.0]}
    assert values(store, "PredictRequestCount[1m].count()") == {(): [6.0]}  # silent periods, too
    assert values(store, "PredictResponse[1m].sum()") == {
        ("200", "2XX", "Success"): [9.0],
        ("500", "5XX", "Failure"): [1.0],
        ("0", "4XX", "Failure"): [1.0],
    }
    assert values(store, "PredictLatency[1m].mean()") == {
        ("Success",): [pytest.approx(10)],
        ("Failure",): [pytest.approx(106)],
    }
    assert values(store, "PredictLatency[1m].grouping().percentile(0.99)") == {(): [200.0]}
    assert values(store, "PredictHeldBack[1m].sum()") == {(): [3.0]}
    assert values(store, "ModelLatency[1m].mean()") == {(): [pytest.approx(9.1)]}
    assert values(store, "ModelLatency[1m].count()") == {(): [9.0]}
    assert values(store, "PredictBandwidth[1m].max()") == {(): [pytest.approx(9.0)]}
    assert values(store, "NetworkBytes[1m].max()") == {
        ("8b1f0c7a55d2", "BytesIn"): [pytest.approx(90_000)],
        ("8b1f0c7a55d2", "BytesOut"): [pytest.approx(63)],
    }


def test_a_file_that_comes_again_is_counted_once_and_nothing_falls_in_a_restart(
    home: Home, store: MetricStore, instances: type[FewInstances]
) -> None:
    collector = MetricsCollector(home, Counters())
    collector.collect(BEGAN)
    observe(collector, home, 1, line(1), line(2))
    observe(collector, home, 1, line(1), line(2))
    again = MetricsCollector(home, Counters())
    observe(again, home, 1, line(1), line(2))
    observe(again, home, 3, line(4))
    observe(again, home, 2, line(3))  # it could not be converted before
    assert read_figures(home).deployments[DEPLOYMENT].requests["2xx"] == 4
    again.collect(BEGAN + 60_000)
    assert values(store, "PredictRequestCount[1m].sum()") == {(): [4.0]}


def test_what_cannot_be_written_down_is_when_the_file_comes_again(
    home: Home, instances: type[FewInstances], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    collector = MetricsCollector(home, Counters())
    collector.collect(BEGAN)
    with monkeypatch.context() as patched:
        patched.setattr(durable, "write_file", is_full)
        with pytest.raises(OSError, match="no space"):
            observe(collector, home, 1, line(1))
    assert read_figures(home).deployments[DEPLOYMENT].requests["2xx"] == 0
    observe(collector, home, 1, line(1))
    assert read_figures(home).deployments[DEPLOYMENT].requests["2xx"] == 1


def test_points_of_a_step_that_did_not_end_are_taken_back(
    home: Home, store: MetricStore, instances: type[FewInstances]
) -> None:
    collector = MetricsCollector(home, Counters())
    collector.collect(BEGAN)
    observe(collector, home, 1, line(1))
    before = state_file(home).read_bytes()
    collector.collect(BEGAN + 60_000)
    state_file(home).write_bytes(before)  # killed just before it was replaced
    live = live_file(points_folder(home))
    live.write_bytes(live.read_bytes() + b'{"time":')
    again = MetricsCollector(home, Counters())
    again.collect(BEGAN + 60_000)
    assert values(store, "PredictRequestCount[1m].sum()") == {(): [1.0]}


def test_figures_are_stored_under_the_keys_of_earlier_versions() -> None:
    figures = Figures(BEGAN, deployments={DEPLOYMENT: DeploymentFigures(observed_ms=BEGAN)})
    stored = json.loads(json.dumps(figures.to_json()))
    assert stored["looked_ms"] == stored["deployments"][DEPLOYMENT]["seen_ms"] == BEGAN
    assert Figures.from_json(stored) == figures


def test_what_another_version_wrote_is_begun_anew(
    home: Home, instances: type[FewInstances]
) -> None:
    state_file(home).parent.mkdir()
    state_file(home).write_text('{"figures": {}}')
    assert read_figures(home).deployments == {}
    counters = Counters()
    for name, number in ((Counter.LOST, 2), (Counter.DROPPED, 3), (Counter.WRITE_FAILURES, 4)):
        counters.add(name, Category.ACCESS, number)
    collector = MetricsCollector(home, counters)
    collector.collect(BEGAN)
    figures = read_figures(home)
    assert figures.collected_ms == BEGAN
    assert figures.counters == {
        "lost": {"access": 2},
        "dropped": {"access": 3},
        "write_failures": {"access": 4},
    }


def instance(name: str, **of_it: Any) -> InstanceSample:
    state = InstanceReading(
        DEPLOYMENT,
        copies=2,
        ready=2,
        busy=of_it.get("busy", 0),
        restarts=of_it.get("restarts", 0),
        shared_bytes=0,
        copy_bytes=0,
    )
    return InstanceSample(
        name,
        DEPLOYMENT,
        copies=2,
        state=state,
        waiting=of_it.get("waiting", 0),
        cpu_s=of_it.get("cpu_s", 0.0),
        cpus=2.0,
        memory_bytes=1 << 20,
        memory_limit_bytes=1 << 22,
    )


def test_instances_come_and_go_and_no_count_falls(
    home: Home, store: MetricStore, instances: type[FewInstances]
) -> None:
    collector = MetricsCollector(home, Counters())
    instances.looked = (instance("a", restarts=1, cpu_s=10),)
    collector.collect(BEGAN)
    instances.looked = (
        instance("a", restarts=3, cpu_s=14, busy=2, waiting=3),
        instance("b", cpu_s=1),
    )
    collector.collect(BEGAN + 10_000)
    instances.looked = (instance("b", cpu_s=2),)
    collector.collect(BEGAN + 20_000)
    of_it = read_figures(home).deployments[DEPLOYMENT]
    assert (of_it.restarts, of_it.cpu_s) == (3, 16)
    assert (of_it.instances, of_it.copies, of_it.ready, of_it.waiting) == (1, 2, 2, 0)
    assert values(store, "CopiesReady[1m].max()") == {(): [4.0]}
    assert values(store, "CopiesBusy[1m].max()") == {(): [2.0]}
    assert values(store, "QueueDepth[1m].max()") == {(): [3.0]}
    assert values(store, "CopiesRestarted[1m].sum()") == {(): [3.0]}
    assert values(store, "CpuUtilization[1m].max()") == {
        ("a",): [pytest.approx(20.0)],
        ("b",): [pytest.approx(5.0)],
    }
    assert values(store, "MemoryUtilization[1m].mean()") == {("a",): [25.0], ("b",): [25.0]}


def test_a_deployment_that_is_gone_is_forgotten_after_a_day(
    home: Home, instances: type[FewInstances]
) -> None:
    collector = MetricsCollector(home, Counters())
    collector.collect(BEGAN)
    files = Files(home)
    files.write(files.routing_table, RoutingTable().to_json())
    collector.collect(BEGAN + DAY)
    assert DEPLOYMENT in read_figures(home).deployments
    collector.collect(BEGAN + DAY + 10_000)
    assert read_figures(home).deployments == {}


def test_points_move_from_file_to_file_and_stay_the_same(home: Home, store: MetricStore) -> None:
    files = PointFiles(home)
    files.truncate(0)
    asked: list[tuple[float, float, float]] = []
    for number in range(3):  # a file each
        files.append(
            MetricPoint(
                BEGAN + (number * 60 + second) * 1000,
                name,
                {"resourceId": DEPLOYMENT},
                value,
                times,
            )
            for second in range(0, 60, 10)
            for name, value, times in (
                ("PredictRequestCount", number + second / 10, 1),
                ("PredictLatency", 5.0, 99),
                ("PredictLatency", 600.0 + second, 1),
            )
        )
        now = BEGAN + number * 700_000
        files.close_live(now)  # it sees that something is there
        assert files.close_live(now + 600_000)
        asked.append(_asked(store))
        files.maintain(now + 600_000)
        assert _asked(store) == asked[-1]
    before = _asked(store)
    assert len(list(files.folder.glob("*.parquet"))) == 3
    files.maintain(BEGAN + DAY)
    assert len(list(files.folder.glob("*.parquet"))) == 3
    files.maintain(BEGAN + 3 * DAY)
    assert len(list(files.folder.glob("*.parquet"))) == 1
    assert _asked(store) == before
    rows = store.streams(_selection(), 0, 2**53, deployments=[DEPLOYMENT])
    assert len(rows[0].points) == 6, "two buckets for each of three minutes"
    assert store.streams(_selection(), 0, 2**53, deployments=[]) == []
    files.maintain(BEGAN + 16 * DAY)
    assert list(files.folder.glob("*.parquet")) == []


def _selection() -> Selection:
    selection = parse("PredictLatency[1m].sum()")
    assert isinstance(selection, Selection)
    return selection


def _asked(store: MetricStore) -> tuple[float, ...]:
    def one(text: str) -> float:
        ((value,),) = values(store, text, end=BEGAN + 1, start=BEGAN).values() or ((0.0,),)
        return float(value)

    return (
        one("PredictRequestCount[10m].sum()"),
        one("PredictLatency[10m].mean()"),
        one("PredictLatency[10m].count()"),
        one("PredictLatency[10m].percentile(0.5)"),
    )


def test_a_segment_that_is_not_whole_counts_for_nothing(home: Home, store: MetricStore) -> None:
    files = PointFiles(home)
    files.truncate(0)
    files.append([MetricPoint(BEGAN, "PredictLatency", {"resourceId": DEPLOYMENT}, 5.0, 2)])
    files.close_live(BEGAN)
    assert files.close_live(BEGAN + 600_000)
    (closed,) = files.folder.glob("closed-*.jsonl")
    content = closed.read_bytes()
    files.maintain(BEGAN + 600_000)
    closed.write_bytes(content)  # killed before it was removed
    assert values(store, "PredictLatency[1m].count()") == {(): [2.0]}
    files.maintain(BEGAN + 600_000)
    assert values(store, "PredictLatency[1m].count()") == {(): [2.0]}
    assert not list(files.folder.glob("closed-*"))
