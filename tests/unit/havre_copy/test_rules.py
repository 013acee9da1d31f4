"""The keeper's decisions: fork or load per copy, when to kill, how soon to fork again."""

import re
from types import SimpleNamespace

import pytest

from havre_copy import doubts, forking, slots
from havre_copy.copies import Death
from havre_copy.deaths import TimeLimits, cause_of, deadline, pause_after
from havre_copy.forking import FORKED, PER_COPY, Evidence, choose

S = 1_000_000_000


@pytest.mark.parametrize(
    ("evidence", "mode", "why"),
    [
        (Evidence(threads=1), FORKED, "single thread"),
        (Evidence(threads=1, probe=forking.RAISED), FORKED, "single thread"),
        (Evidence(threads=1, probe=forking.HUNG), PER_COPY, "did not answer"),
        (Evidence(threads=1, probe=forking.DIED), PER_COPY, "died"),
        (Evidence(threads=3), PER_COPY, "3 threads.*no sample"),
        (Evidence(threads=3, probe=forking.ANSWERED), FORKED, "answered"),
        (Evidence(threads=3, probe=forking.RAISED), PER_COPY, "raised"),
        (Evidence(threads=2, python_threads=("t of lib",), probe=forking.ANSWERED), PER_COPY,
         "1 thread, which no fork has: t of lib"),
        (Evidence(threads=9, lost="a pool is lost", probe=forking.ANSWERED), PER_COPY, "a pool is"),
        (Evidence(threads=1, lost="a pool is lost"), PER_COPY, "a pool is lost"),
        (Evidence(threads=1, sockets=2, probe=forking.ANSWERED), PER_COPY, "2 network connections"),
    ],
)  # fmt: skip
def test_fork_only_where_it_cannot_hang(evidence, mode, why):
    choice = choose(evidence)
    assert choice.mode == mode
    assert re.search(why, choice.why)


STUCK = Death("predict() took over 58 s", slots.BUSY, overdue=True)
CRASHED = Death("killed by SIGSEGV", slots.BUSY, signal=11)
ASKED = Death("it asked for its end", slots.BUSY, asked=True)


@pytest.mark.parametrize(
    ("death", "seen", "why"),
    [
        (STUCK, {"is_doubtful": True}, "may have missed: predict"),
        (STUCK._replace(state=slots.STREAMING), {"is_doubtful": True}, "may have missed"),
        (CRASHED, {"is_doubtful": True}, "may have missed: killed by SIGSEGV"),
        (CRASHED._replace(signal=9), {"is_doubtful": True}, ""),
        (CRASHED._replace(state=slots.IDLE), {"is_doubtful": True}, ""),
        (CRASHED, {}, ""),
        (ASKED, {"has_predicted": False}, "it asked for its end"),
        (ASKED, {"is_doubtful": True}, "may have missed: it asked"),
        (ASKED, {}, ""),
        (ASKED, {"stuck": 2}, "in 2 forked copies it asked"),
        (ASKED, {"stuck": 2, "has_room": lambda: False}, ""),
        (STUCK, {"has_predicted": False}, "no forked copy has ever answered"),
        (STUCK._replace(deadlocked=True), {}, "a lock that no thread was there to release"),
        (STUCK, {}, ""),
        (STUCK, {"stuck": 2}, "in 2 forked copies predict"),
        (STUCK, {"stuck": 2, "has_room": lambda: False}, ""),
        (STUCK._replace(state=slots.WRITING), {"is_doubtful": True}, ""),
        (STUCK._replace(state=slots.STREAMING), {"stuck": 2}, ""),
        (Death("exited with code 10", slots.BUSY), {"is_doubtful": True}, ""),
    ],
)
def test_reasons_against_forking_after_all(death, seen, why):
    usual = {"is_doubtful": False, "has_predicted": True, "stuck": 1, "has_room": lambda: True}
    why_not = doubts.reconsider(death, **{**usual, **seen})
    assert why in why_not
    assert bool(why_not) == bool(why)


LIMITS = TimeLimits(
    SimpleNamespace(predict_timeout_s=58, stream_idle_s=60, stream_total_s=300, start_timeout_s=100)
)


@pytest.mark.parametrize(
    ("state", "since", "activity", "when", "why"),
    [
        (slots.IDLE, 5 * S, 5 * S, None, ""),
        (slots.EMPTY, 0, 0, None, ""),
        (slots.BUSY, 5 * S, 0, 63 * S, "predict"),
        (slots.WRITING, 5 * S, 0, 63 * S, "sending"),
        (slots.READING, 5 * S, 0, 63 * S, "reading what the request's body says"),
        (slots.LOADING, 5 * S, 0, 105 * S, "load"),
        (slots.STREAMING, 5 * S, 20 * S, 80 * S, "paused"),
        (slots.STREAMING, 5 * S, 299 * S, 305 * S, "stream took"),
    ],
)
def test_deadlines(state, since, activity, when, why):
    slot = slots.SlotTable(1).slots[0]
    slot.words[slots.STATE], slot.words[slots.SINCE] = state, since
    slot.words[slots.ACTIVITY] = activity
    found = deadline(slot.words, LIMITS)
    assert (found and found[0]) == when
    assert not found or why in found[1]


def test_back_off_begins_late_and_has_a_ceiling():
    pauses = [pause_after(deaths) for deaths in range(1, 30)]
    assert pauses[:3] == [0, 0, 0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (11, "killed by SIGSEGV"),
        (9, "killed by SIGKILL: probably out of memory"),
        (7 << 8, "exited with code 7"),
    ],
)
def test_causes_of_death(status, sentence):
    assert cause_of(status).startswith(sentence)


@pytest.mark.parametrize(
    ("ended_for_memory", "sentence"),
    [(True, "out of memory: "), (False, "killed by SIGKILL")],
)
def test_the_kernel_knows_whether_a_kill_was_for_memory(
    ended_for_memory: bool, sentence: str
) -> None:
    cause = cause_of(9, ended_for_memory)
    assert cause.startswith(sentence)
    assert "probably" not in cause


def test_slots_are_apart_and_survive_long_ids():
    table = slots.SlotTable(2)
    first, second = table.slots
    first.request_id = b"x" * 500
    second.clear(42, slots.BUSY, 7)
    assert first.request_id == b"x" * 200
    assert first.words[slots.PID] == 0
    assert table.count(slots.BUSY) == 1
    second.words[slots.RESPONSES] = 5
    second.clear(43, slots.IDLE, 8)
    assert table.total(slots.RESPONSES) == 5
