from collections import Counter

from tests.chaos.report import Row, row, summary, table
from tests.e2e.load import OK, Outcome

OUTCOMES = [
    Outcome(OK, 9.0, 0.5),  # answered before it began: no gap of this window
    Outcome(OK, 10.0, 0.5),
    Outcome("500 InternalServerError", 10.5, 0.5),
    Outcome(OK, 11.0, 1.5),
]


def test_the_gap_is_between_successes_and_the_ends_of_the_window() -> None:
    told = row("a copy", OUTCOMES, began=10.0, ended=13.0)
    assert told == Row("a copy", 4, Counter({"500 InternalServerError": 1}), 2.0, 3.0)
    assert row("silence", [], began=10.0, ended=13.0).gap_s == 3.0


def test_a_summary_adds_up_and_keeps_the_worst() -> None:
    first = row("a copy", OUTCOMES, began=10.0, ended=13.0)
    second = row("a copy", OUTCOMES[:2], began=10.0, ended=15.0)
    [both] = summary([first, second])
    assert both == Row("a copy (2x)", 6, first.failed, 4.5, 5.0)
    assert table([both]).splitlines()[-1].startswith("| a copy (2x)   | 6        | 1      |")
