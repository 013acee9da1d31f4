"""What a load saw while something happened, as a row of a table."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.e2e.load import OK, Outcome

COLUMNS = ("what happened", "requests", "failed", "longest gap", "recovery", "failures")


@dataclass(frozen=True, slots=True)
class Row:
    """``gap_s`` is the longest time between two successes, ``recovery_s`` that from the beginning
    until everything was as it should be.
    """

    what: str
    requests: int
    failed: Counter[str]
    gap_s: float
    recovery_s: float

    def cells(self) -> tuple[str, ...]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.failed.items()))
        times = f"{self.gap_s * 1e3:.0f} ms", f"{self.recovery_s:.1f} s"
        return (self.what, str(self.requests), str(self.failed.total()), *times, kinds)


def row(what: str, outcomes: Sequence[Outcome], *, began: float, ended: float) -> Row:
    """Of the outcomes of one load between two moments (monotonic seconds)."""
    successes = sorted(outcome.ended for outcome in outcomes if outcome.what == OK)
    moments = [began, *(each for each in successes if each > began), ended]
    return Row(
        what,
        requests=len(outcomes),
        failed=Counter(outcome.what for outcome in outcomes if outcome.what != OK),
        gap_s=max(after - before for before, after in pairwise(moments)),
        recovery_s=ended - began,
    )


def summary(rows: Iterable[Row]) -> list[Row]:
    """One row for all that happened of the same name: sums, and the worst times."""
    by_name: dict[str, list[Row]] = {}
    for each in rows:
        by_name.setdefault(each.what, []).append(each)
    return [
        Row(
            f"{what} ({len(same)}x)" if len(same) > 1 else what,
            requests=sum(each.requests for each in same),
            failed=sum((each.failed for each in same), Counter()),
            gap_s=max(each.gap_s for each in same),
            recovery_s=max(each.recovery_s for each in same),
        )
        for what, same in by_name.items()
    ]


def table(rows: Iterable[Row]) -> str:
    """In Markdown, for a terminal and for a page alike."""
    cells = [COLUMNS, *(each.cells() for each in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True))
        + " |"
        for each in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
