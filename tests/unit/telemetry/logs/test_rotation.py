"""The logs of the server's own programs: short, and never in the way of who writes them."""

import os
from pathlib import Path

import pytest

from havre.home import Home
from havre.telemetry.logs.rotation import INTERVAL_MS, LogRotation


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.instance_logs.mkdir(parents=True)
    return home


def test_a_log_that_has_grown_begins_anew_and_what_it_held_is_kept_beside_it(home: Home) -> None:
    path = home.logs / "load-balancer.log"
    logs = LogRotation(home, max_bytes=100)
    with path.open("ab", buffering=0) as writer:
        for number in range(3):
            writer.write(b"%d" % number * 101)
            logs.collect(number * INTERVAL_MS)
            assert path.read_bytes() == b""
        writer.write(b"a line\n")
    assert path.read_bytes() == b"a line\n"
    earlier = home.logs / "load-balancer.log.1"
    assert earlier.read_bytes() == b"2" * 101
    assert earlier.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(home.logs)) == [
        "instances",
        "load-balancer.log",
        "load-balancer.log.1",
    ]


def test_short_logs_and_those_of_others_are_left_alone(home: Home) -> None:
    """The access log and instances' logs are collected: nothing of them may go before."""
    others = [home.logs / "short.log", home.access_log, home.instance_logs / "i.log"]
    for path, size in zip(others, (100, 500, 500), strict=True):
        path.write_bytes(b"x" * size)
    LogRotation(home, max_bytes=100).collect(0)
    assert [path.stat().st_size for path in others] == [100, 500, 500]


def test_it_looks_once_a_minute_and_at_once_if_the_clock_goes_back(home: Home) -> None:
    path, logs = home.logs / "load-balancer.log", LogRotation(home, max_bytes=0)
    sizes = []
    for now_ms in (5 * INTERVAL_MS, 5 * INTERVAL_MS + 1, 6 * INTERVAL_MS, INTERVAL_MS):
        path.write_bytes(b"x")
        logs.collect(now_ms)
        sizes.append(path.stat().st_size)
    assert sizes == [0, 1, 0, 0]
