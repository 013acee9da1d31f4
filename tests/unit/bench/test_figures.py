"""The statistics behind the tables."""

import math

import pytest
from bench.figures import median, percentile


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.1, 100), (100, 100)]
)
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(percent: float, value: int) -> None:
    assert percentile(range(1, 101), percent) == value


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 50))


def test_rounds_without_a_value_are_left_out_of_the_median() -> None:
    assert median([3.0, math.nan, 1.0, 2.0]) == 2.0
    assert math.isnan(median([math.nan]))
