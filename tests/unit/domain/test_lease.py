"""The rules of the lease, with the clock passed in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from havre.domain.lease import (
    TERM_S,
    Candidate,
    Lease,
    LeaseObserver,
    acquire,
    acts_until,
    renew,
)

NOW = datetime(2026, 3, 4, tzinfo=UTC)
A, B = Candidate("a", "http://a"), Candidate("b", "http://b")


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def of_a() -> Lease:
    acquired = acquire(Lease(), A, NOW)
    assert acquired is not None
    return acquired


def test_the_first_to_come_takes_it(of_a):
    assert of_a == Lease("a", 1, "http://a", later(TERM_S))


def test_another_home_takes_it_when_it_has_run_out_and_not_before(of_a):
    assert acquire(of_a, B, later(TERM_S - 0.001)) is None
    assert acquire(of_a, B, later(TERM_S)) == Lease("b", 2, "http://b", later(2 * TERM_S))


def test_a_home_that_starts_anew_takes_its_own_at_once_under_a_new_token(of_a):
    assert acquire(of_a, A, later(1)) == Lease("a", 2, "http://a", later(1 + TERM_S))


def test_renewing_prolongs_and_keeps_the_token_even_when_it_had_run_out(of_a):
    for moment in (1, 100):
        renewed = renew(of_a, A, 1, later(moment))
        assert renewed == replace(of_a, expires=later(moment + TERM_S))


def test_what_was_taken_since_cannot_be_renewed(of_a):
    of_b = acquire(of_a, B, later(TERM_S))
    assert of_b is not None
    assert renew(of_b, A, of_a.token, later(TERM_S)) is None
    again = acquire(of_a, A, later(1))
    assert again is not None
    assert renew(again, A, of_a.token, later(1)) is None


def test_where_no_other_home_can_be_it_never_runs_out():
    own = Candidate("a", "http://a", term_s=None)
    acquired = acquire(Lease(), own, NOW)
    assert acquired is not None
    assert acquired.is_held(later(1e9))
    # The database's file was copied into another home.
    assert acquire(acquired, replace(own, home_id="b"), NOW) == Lease("b", 2, "http://a", None)


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B]), st.booleans(), st.floats(0, 5), st.floats(0, 20)),
        max_size=30,
    )
)
def test_two_homes_never_act_at_the_same_time(steps):
    """Answers of the database take their time, and so does the next question."""
    lease, now = Lease(), 0.0
    tokens, until = {"a": 0, "b": 0}, {"a": 0.0, "b": 0.0}
    takers = {}
    for home, renews, answer_s, pause_s in steps:
        asked, now = now, now + answer_s
        change = (
            renew(lease, home, tokens[home.home_id], later(now))
            if renews
            else acquire(lease, home, later(now))
        )
        if change is not None:
            lease = change
            tokens[home.home_id] = change.token
            until[home.home_id] = acts_until(asked, TERM_S)
            assert takers.setdefault(change.token, home) == home
        assert {each for each in "ab" if now < until[each]} <= {lease.holder}
        now += pause_s
    assert list(takers) == sorted(takers)


def watched(observer: LeaseObserver, lease: Lease, seconds: list[float]) -> list[bool]:
    return [observer.has_expired_unrenewed(lease, at, TERM_S) for at in seconds]


def waits_from(observer: LeaseObserver, lease: Lease, start: float) -> bool:
    """Whether it has waited after a term of looks, the first of them now, and not before."""
    looks = [start + 2 * number for number in range(int(TERM_S / 2))]
    early = [observer.has_expired_unrenewed(lease, at, TERM_S) for at in looks]
    return not any(early) and observer.has_expired_unrenewed(lease, start + TERM_S, TERM_S)


def test_a_standby_waits_a_whole_term_that_it_has_watched(of_a):
    observer = LeaseObserver()
    assert waits_from(observer, of_a, 10.0)
    assert waits_from(observer, replace(of_a, expires=later(TERM_S + 1)), 12.0 + TERM_S)


def test_a_standby_that_could_not_look_has_not_watched(of_a):
    observer = LeaseObserver()
    assert not observer.has_expired_unrenewed(of_a, 10.0, TERM_S)
    observer.interrupt()  # the database was away
    assert waits_from(observer, of_a, 11.0)
    # Asleep, or kept waiting for an answer that came after all.
    assert waits_from(observer, of_a, 100.0)
