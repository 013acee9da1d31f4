"""Monitoring and Prometheus' page over the API, on both databases; the points are written by hand.

The clock of these tests stands at 2026-03-04 05:06:07.
"""

from datetime import UTC, datetime

import pytest
from tests.support.deployment_api import active, refused
from tests.support.deployment_world import add_model
from tests.support.prometheus_lint import problems, series_of

from havre.domain.metrics import NAMESPACE
from havre.telemetry.metrics.points import MetricPoint, PointFiles

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
SUMMARIZE = "/20180401/metrics/actions/summarizeMetricsData"
LIST = "/20180401/metrics/actions/listMetrics"


@pytest.fixture
def deployment_id(api) -> str:
    return active(api, add_model(api.services), displayName="measured")


@pytest.fixture
def points(api, deployment_id):
    """Two requests a minute for five minutes, and an instance's use of its processor."""
    files = PointFiles(api.services.home)
    files.truncate(0)
    cpu = {"resourceId": deployment_id, "instanceId": "one"}
    for minute in range(5, 0, -1):
        at = NOW_MS - minute * 60_000
        files.append(
            [
                MetricPoint(at, "PredictRequestCount", {"resourceId": deployment_id}, 2),
                MetricPoint(at, "PredictRequestCount", {"resourceId": "ocid1.not.here"}, 5),
                MetricPoint(at + 10_000, "CpuUtilization", cpu, 10 * minute),
            ]
        )


def _summarize(api, query, *, compartment_id=None, in_subtree=None, **body):
    where = {"compartmentId": compartment_id or api.compartment_id}
    if in_subtree is not None:
        where["compartmentIdInSubtree"] = in_subtree
    body = {"namespace": NAMESPACE, "query": query, **body}
    return api.client.post(SUMMARIZE, params=where, json=body)


def test_a_query_is_answered_in_monitorings_form(api, deployment_id, points):
    answer = _summarize(
        api,
        f'PredictRequestCount[5m]{{resourceId = "{deployment_id}"}}.sum()',
        startTime="2026-03-04T05:00:00Z",
        endTime="2026-03-04T05:10:00.000+00:00",
        resolution="5m",
    )
    assert answer.status_code == 200
    assert answer.json() == [
        {
            "namespace": NAMESPACE,
            "resourceGroup": None,
            "compartmentId": api.compartment_id,
            "name": "PredictRequestCount",
            "dimensions": {"resourceId": deployment_id},
            "metadata": {"unit": "count"},
            "resolution": "5m",
            "aggregatedDatapoints": [
                {"timestamp": "2026-03-04T05:00:00.000Z", "value": 8.0},
                {"timestamp": "2026-03-04T05:05:00.000Z", "value": 2.0},
            ],
        }
    ]


def test_the_last_three_hours_by_the_minute_if_nothing_is_said(api, deployment_id, points):
    (series,) = _summarize(api, "CpuUtilization[1m].max() > 20").json()
    assert series["resolution"] == "1m"
    assert [point["value"] for point in series["aggregatedDatapoints"]] == [1, 1, 1, 0, 0]
    (series,) = _summarize(api, "CpuUtilization[10s].max()").json()
    assert (series["resolution"], len(series["aggregatedDatapoints"])) == ("10s", 5)


def test_only_deployments_of_the_compartment_are_told(api, deployment_id, points):
    assert len(_summarize(api, "PredictRequestCount[1m].sum()").json()) == 1
    elsewhere = _summarize(api, "PredictRequestCount[1m].sum()", compartment_id="ocid1.other")
    assert elsewhere.json() == []
    everywhere = _summarize(api, "PredictRequestCount[1m].sum()", in_subtree=True)
    assert [series["dimensions"]["resourceId"] for series in everywhere.json()] == [deployment_id]
    assert _summarize(api, "PredictRequestCount[1m].sum()", namespace="other").json() == []
    assert _summarize(api, "PredictRequestCount[1m].sum()", resourceGroup="x").json() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"query": "PredictRequestCount[1m]"}, "query: . expected"),
        ({"startTime": "2026-03-04T05:06:07Z", "endTime": "2026-03-04T05:06:07Z"}, "startTime"),
        ({"resolution": "2m"}, "resolution 2m must not be longer than the query's interval"),
        ({"resolution": "fine"}, "resolution 'fine' must be"),
        ({"resolution": "0m"}, "resolution '0m' must be"),
        ({"startTime": "1970-01-02T00:00:00Z"}, "moments"),
        ({"query": ""}, "query"),
    ],
)
def test_a_query_that_is_wrong_is_refused_with_the_reason(api, deployment_id, body, words):
    answer = _summarize(api, **{"query": "PredictRequestCount[1m].sum()", **body})
    refused(answer, 400, "InvalidParameter", words)


def test_a_subtree_is_the_tenancys(api):
    answer = _summarize(api, "A[1m].sum()", compartment_id="ocid1.other", in_subtree=True)
    refused(answer, 400, "InvalidParameter", "compartmentIdInSubtree")


def test_metrics_are_listed(api, deployment_id, points):
    def listed(**details):
        answer = api.client.post(LIST, params={"compartmentId": api.compartment_id}, json=details)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert [(each["name"], each["dimensions"]) for each in listed()] == [
        ("CpuUtilization", {"instanceId": "one", "resourceId": deployment_id}),
        ("PredictRequestCount", {"resourceId": deployment_id}),
    ]
    assert [each["name"] for each in listed(sortBy="NAME", sortOrder="DESC")] == [
        "PredictRequestCount",
        "CpuUtilization",
    ]
    assert len(listed(name="CpuUtilization", namespace=NAMESPACE)) == 1
    assert len(listed(dimensionFilters={"instanceId": "one"})) == 1
    assert listed(namespace="other") == []
    assert listed(groupBy=["namespace"]) == [
        {
            "name": None,
            "namespace": NAMESPACE,
            "resourceGroup": None,
            "compartmentId": api.compartment_id,
            "dimensions": None,
        }
    ]
    first = api.client.post(LIST, params={"compartmentId": api.compartment_id, "limit": 1}, json={})
    assert (len(first.json()), first.headers["opc-next-page"]) == (1, "1")
    last = api.client.post(
        LIST, params={"compartmentId": api.compartment_id, "limit": 1, "page": "1"}, json={}
    )
    assert (len(last.json()), "opc-next-page" in last.headers) == (1, False)


def test_prometheus_finds_every_deployment_that_there_is(api, deployment_id):
    answer = api.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert problems(answer.text) == []
    found = series_of(answer.text)
    named = frozenset({("deployment", deployment_id), ("name", "measured")})
    assert found["havre_deployment_info", named] == 1
    assert found["havre_deployments", frozenset({("state", "ACTIVE")})] == 1
