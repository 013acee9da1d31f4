"""The order of an entry among those of its log: its *position*, an epoch µs.

The clock of entries has milliseconds, and a request prints many lines in one. So the position is
the entry's time and, below the millisecond, its rank among the lines printed before it. Sorted by
it, or by the time that records show, lines come in the order in which they were printed.
"""

from collections.abc import Iterator, Sequence

US = 1000
"""µs in a millisecond."""
PUT_BACK_US = 1_000_000
"""A position so far ahead was given before the clock was set back."""


def positions_of(times_ms: Sequence[int], *, after: int, now_ms: int) -> Iterator[int]:
    """A position for each entry of a file, in the file's order; ``after`` is the position of the
    file's last entry before these, 0 if there is none.

    They increase: a time later than that of the next entry is lowered, one earlier than that of
    the entry before is raised.
    """
    lowered: list[int] = []
    for time_ms in reversed(times_ms):
        lowered.append(min(time_ms, lowered[-1]) if lowered else time_ms)
    last = after if after < now_ms * US + PUT_BACK_US else 0
    for time_ms in reversed(lowered):
        last = max(time_ms * US, last + 1)
        yield last
