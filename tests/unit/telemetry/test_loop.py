"""The loop goes on, whatever one of its collectors does."""

import logging
import threading

import pytest

from havre.telemetry.loop import run


class Failing:
    name = "failing"

    def __init__(self) -> None:
        self.looks = 0

    def collect(self, now_ms: int) -> None:
        self.looks += 1
        raise OSError(28, "No space left on device")


class Ending:
    name = "ending"

    def __init__(self, stopping: threading.Event, after: int) -> None:
        self.stopping = stopping
        self.left = after

    def collect(self, now_ms: int) -> None:
        self.left -= 1
        if self.left == 0:
            self.stopping.set()


def test_a_failing_observer_stops_no_other_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopping = threading.Event()
    failing, ending = Failing(), Ending(stopping, after=5)
    with caplog.at_level(logging.ERROR):
        run([failing, ending], stopping, tick_s=0.0)
    assert (failing.looks, ending.left) == (5, 0)
    [told] = caplog.messages
    assert "failing" in told
    assert "No space left" in told
