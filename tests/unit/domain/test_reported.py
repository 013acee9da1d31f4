"""What an instance reports is believed as far as it can be true."""

from typing import Any

import pytest

from havre.domain import reported


@pytest.mark.parametrize("value", [0, 1, 7, reported.MAX_COUNT])
def test_a_count_is_a_count(value: int) -> None:
    assert reported.count(value) == value


@pytest.mark.parametrize(
    "value",
    [
        *(-1, reported.MAX_COUNT + 1, 10**400, 1.0, True, None, "1", [1], {}),
        *(float("nan"), float("inf")),
    ],
)
def test_what_counts_nothing_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        reported.count(value)


@pytest.mark.parametrize(
    "value", [-0.1, float("nan"), float("inf"), -float("inf"), 1e300, 10**400, True, None, "1", []]
)
def test_what_measures_nothing_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        reported.seconds(value)


def test_a_measure_may_be_whole() -> None:
    assert (reported.seconds(2), reported.seconds(0.5)) == (2.0, 0.5)


def test_text_is_cut_and_made_such_as_can_be_kept_and_shown() -> None:
    assert reported.text("a\tb\nc é …", 100) == "a\tb\nc é …"
    assert reported.text("x" * 11, 10) == "x" * 9 + "…"
    assert reported.text("\x00\x1b[2J\r\ud800\x9b", 100) == "��[2J���"
    with pytest.raises(TypeError):
        reported.text(b"bytes", 10)
