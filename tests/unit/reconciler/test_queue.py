import threading

import pytest

from havre.reconciler.queue import WorkQueue


@pytest.fixture
def clock():
    class Clock:
        now = 100.0

        def __call__(self) -> float:
            return self.now

    return Clock()


def test_keys_come_out_when_they_are_due(clock):
    queue = WorkQueue(clock)
    queue.add("later", 5)
    queue.add("now")
    assert queue.take() == "now"
    clock.now += 5
    assert queue.take() == "later"


def test_the_earliest_wish_for_a_key_wins(clock):
    queue = WorkQueue(clock)
    queue.add("key", 60)
    queue.add("key")
    assert queue.take() == "key"
    queue.done("key")
    clock.now += 60
    queue.add("other")
    assert queue.take() == "other"


def test_a_key_is_with_one_taker_at_a_time_and_no_wish_is_lost(clock):
    queue = WorkQueue(clock)
    queue.add("key")
    assert queue.take() == "key"
    queue.add("key")
    queue.add("other")
    assert queue.take() == "other"
    queue.done("key")
    assert queue.take() == "key"


def test_closing_ends_those_who_wait():
    queue = WorkQueue()
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(queue.take()))
    waiting.start()
    queue.close()
    waiting.join(timeout=5)
    assert taken == [None]


def test_the_queue_reports_how_late_a_key_comes_out(clock):
    late = []
    queue = WorkQueue(clock, late.append)
    queue.add("key", 5)
    clock.now += 7
    queue.take()
    assert late == [2]
