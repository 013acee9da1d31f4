"""The text that Prometheus reads: well named, whole from the start, bounded."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.documents import DOCS
from tests.prometheus_lint import problems, series_of

from havre.domain.latency import Latency
from havre.domain.metrics import METRICS
from havre.domain.states import DeploymentState
from havre.telemetry.metrics.figures import DeploymentFigures, Figures
from havre.telemetry.metrics.own import OwnMetrics
from havre.telemetry.metrics.prometheus import ShownDeployment, exposition

SHOWN = ShownDeployment("ocid1.a", 'say "twice"\n\\', DeploymentState.ACTIVE)
OTHER = ShownDeployment("ocid1.b", "other", DeploymentState.INACTIVE)


def _text(figures, deployments=(SHOWN, OTHER), own=None):
    return exposition(figures, deployments, own or OwnMetrics(), "1.2.3").decode()


def _busy():
    counts = [0] * len(Latency().counts)
    counts[0], counts[1], counts[16], counts[-1] = 1, 2, 3, 4
    busy = DeploymentFigures(bytes_in=10, restarts=2, latency=Latency(tuple(counts), 7.5))
    busy.requests["2xx"] = 9
    return Figures(
        looked_ms=1_500,
        lost={"access": 3},
        failed_writes=4,
        deployments={"ocid1.a": busy, "ocid1.gone": DeploymentFigures(restarts=5)},
    )


@pytest.mark.parametrize("figures", [Figures(), _busy()], ids=["nothing yet", "busy"])
def test_a_linter_has_nothing_to_say(figures):
    assert problems(_text(figures)) == []


def test_every_series_is_there_from_the_start():
    own = OwnMetrics()
    before = series_of(_text(Figures(), own=own))
    own.saw_pass(0.5)
    own.saw_build(12, True)
    own.saw_build(3, False)
    assert series_of(_text(_busy(), own=own)).keys() == before.keys()
    assert (
        "havre_predict_requests_total",
        frozenset({("deployment", "ocid1.b"), ("code", "5xx")}),
    ) in (before)


def test_deployments_that_are_gone_are_not_shown():
    assert "ocid1.gone" not in _text(_busy())
    assert "ocid1" not in _text(_busy(), deployments=())
    assert problems(_text(_busy(), deployments=[SHOWN])) == []


def test_what_the_series_say():
    own = OwnMetrics()
    own.saw_pass(0.5)
    own.saw_pass(100)
    own.saw_build(12, True)
    found = series_of(_text(_busy(), own=own))

    def value(name, /, **labels):
        return found[name, frozenset(labels.items())]

    assert value("havre_predict_requests_total", deployment="ocid1.a", code="2xx") == 9
    assert value("havre_copy_restarts_total", deployment="ocid1.a") == 2
    assert value("havre_log_entries_lost_total", log="access") == 3
    assert value("havre_log_failed_writes_total") == 4
    assert value("havre_deployments", state="ACTIVE") == 1
    assert value("havre_deployment_info", deployment="ocid1.a", name='say "twice"\n\\') == 1
    assert value("havre_telemetry_looked_timestamp_seconds") == 1.5
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
