"""Histograms of predict times: what is read from them, and what is between two looks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from havre.domain.latency import BOUNDS_S, BUCKETS, Latency
from havre_copy import slots


def of(*times_s: float) -> Latency:
    """As a copy counts them."""
    counts = [0] * BUCKETS
    for time_s in times_s:
        counts[sum(time_s >= bound for bound in BOUNDS_S)] += 1
    return Latency(tuple(counts), sum(times_s))


def test_copies_count_in_the_same_buckets() -> None:
    assert [bound / 1e9 for bound in slots.BOUNDS] == list(BOUNDS_S)
    assert slots.LATENCY + BUCKETS <= 64 - 8, "the words of a slot, less the request's id"
    assert (BOUNDS_S[0], len(BOUNDS_S)) == (50e-6, 42)
    assert 60 < BOUNDS_S[-1] < 90


def test_a_latency_of_no_requests_is_unknown() -> None:
    assert (Latency().count, Latency().mean_s, Latency().quantile(0.99)) == (0, 0.0, 0.0)


@given(
    st.lists(st.floats(50e-6, 70), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_a_quantile_is_right_within_its_bucket(times: list[float], share: float) -> None:
    exact = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)]
    told = of(*times).quantile(share)
    assert exact / 1.42 <= told <= exact * 1.42


def test_what_is_faster_and_slower_than_all_bounds() -> None:
    assert 0 < of(1e-6, 1e-6).quantile(0.5) < 50e-6
    assert of(500.0).quantile(0.5) == BOUNDS_S[-1]
    assert of(500.0).mean_s == 500.0


@given(st.lists(st.floats(0, 90), max_size=20), st.lists(st.floats(0, 90), max_size=20))
def test_plus_and_minus_undo_each_other(first: list[float], second: list[float]) -> None:
    both = of(*first).plus(of(*second))
    assert both.count == len(first) + len(second)
    since = both.minus(of(*first))
    assert since.counts == of(*second).counts
    assert since.total_s == pytest.approx(sum(second))


def test_an_instance_that_began_anew_counts_from_nothing() -> None:
    assert of(1.0).minus(of(2.0, 2.0)) == of(1.0)
