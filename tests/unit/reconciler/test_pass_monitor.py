"""A pass that does not end is told, counted, and takes no worker away."""

import logging
import threading

from havre.reconciler.pass_monitor import LOG_AGAIN_S, STUCK_S, PassMonitor


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_pass_that_hangs_is_named_with_what_it_is_at(caplog):
    clock, replaced = Clock(), []
    monitor = PassMonitor(lambda: replaced.append(1) is None, clock)
    with monitor.watching("ocid1.a") as watched:
        monitor.at("stopping an instance")
        assert monitor.report_stuck() == 0
        clock.now += STUCK_S
        assert monitor.report_stuck() == 1
        assert monitor.report_stuck() == 1
        assert (watched.is_replaced, len(replaced)) == (True, 1)
        [told] = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
        assert "ocid1.a" in told
        assert "stopping an instance" in told
        clock.now += LOG_AGAIN_S
        monitor.report_stuck()
        assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 2
    assert monitor.report_stuck() == 0
    assert "ended after" in caplog.records[-1].getMessage()


def test_where_nobody_takes_its_place_it_goes_on_as_it_was():
    clock = Clock()
    monitor = PassMonitor(lambda: False, clock)
    with monitor.watching("ocid1.a") as watched:
        clock.now += STUCK_S
        monitor.report_stuck()
    assert not watched.is_replaced


def test_there_is_an_end_to_the_workers_that_are_begun(monkeypatch):
    monkeypatch.setattr("havre.reconciler.pass_monitor.MAX_REPLACED", 1)
    clock, replaced, over = Clock(), [], threading.Event()
    monitor = PassMonitor(lambda: replaced.append(1) is None, clock)
    begun = threading.Barrier(3)

    def work(name: str) -> None:
        with monitor.watching(name):
            begun.wait(10)
            over.wait(10)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    begun.wait(10)
    clock.now += STUCK_S
    assert (monitor.report_stuck(), monitor.report_stuck(), len(replaced)) == (2, 2, 1)
    over.set()
    for thread in threads:
        thread.join()


def test_a_thread_without_a_pass_is_at_nothing():
    PassMonitor(lambda: True).at("nothing")


def test_each_thread_has_a_pass_of_its_own():
    clock, begun, over = Clock(), threading.Event(), threading.Event()
    monitor = PassMonitor(lambda: True, clock)

    def work() -> None:
        with monitor.watching("ocid1.other"):
            begun.set()
            over.wait(10)

    other = threading.Thread(target=work)
    other.start()
    begun.wait(10)
    clock.now += STUCK_S
    with monitor.watching("ocid1.mine"):
        assert monitor.report_stuck() == 1
    over.set()
    other.join()
    assert monitor.report_stuck() == 0
