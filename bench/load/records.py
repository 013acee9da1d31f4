"""What the load generator recorded, and what it comes to."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from bench.figures import percentile

RECORD = struct.Struct("<QQQIhBx")
REFUSALS = (429, 503)


class Verdict(IntEnum):
    """As in load.c."""

    CORRECT = 0
    STATUS = 1
    WRONG = 2
    BROKEN = 3
    UNANSWERED = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One request. Times are nanoseconds from the start of the load."""

    due: int
    sent: int
    done: int
    exchange: int
    status: int
    verdict: Verdict

    @property
    def took_ms(self) -> float:
        """From when it was due to its answer."""
        return (self.done - self.due) / 1e6


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load came to. Counts of requests; times in milliseconds.

    ``refused``: answered 429 or 503. ``wrong``: 200 with another answer than the right one.
    ``failed``: any other status, a broken connection, or no answer. ``late_p99_ms``: how long
    after it was due the generator sent a request. ``per_second``: correct answers.
    """

    correct: int
    refused: int
    wrong: int
    failed: int
    per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    most_ms: float
    refused_p99_ms: float
    late_p99_ms: float

    @property
    def answered(self) -> int:
        return self.correct + self.refused + self.wrong + self.failed

    @property
    def is_clean(self) -> bool:
        return not (self.refused or self.wrong or self.failed)

    def must_be_clean(self) -> "Outcome":
        """Itself. Ends the measurement (SystemExit) if an answer was not the right one."""
        if not self.is_clean:
            raise SystemExit(f"not every answer was right: {self}")
        return self


def read(path: Path) -> list[Record]:
    return [
        Record(due, sent, done, exchange, status, Verdict(verdict))
        for due, sent, done, exchange, status, verdict in RECORD.iter_unpack(path.read_bytes())
    ]


def outcome(records: Sequence[Record], seconds: float | None = None) -> Outcome:
    """``seconds``: how long the load was offered; without it, until the last answer."""
    correct = [one for one in records if one.verdict is Verdict.CORRECT]
    refused = [one for one in records if one.verdict is Verdict.STATUS and one.status in REFUSALS]
    wrong = sum(one.verdict is Verdict.WRONG for one in records)
    took = sorted(one.took_ms for one in correct)
    lasted = seconds or max((one.done for one in records), default=0) / 1e9
    return Outcome(
        correct=len(correct),
        refused=len(refused),
        wrong=wrong,
        failed=len(records) - len(correct) - len(refused) - wrong,
        per_second=len(correct) / lasted if lasted else 0.0,
        p50_ms=percentile(took, 50),
        p90_ms=percentile(took, 90),
        p99_ms=percentile(took, 99),
        most_ms=took[-1] if took else float("nan"),
        refused_p99_ms=percentile(sorted(one.took_ms for one in refused), 99),
        late_p99_ms=percentile(sorted((one.sent - one.due) / 1e6 for one in records), 99),
    )
