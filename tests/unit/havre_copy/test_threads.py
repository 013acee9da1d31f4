"""Threads that need not be in a fork are ended; others are told by name, and whose they are."""

import threading

from tqdm import tqdm

from havre_copy import threads


def test_a_progress_bars_monitor_is_ended_and_the_next_bar_has_another() -> None:
    tqdm.monitor_interval = 10  # what another test may have set
    list(tqdm(range(2), disable=False, file=open("/dev/null", "w")))  # noqa: SIM115
    monitor = tqdm.monitor
    assert monitor.is_alive()
    names, ignored = threads.end_idle_threads()
    assert not monitor.is_alive()
    assert (ignored, [name for name in names if "tqdm" in name]) == (0, [])
    list(tqdm(range(2), file=open("/dev/null", "w")))  # noqa: SIM115
    assert tqdm.monitor is not monitor
    threads.end_idle_threads()


def test_other_threads_are_reported_by_name_and_owner() -> None:
    over = threading.Event()

    def wait() -> None:
        over.wait()

    thread = threading.Thread(target=wait, name="keeps-warm", daemon=True)
    thread.start()
    try:
        names, _ = threads.end_idle_threads()
        assert f"keeps-warm of {__name__}" in names
        assert thread.is_alive()
    finally:
        over.set()
        thread.join()


def test_this_process_is_not_deadlocked() -> None:
    assert not threads.is_deadlocked(1 << 30)  # there is none
    assert threads.count_threads() >= 1
    assert threads.lost_in_forks() == ""
