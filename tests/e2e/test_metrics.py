"""Metrics as users ask for them: Prometheus' page, OCI's Monitoring by SDK and CLI, `havre top`."""

import json
import os
import select
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import oci
import pytest
from oci.monitoring import MonitoringClient
from oci.monitoring import models as sdk
from tests.e2e.artifacts import scored
from tests.e2e.havre_server import HAVRE, HavreServer
from tests.e2e.oracle_client import OracleClient, new_model
from tests.e2e.test_cli import OciCli
from tests.support.prometheus_lint import problems, series_of

from havre.domain.metrics import METRICS, NAMESPACE

COUNTED_WITHIN_S = 60.0
SLEEP_S = 0.02
SCORE = f"""
import time

def load_model():
    return 2

def predict(data, model=load_model()):
    if data == "bad":
        raise ValueError("bad")
    time.sleep({SLEEP_S})
    return {{"prediction": [model * number for number in data]}}
"""


def test_what_a_deployment_does_is_seen_in_every_way(oracle: OracleClient) -> None:
    server = oracle.server
    model_id = oracle.save(scored(SCORE))
    deployment_id = oracle.deploy(model_id, copies=2, name="measured")
    assert problems(_page(server)) == []
    before = _own(server, deployment_id)
    assert before["havre_predict_requests_total", "5xx"] == 0
    assert before["havre_model_duration_seconds_count", ""] == 0

    for _ in range(10):
        oracle.predictions.predict(deployment_id, [1])
    with pytest.raises(oci.exceptions.ServiceError):
        oracle.once.predict(deployment_id, '"bad"')
    assert httpx.get(f"{server.url}/{deployment_id}/predict").status_code == 405
    _kill_telemetry(server.home)
    monitoring = Monitoring(oracle)
    of_it = f'{{resourceId = "{deployment_id}"}}'
    # The next one has looked at this instance before it goes.
    _wait(lambda: monitoring.ask(f"MemoryUtilization[1m]{of_it}.max()"))
    assert (
        oracle.update(deployment_id, **new_model(oracle.save(scored(SCORE)))).status == "SUCCEEDED"
    )
    for _ in range(5):
        oracle.predictions.predict(deployment_id, [1])

    _wait(lambda: _own(server, deployment_id)["havre_predict_requests_total", "2xx"] == 15)
    counted = _own(server, deployment_id)
    assert problems(_page(server)) == []
    assert counted.keys() == before.keys(), "every series is there from the start"
    assert counted["havre_predict_requests_total", "5xx"] == 1
    assert counted["havre_predict_requests_total", "4xx"] == 1
    assert counted["havre_predict_duration_seconds_count", ""] == 17
    assert counted["havre_predict_duration_seconds_sum", ""] > 15 * SLEEP_S
    assert counted["havre_model_duration_seconds_count", ""] == 15
    # Those of the old revision count until its instance has gone.
    _wait(lambda: _own(server, deployment_id)["havre_copies_ready", ""] == 2)

    _wait(lambda: sum(monitoring.values(f"PredictRequestCount[1m]{of_it}.sum()")) == 17)
    _assert_told(monitoring, of_it)
    _assert_cli_tells(server, of_it)
    rows = [json.loads(server.havre("top", "--json").stdout)]
    assert [row["state"] for row in rows[0] if row["id"] == deployment_id] == ["ACTIVE"]
    table = server.havre("top", "--once").stdout.splitlines()
    assert table[0].split()[:4] == ["name", "state", "requests/s", "errors"]
    assert any(line.split()[:2] == ["measured", "ACTIVE"] for line in table[1:])
    assert "measured" in _on_a_terminal(server, "top", "--every", "1")
    oracle.delete(deployment_id)
    assert deployment_id not in _page(server)


class Monitoring:
    """OCI's own client for it."""

    def __init__(self, oracle: OracleClient) -> None:
        self.client = MonitoringClient(oracle.config, service_endpoint=oracle.server.url)
        self._compartment_id = oracle.compartment_id

    def ask(self, query: str, **details: Any) -> list[Any]:
        # A window that has only begun is told, too.
        end = datetime.now(UTC) + timedelta(minutes=1)
        answer = self.client.summarize_metrics_data(
            self._compartment_id,
            sdk.SummarizeMetricsDataDetails(
                namespace=NAMESPACE, query=query, end_time=end, **details
            ),
        )
        found: list[Any] = answer.data
        return found

    def values(self, query: str) -> list[float]:
        return [point.value for each in self.ask(query) for point in each.aggregated_datapoints]

    def listed(self, **details: Any) -> list[Any]:
        found: list[Any] = oci.pagination.list_call_get_all_results(
            self.client.list_metrics,
            self._compartment_id,
            sdk.ListMetricsDetails(namespace=NAMESPACE, **details),
            limit=3,
        ).data
        return found


def _assert_told(monitoring: Monitoring, of_it: str) -> None:
    (requests,) = monitoring.ask(f"PredictRequestCount[1m]{of_it}.sum()", resolution="1m")
    assert (requests.namespace, requests.name, requests.resolution) == (
        NAMESPACE,
        "PredictRequestCount",
        "1m",
    )
    assert (requests.metadata, list(requests.dimensions)) == ({"unit": "count"}, ["resourceId"])
    families = {
        each.dimensions["statusFamily"]: sum(point.value for point in each.aggregated_datapoints)
        for each in monitoring.ask(f"PredictResponse[1m]{of_it}.groupBy(statusFamily).sum()")
    }
    assert families == {"2XX": 15, "4XX": 1, "5XX": 1}
    succeeded = of_it.replace("}", ', result =~ "S*"}')
    p50 = monitoring.values(f"PredictLatency[1m]{succeeded}.grouping().percentile(0.5)")
    assert all(value > 1000 * SLEEP_S * 0.8 for value in p50)
    assert p50
    slow = monitoring.values(
        f"PredictLatency[1m]{succeeded}.groupBy(resourceId).mean() > {1000 * SLEEP_S * 0.9} "
        f"&& PredictRequestCount[1m]{of_it}.sum() > 0"
    )
    assert set(slow) == {1.0}
    assert sum(monitoring.values(f"ModelLatency[1m]{of_it}.count()")) == 15
    assert max(monitoring.values(f"CopiesReady[1m]{of_it}.max()")) >= 2
    memory = monitoring.ask(f"MemoryUtilization[1m]{of_it}.max()")
    assert len({each.dimensions["instanceId"] for each in memory}) == 2, "before and after"
    assert set(monitoring.values('CpuUtilization[1m]{resourceId = "x"}.absent()')) == {1.0}
    of_one = {"resourceId": of_it.split('"')[1]}
    names = {each.name for each in monitoring.listed(dimension_filters=of_one)}
    assert names == {metric.name for metric in METRICS} - {"CpuUtilization"} | (
        names & {"CpuUtilization"}  # it needs two looks at one instance
    )
    assert [each.name for each in monitoring.listed(group_by=["namespace"])] == [None]
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        monitoring.ask("PredictLatency[1m].middle()")
    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")
    assert "a statistic" in caught.value.message


def _assert_cli_tells(server: HavreServer, of_it: str) -> None:
    told = OciCli(server).run(
        *("monitoring", "metric-data", "summarize-metrics-data"),
        *("--compartment-id", server.profile["compartment"], "--namespace", NAMESPACE),
        *("--query-text", f"PredictRequestCount[5m]{of_it}.sum()", "--resolution", "5m"),
    )
    (series,) = json.loads(told.stdout)["data"]
    assert series["name"] == "PredictRequestCount"
    assert sum(point["value"] for point in series["aggregated-datapoints"]) <= 17


def _page(server: HavreServer) -> str:
    answer = httpx.get(f"{server.url}/metrics", timeout=60)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.raise_for_status().text


def _own(server: HavreServer, deployment_id: str) -> dict[tuple[str, str], float]:
    """A deployment's series by name and status, buckets left out."""
    return {
        (name, dict(labels).get("code", "")): value
        for (name, labels), value in series_of(_page(server)).items()
        if ("deployment", deployment_id) in labels and not name.endswith("_bucket")
    }


def _on_a_terminal(server: HavreServer, *words: str) -> str:
    """What the command shows until it has shown a whole table; Ctrl-C then ends it."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [HAVRE, *words, "--home", str(server.home)],
        stdout=theirs,
        stderr=theirs,
        env={**server.environment, "TERM": "xterm", "COLUMNS": "160"},
        # A shell lets what it runs in the background ignore Ctrl-C, and so would all below it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + COUNTED_WITHIN_S
        try:
            while b"ACTIVE" not in shown:
                assert time.monotonic() < deadline, shown
                ready, _, _ = select.select([ours], [], [], 1)
                shown += os.read(ours, 65536) if ready else b""
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    os.close(ours)
    return shown.decode()


def _kill_telemetry(home: Path) -> None:
    """The supervisor starts it again."""
    (record,) = home.glob("processes/telemetry.json")
    os.kill(json.loads(record.read_bytes())["identity"]["pid"], signal.SIGKILL)


def _wait(holds: Any) -> None:
    deadline = time.monotonic() + COUNTED_WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, "it was not counted in time"
        time.sleep(0.3)
