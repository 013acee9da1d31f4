"""What a copy counts in its slot of shared memory."""

import pytest

from havre_copy import slots

NOW = 1_000_000_000_000


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """A clock that stands still: a busy machine counts nothing into another bucket."""
    monkeypatch.setattr(slots, "monotonic_ns", lambda: NOW)


def return_after(slot: slots.Slot, ns: int) -> None:
    slot.words[slots.SINCE] = NOW - ns
    slot.returned()


def test_returns_are_counted_by_how_long_they_took():
    table = slots.SlotTable(2)
    first, second = table.slots
    for ns in (0, 1_000_000, 1_000_000):
        return_after(first, ns)
    return_after(second, 100_000_000_000)
    counts = table.latency()
    assert len(counts) == slots.BUCKETS
    assert (counts[0], counts[-1], sum(counts)) == (1, 1, 4)
    millisecond = next(n for n, bound in enumerate(slots.BOUNDS) if bound > 1_000_000)
    assert sum(counts[millisecond : millisecond + 4]) == 2
    assert table.total(slots.PREDICT_NS) == 100_002_000_000


def test_each_request_of_a_batch_counts_with_the_batchs_time():
    table = slots.SlotTable(1)
    slot = table.slots[0]
    slot.words[slots.SINCE] = NOW - 5_000_000
    slot.returned_to(3)
    counts = table.latency()
    assert (sum(counts), max(counts)) == (3, 3)
    assert slot.words[slots.PREDICT_NS] == 3 * slot.words[slots.LAST_PREDICT_NS] >= 15e6


def test_what_raised_is_timed_but_not_counted():
    table = slots.SlotTable(1)
    slot = table.slots[0]
    slot.words[slots.SINCE] = NOW - 5_000_000
    slot.raised()
    assert 5e9 > slot.words[slots.LAST_PREDICT_NS] >= 5e6
    assert (sum(table.latency()), table.total(slots.PREDICT_NS)) == (0, 0)


def test_counts_go_on_when_a_slot_is_given_to_another_process():
    table = slots.SlotTable(1)
    slot = table.slots[0]
    return_after(slot, 1_000)
    slot.words[slots.RETAIN_FLAGS] = 5
    slot.request_id = b"x" * 99
    slot.clear(7, slots.LOADING, 1)
    assert slot.request_id == b""
    assert (sum(table.latency()), slot.words[slots.RETAIN_FLAGS]) == (1, 5)


def test_the_id_of_a_request_touches_no_count():
    table = slots.SlotTable(2)
    table.slots[0].request_id = b"y" * 64
    assert sum(table.latency()) == 0
    assert sum(table.slots[1].words) == 0


def test_the_age_of_current_requests():
    table = slots.SlotTable(5)
    states = (slots.IDLE, slots.BUSY, slots.STREAMING, slots.READING, slots.WRITING)
    for slot, state in zip(table.slots, states, strict=True):
        slot.words[slots.SINCE] = NOW - 2_000_000_000
        slot.words[slots.STATE] = state
    assert table.request_ages() == [2, 2]
    table.slots[1].words[slots.SINCE] = NOW + 10**12  # written while it is read
    assert table.request_ages()[0] == 0
