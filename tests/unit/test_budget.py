"""A ring that takes half as much again as it may is found."""

from collections import Counter

from tests.support.budget import BUDGET_S, exceeded
from tests.support.documents import ROOT


def test_a_ring_over_its_budget_by_more_than_half_is_named() -> None:
    spent = Counter({"unit": 1.6 * BUDGET_S["unit"], "e2e": 1.4 * BUDGET_S["e2e"]})
    assert exceeded(spent, 1.0) == {"unit"}


def test_a_slower_machine_has_more_time() -> None:
    spent = Counter({"unit": 1.6 * BUDGET_S["unit"]})
    assert exceeded(spent, 1.1) == set()


def test_every_ring_has_a_budget_and_the_contributor_is_told_it() -> None:
    rings = {path.parent.name for path in (ROOT / "tests").glob("*/**/test_*.py")}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert BUDGET_S.keys() == rings & folders
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for ring, seconds in BUDGET_S.items():
        assert f"| `tests/{ring}/` | {seconds} |" in told
