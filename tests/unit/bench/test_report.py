"""Tables from results."""

from bench.report import figure, report, table
from bench.results import Results

MACHINE = {
    "date": "2026-11-25 12:00",
    "cores": 2,
    "processor": "a processor",
    "memory_gb": 24,
    "kernel": "6.1",
    "seconds": 5,
    "rounds": 2,
}
TITLES = {"havre": "havre", "granian": "bare granian", "iris": "iris, 1 row", "steady": "steady"}


def cell(server: str, number: int, per_second: float, **more: object) -> dict[str, object]:
    return {
        "server": server,
        "workload": "iris",
        "round": number,
        "connections": 64,
        "per_second": per_second,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "cpu_per_1000": 0.5,
        "pss_mb": 100.0,
        "processes": 4,
        "wrong": 0,
        "failed": 0,
    } | more


def test_ratios_are_taken_within_a_round() -> None:
    """The second round was slow for everybody: medians of each would say 1.5."""
    results = Results(
        [
            cell("havre", 0, 900.0),
            cell("granian", 0, 1000.0),
            cell("havre", 1, 90.0),
            cell("granian", 1, 100.0),
            cell("havre", 2, 900.0),
        ]
    )
    assert results.ratio("havre", "granian", "iris", "per_second", connections=64) == 0.9
    assert results.median("havre", "iris", "per_second", connections=64) == 900


def test_figures_are_readable() -> None:
    assert figure(12345.6) == "12,346"
    assert figure(0.3149, 3) == "0.315"
    assert figure(float("nan")) == ""


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_the_report_has_every_server_with_its_ratio_and_its_wrong_answers() -> None:
    text = report(
        Results([MACHINE, cell("havre", 0, 900.0, wrong=3), cell("granian", 0, 1000.0)]), TITLES
    )
    assert "| havre | 900 | 0.90 |" in text
    assert "| bare granian | 1,000 | 1.00 |" in text
    assert "3 wrong, 0 failed" in text


def test_a_server_that_was_not_measured_is_told_with_the_reason() -> None:
    failed = {"server": "granian", "error": "no such package", "round": 0}
    text = report(Results([MACHINE, cell("havre", 0, 900.0), failed]), TITLES)
    assert "## Not measured" in text
    assert "installing: no such package" in text


def test_open_loops_show_their_tail_and_their_refusals() -> None:
    line = cell("havre", 0, 149.0, workload="steady", connections=None)
    line |= {"p90_ms": 20.0, "most_ms": 99.0, "refused": 7, "refused_p99_ms": 4.0}
    text = report(Results([MACHINE, line | {"late_p99_ms": 0.2}]), TITLES)
    assert "| havre | 149.0 | 1.0 | 20.0 | 2.0 | 99.0 | 7 | 4.0 | 0.20 | 0 |" in text
