"""What each ring of tests may cost, and whether it did: seconds of its tests, summed.

Only where ``HAVRE_TEST_BUDGET`` is set, as `make check` and `make test` do: who runs a file while
he works is not told. A figure in seconds means little on another machine, or on this one while it
is busy, so the same piece of work is timed before the tests and after them, and the slower of the
two says how much more everything may take. Beyond half of that again the run fails.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import PurePath

import pytest

BUDGET_S = {
    "unit": 200,
    "contract": 200,
    "integration": 1600,
    "e2e": 2000,
    "hostile": 200,
    "matrix": 600,
    "chaos": 300,
}
"""On two cores, with the caches warm. Lower them when a ring has become faster."""
TOLERANCE = 1.5
CALIBRATION_S = 0.1
"""What `_calibrate` takes on the machine that these figures are of."""

IS_ASKED = "HAVRE_TEST_BUDGET" in os.environ
_spent = Counter[str]()
_speeds: list[float] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    if IS_ASKED and not hasattr(session.config, "workerinput"):
        _speeds.append(_calibrate())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    ring = PurePath(report.nodeid.partition("::")[0]).parts[1:2]
    _spent.update({"".join(ring): report.duration})


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not IS_ASKED or hasattr(session.config, "workerinput"):
        return
    _speeds.append(_calibrate())
    if session.exitstatus == pytest.ExitCode.OK and exceeded(_spent, max(_speeds)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not IS_ASKED:
        return
    slowness = max(_speeds)
    over = exceeded(_spent, slowness)
    terminalreporter.section(f"seconds of tests; this machine is {slowness:.2f} times as slow")
    for ring in BUDGET_S.keys() & _spent.keys():
        verdict = "TOO MUCH" if ring in over else ""
        terminalreporter.write_line(
            f"{ring:12}{_spent[ring]:8.0f} of {BUDGET_S[ring] * slowness:6.0f} {verdict}".rstrip()
        )


def exceeded(spent: Counter[str], slowness: float) -> set[str]:
    """Rings that took more than half as much again as they may."""
    return {
        ring for ring, budget in BUDGET_S.items() if spent[ring] > budget * slowness * TOLERANCE
    }


def _calibrate() -> float:
    """How many times as slow as the machine of the figures, never less than once.

    Most of what tests wait for are Pythons that start. The median of five.
    """
    command = [sys.executable, "-I", "-S", "-c", "import asyncio, http.client, json, sqlite3"]
    times = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run(command, check=True)
        times.append(time.monotonic() - began)
    return max(1.0, sorted(times)[2] / CALIBRATION_S)
