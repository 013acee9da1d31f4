"""The queue that a server's tail is read beside."""

from bench.ideal import ideal, served
from bench.load.plan import Due, arrivals, every, merged
from bench.workloads import Sample, Workload


def took_ms(at_ms: list[int], *, workers: int, call_ms: int = 10) -> list[float]:
    schedule = [Due(each / 1000, 0) for each in at_ms]
    return [one.took_ms for one in served(schedule, [call_ms / 1000], workers)]


def test_who_finds_a_worker_idle_waits_for_nothing() -> None:
    assert took_ms([0, 5, 20], workers=2) == [10, 10, 10]


def test_who_finds_none_waits_for_the_first_that_is_idle_again() -> None:
    assert took_ms([0, 4, 6, 7], workers=2) == [10, 10, 14, 17]


def test_a_slow_call_keeps_one_worker_and_the_others_answer_the_rest() -> None:
    schedule = [Due(0, 1), *(Due(each / 1000, 0) for each in (1, 2, 3))]
    assert [one.took_ms for one in served(schedule, [0.01, 0.5], 2)] == [500, 10, 19, 28]


def test_only_what_is_watched_counts_and_the_last_percent_is_of_enough_requests() -> None:
    slow = Workload(
        "slow",
        "slow",
        "sleep",
        [Sample([[10.0]], [[10.0]]), Sample([[500.0]], [[500.0]])],
        schedule=lambda seconds: merged(
            arrivals(50, seconds, seed=1), every(1.0, seconds, exchange=1)
        ),
        least_s=60,
        watched=0,
    )
    [best] = ideal(slow, 5)
    assert best["offered"] > 3000
    assert best["correct"] == best["offered"] - 60
    assert best["p50_ms"] == 10
    assert 10 < best["p99_ms"] < best["most_ms"] < 500


def test_there_is_no_ideal_where_more_is_asked_than_anybody_can_answer() -> None:
    calls = [Sample([[10.0]], [[10.0]])]
    flood = Workload(
        "f", "f", "sleep", calls, schedule=lambda seconds: arrivals(600, seconds, seed=1)
    )
    assert list(ideal(flood, 5)) == []
    assert list(ideal(Workload("c", "c", "echo", calls, (1,)), 5)) == []
