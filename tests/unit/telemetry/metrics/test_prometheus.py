"""The text that Prometheus reads: well named, whole from the start, bounded."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.documents import DOCS
from tests.support.prometheus_lint import problems, series_of

from havre.domain.latency import Latency
from havre.domain.metrics import METRICS
from havre.domain.states import DeploymentState
from havre.telemetry.counters import Counter
from havre.telemetry.metrics.control_plane import ControlPlaneMetrics
from havre.telemetry.metrics.figures import DeploymentFigures, Figures
from havre.telemetry.metrics.prometheus import ShownDeployment, exposition

SHOWN = ShownDeployment("ocid1.a", 'say "twice"\n\\', DeploymentState.ACTIVE)
COUNTS = {
    Counter.LOST: {"access": 3},
    Counter.WRITE_FAILURES: {"access": 4},
    Counter.EXPORT_FAILED: {"logs": 8},
}
OTHER = ShownDeployment("ocid1.b", "other", DeploymentState.INACTIVE)


def _text(figures, deployments=(SHOWN, OTHER), own=None):
    return exposition(figures, deployments, own or ControlPlaneMetrics(), "1.2.3").decode()


def _busy():
    counts = [0] * len(Latency().counts)
    counts[0], counts[1], counts[16], counts[-1] = 1, 2, 3, 4
    busy = DeploymentFigures(bytes_in=10, restarts=2, latency=Latency(tuple(counts), 7.5))
    busy.requests["2xx"] = 9
    return Figures(
        collected_ms=1_500,
        counters=COUNTS,
        deployments={"ocid1.a": busy, "ocid1.gone": DeploymentFigures(restarts=5)},
    )


@pytest.mark.parametrize("figures", [Figures(), _busy()], ids=["nothing yet", "busy"])
def test_a_linter_has_nothing_to_say(figures):
    assert problems(_text(figures)) == []


def test_every_series_is_there_from_the_start():
    own = ControlPlaneMetrics()
    before = series_of(_text(Figures(), own=own))
    own.observe_pass(0.5)
    own.observe_build(12, True)
    own.observe_build(3, False)
    assert series_of(_text(_busy(), own=own)).keys() == before.keys()
    assert (
        "havre_predict_requests_total",
        frozenset({("deployment", "ocid1.b"), ("code", "5xx")}),
    ) in (before)


@pytest.mark.parametrize("counter", Counter)
def test_every_counter_is_shown(counter: Counter):
    before = series_of(_text(Figures()))
    labels = ("access", "predict", "capture", "logs", "metrics")
    after = series_of(_text(Figures(counters={counter: dict.fromkeys(labels, 7)})))
    assert after.keys() == before.keys()
    assert {after[key] for key in after if after[key] != before[key]} == {7}


def test_deployments_that_are_gone_are_not_shown():
    assert "ocid1.gone" not in _text(_busy())
    assert "ocid1" not in _text(_busy(), deployments=())
    assert problems(_text(_busy(), deployments=[SHOWN])) == []


def test_what_the_series_say():
    own = ControlPlaneMetrics()
    own.observe_pass(0.5)
    own.observe_pass(100)
    own.observe_build(12, True)
    found = series_of(_text(_busy(), own=own))

    def value(name, /, **labels):
        return found[name, frozenset(labels.items())]

    assert value("havre_predict_requests_total", deployment="ocid1.a", code="2xx") == 9
    assert value("havre_copy_restarts_total", deployment="ocid1.a") == 2
    assert value("havre_log_entries_total", log="access", outcome="lost") == 3
    assert value("havre_log_entries_total", log="capture", outcome="stored") == 0
    assert value("havre_log_write_failures_total") == 4
    assert value("havre_otlp_export_total", signal="logs", outcome="failed") == 8
    assert value("havre_deployments", state="ACTIVE") == 1
    assert value("havre_deployment_info", deployment="ocid1.a", name='say "twice"\n\\') == 1
    assert value("havre_telemetry_last_collection_timestamp_seconds") == 1.5
    assert value("havre_build_info", version="1.2.3") == 1
    duration = "havre_predict_duration_seconds"
    assert value(f"{duration}_bucket", deployment="ocid1.a", le="5e-05") == 1
    assert value(f"{duration}_bucket", deployment="ocid1.a", le="0.0001") == 3
    assert value(f"{duration}_bucket", deployment="ocid1.a", le="0.0128") == 6
    assert value(f"{duration}_bucket", deployment="ocid1.a", le="+Inf") == 10
    assert value(f"{duration}_sum", deployment="ocid1.a") == 7.5
    assert value("havre_reconciler_lag_seconds_bucket", le="1.0") == 1
    assert value("havre_reconciler_lag_seconds_count") == 2
    assert value("havre_environment_build_seconds_sum", outcome="built") == 12
    assert value("havre_environment_build_seconds_count", outcome="failed") == 0


def test_the_linter_finds_what_is_wrong():
    told = problems(
        "# TYPE havre_wait_ms gauge\nhavre_wait_ms 1\n"
        "# HELP havre_a_total x\n# TYPE havre_a_total counter\n"
        'havre_a_total{instance="8b1f0c7a55d2"} 1\n'
        "# HELP havre_b x\n# TYPE havre_b histogram\n"
        'havre_b_bucket{le="1"} 2\nhavre_b_bucket{le="2"} 1\nhavre_b_sum 1\nhavre_b_count 1\n'
    )
    for words in ("no help", "base unit", "label instance", "each instance", "cumulative", "+Inf"):
        assert any(words in each for each in told), words


def test_the_page_names_every_series_and_every_metric():
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    families = {family.name for family in text_string_to_metric_families(_text(_busy()))}
    assert [name for name in families if not re.search(rf"`{name}(_total)?`", page)] == []
    assert [each.name for each in METRICS if f"`{each.name}`" not in page] == []
    assert set(re.findall(r"`(havre_\w+?)(?:_total)?`", page)) <= families
