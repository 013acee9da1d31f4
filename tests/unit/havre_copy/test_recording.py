"""Rings of records: wrap-around, torn writes, several copies, pages."""

import base64
import random
from types import SimpleNamespace

import pytest

from havre_copy import recording, slots
from havre_copy.recording import RequestRecorder, Ring


def request(body: bytes, kind: bytes = b"application/json") -> SimpleNamespace:
    return SimpleNamespace(body=body, content_type=kind)


def ring_of(size: int) -> Ring:
    return Ring(memoryview(bytearray(size)), slots.SlotTable(1).slots[0].words)


def bodies(ring: Ring) -> list[bytes]:
    read = [ring.read(at, length) for _, at, length in ring.find()]
    return [record.body for record in read if record is not None]


def test_a_record_comes_back_as_it_was():
    ring = ring_of(1000)
    ring._words[slots.LAST_PREDICT_NS] = 1234
    ring.add(request(b"\0body", b"text/plain"), 500, b"answer\xff")
    ((_, at, length),) = ring.find()
    assert ring.read(at, length) == (1234, 500, b"text/plain", b"\0body", b"answer\xff")


def test_the_oldest_make_room_wherever_the_ring_wraps():
    rng = random.Random(4)
    ring, added = ring_of(1000), []
    for number in range(2000):
        body = b"%d:" % number + b"x" * rng.choice([0, 7, 50, 200, 800])
        ring.add(request(body), 200, b"a")
        added.append(body)
        kept = bodies(ring)
        assert kept == added[len(added) - len(kept) :]
        assert kept, number


def test_what_is_larger_than_the_ring_is_not_kept():
    ring = ring_of(1000)
    ring.add(request(b"small"), 200, b"")
    ring.add(request(b"x" * 990), 200, b"")
    ring.add(request(b"x"), 200, b"y" * 990)
    ring.add(request(b"x", b"k" * 70_000), 200, b"")
    assert bodies(ring) == [b"small"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", range(5))
def test_a_copy_killed_while_it_writes_leaves_no_torn_record(after):
    """Each store into shared memory may be the last one."""
    ring = ring_of(300)
    for number in range(9):
        ring.add(request(b"%d" % number * 20), 200, b"a")
    before = bodies(ring)
    words, memory = ring._words, ring._memory
    left = [after]

    def store(target):
        class Dying:
            def __getitem__(self, index):
                return target[index]

            def __setitem__(self, index, value):
                if not left[0]:
                    raise Killed
                left[0] -= 1
                target[index] = value

            def __len__(self):
                return len(target)

        return Dying()

    ring._words, ring._memory = store(words), store(memory)
    was_killed = False
    try:
        ring.add(request(b"last" * 20), 200, b"a")
    except Killed:
        was_killed = True
    another = Ring(memory, words)
    kept = bodies(another)
    whole = [*before, b"last" * 20]
    assert kept == (before if was_killed else whole)[-len(kept) :]
    another.add(request(b"next"), 200, b"a")
    assert bodies(another)[-1] == b"next"
    assert len(bodies(another)) > 1


def test_a_record_overwritten_while_it_is_read_is_not_returned():
    ring = ring_of(300)
    ring.add(request(b"old" * 20), 200, b"a")
    ((_, at, length),) = ring.find()
    ring._memory[60] ^= 1
    assert ring.read(at, length) is None
    ring._memory[60] ^= 1
    assert ring.read(at, length) is not None
    for _ in range(5):
        ring.add(request(b"new" * 20), 200, b"a")
    assert ring.read(at, length) is None


def test_a_ring_that_user_code_wrote_into_harms_nobody():
    rng = random.Random(5)
    for _ in range(300):
        ring = ring_of(500)
        for number in range(7):
            ring.add(request(b"%d" % number), 200, b"a")
        for _ in range(40):
            ring._memory[rng.randrange(500)] = rng.randrange(256)
        if rng.random() < 0.5:
            ring._words[rng.choice([slots.OLDEST, slots.WRITTEN])] = rng.getrandbits(63)
        assert set(bodies(ring)) <= {b"%d" % number for number in range(7)}
        for _ in range(30):
            ring.add(request(b"after"), 200, b"a")
        assert bodies(ring)[-1] == b"after", "a ring is sound again once it is written over"


def bodies_of(page: dict) -> list[bytes]:
    return [base64.b64decode(record["body_base64"]) for record in page["recorded"]]


def test_the_last_of_all_copies_page_by_page(monkeypatch):
    table = slots.SlotTable(3)
    recorder = RequestRecorder(table)
    assert recorder.page()["recorded"] == []
    recorder.retain(5)
    assert [slot.words[slots.RETAIN_FLAGS] for slot in table.slots] == [1, 1, 1]
    for number in range(8):
        table.slots[number % 3].words[slots.SINCE] = recorder._since + number
        recorder.rings[number % 3].add(request(b"%d" % number), 200, b"a" * 100)
    assert bodies_of(recorder.page()) == [b"7", b"6", b"5", b"4", b"3"]
    monkeypatch.setattr(recording, "PAGE_BYTES", 400)
    first = recorder.page()
    assert bodies_of(first) == [b"7", b"6"]
    # What comes in meanwhile moves no page.
    table.slots[0].words[slots.SINCE] = recorder._since + 99
    recorder.rings[0].add(request(b"late"), 200, b"")
    second = recorder.page(first["before"])
    assert bodies_of(second) == [b"5", b"4"]
    assert "error" in recorder.page("rubbish")
    assert "error" in recorder.page([1, "2"])


def test_a_page_may_end_within_a_batch(monkeypatch):
    """Its requests have begun at the same time."""
    table = slots.SlotTable(1)
    recorder = RequestRecorder(table)
    recorder.retain(9)
    table.slots[0].words[slots.SINCE] = recorder._since
    for number in range(5):
        recorder.rings[0].add(request(b"%d" % number), 200, b"a" * 100)
    monkeypatch.setattr(recording, "PAGE_BYTES", 400)
    first = recorder.page()
    assert bodies_of(first) == [b"4", b"3"]
    assert bodies_of(recorder.page(first["before"])) == [b"2", b"1"]


def test_records_are_dropped_when_recording_is_turned_off():
    table = slots.SlotTable(1)
    recorder = RequestRecorder(table)
    recorder.retain(9)
    table.slots[0].words[slots.SINCE] = recorder._since
    recorder.rings[0].add(request(b"first"), 200, b"")
    recorder.retain(3)
    assert bodies_of(recorder.page()) == [b"first"]
    recorder.retain(0)
    assert (recorder.page()["recorded"], table.slots[0].words[slots.RETAIN_FLAGS]) == ([], 0)
    recorder.retain(9)
    assert bodies_of(recorder.page()) == []
