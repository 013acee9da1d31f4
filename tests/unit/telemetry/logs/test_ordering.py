"""Entries of one file: their positions grow, whatever their clock says."""

from hypothesis import given
from hypothesis import strategies as st

from havre.telemetry.logs.ordering import US, positions_of

NOW = 1_795_600_800_000


def given_to(times_ms: list[int], after: int = 0) -> list[int]:
    return list(positions_of(times_ms, after=after, now_ms=NOW))


def test_lines_of_one_millisecond_are_told_apart_and_keep_their_time() -> None:
    assert given_to([NOW, NOW, NOW + 1]) == [NOW * US, NOW * US + 1, (NOW + 1) * US]
    assert given_to([NOW], after=NOW * US + 4) == [NOW * US + 5]


def test_a_time_that_is_not_in_order_gives_way_to_what_follows_and_to_what_was_before() -> None:
    assert given_to([NOW, NOW - 9, NOW - 9]) == [
        (NOW - 9) * US,
        (NOW - 9) * US + 1,
        (NOW - 9) * US + 2,
    ]
    assert given_to([NOW - 5], after=NOW * US) == [NOW * US + 1]


def test_a_clock_that_was_put_back_is_believed() -> None:
    assert given_to([NOW], after=(NOW + 3_600_000) * US) == [NOW * US]


@given(
    st.lists(st.integers(NOW - 100, NOW), max_size=60),
    st.integers(0, 60),
    st.integers(NOW - 200, NOW),
)
def test_totals_grow_over_any_observations(times: list[int], cut: int, latest: int) -> None:
    first = given_to(times[:cut], latest * US)
    rest = given_to(times[cut:], first[-1] if first else latest * US)
    found = [latest * US, *first, *rest]
    assert found == sorted(set(found))
    assert all(position < (NOW + 1) * US for position in found)
