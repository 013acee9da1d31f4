"""A keeper that stands still is told from one that the machine does not let run."""

from dataclasses import replace
from pathlib import Path

import pytest

from havre.domain.address import UnixAddress
from havre.domain.instance import InstanceStatus
from havre.domain.states import InstancePhase
from havre.reconciler.silence import HANG_S, MIN_OBSERVATIONS, PATIENCE_S, RAN_S, Silence

STATUS = InstanceStatus("a", "d", "r", InstancePhase.READY, UnixAddress(Path("s")), is_silent=True)


def judged_after(looks_s: list[float], *, held_up: set[int] = frozenset(), cpu_s: float = 0.0):
    """When it is first taken to stand still, looked at at these times; None: not at all.

    At the looks ``held_up`` it waits for the machine; it uses ``cpu_s`` of each second.
    """
    silence = None
    for number, now in enumerate(looks_s):
        status = replace(STATUS, is_held_up=number in held_up, keeper_cpu_s=now * cpu_s)
        silence = silence or Silence.begin(status, now)
        silence.note(status, now)
        if silence.is_hang(now):
            return now
    return None


EACH_SECOND = [float(second) for second in range(100)]


def test_a_keeper_that_sleeps_though_it_was_asked_stands_still() -> None:
    assert judged_after(EACH_SECOND) == HANG_S


def test_two_looks_say_too_little_however_far_apart() -> None:
    assert judged_after([0.0, 50.0][: MIN_OBSERVATIONS - 1]) is None
    assert judged_after([0.0, 50.0, 51.0]) == 51.0


def test_a_keeper_that_is_always_ready_to_run_gets_a_minute() -> None:
    assert judged_after(EACH_SECOND, held_up=set(range(100))) == PATIENCE_S


@pytest.mark.parametrize("gap", [2, 3])
def test_a_keeper_that_waits_for_the_machine_is_not_taken_to_stand_still(gap: int) -> None:
    held_up = set(range(0, 100, gap))
    assert judged_after(EACH_SECOND, held_up=held_up) == PATIENCE_S


def test_a_keeper_that_runs_and_answers_nobody_stands_still() -> None:
    judged = judged_after(EACH_SECOND, held_up=set(range(100)), cpu_s=1.0)
    assert judged is not None
    assert RAN_S <= judged < RAN_S + HANG_S + 1
