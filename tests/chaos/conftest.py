"""Prints the tables of the chaos tests at the end, wherever the tests ran."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "call":
                continue
            for name, value in report.user_properties:
                if name == "chaos":
                    terminalreporter.section("what happened, and what it cost")
                    terminalreporter.write_line(value)
