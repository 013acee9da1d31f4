"""How long predictions take: histograms that can be added and subtracted. Pure."""

from dataclasses import dataclass

BOUNDS_S = tuple(round(50_000 * 2 ** (number / 2)) / 1e9 for number in range(42))
"""Upper bounds of the buckets in seconds, 50 µs to 74 s, each 1.41 times the one before; one more
bucket is for what took longer. The copies have the same bounds: havre_copy.slots."""
BUCKETS = len(BOUNDS_S) + 1


@dataclass(frozen=True, slots=True)
class Latency:
    """Calls of ``predict()`` that returned, by how long they took; those that raised are not in it.

    ``counts`` has one number per bucket of `BOUNDS_S`, ``total_s`` is the sum of all times, exact.
    Of a stream the time until its first part counts. Queueing, reading the request and sending the
    response do not.
    """

    counts: tuple[int, ...] = (0,) * BUCKETS
    total_s: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean_s(self) -> float:
        """0 where nothing was counted."""
        return self.total_s / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The time that this share (0 to 1) of the calls did not exceed, 0 where none was counted.

        Between the bounds of a bucket it is interpolated: at most 1.41 times too much or too little
        from 50 µs on. Beyond the last bound it is that bound.
        """
        rank = share * self.count
        passed = 0
        for bucket, count in enumerate(self.counts):
            if count and passed + count >= rank:
                if bucket == len(BOUNDS_S):
                    break
                low = BOUNDS_S[bucket - 1] if bucket else 0.0
                return low + (BOUNDS_S[bucket] - low) * max(0.0, rank - passed) / count
            passed += count
        return BOUNDS_S[-1] if self.count else 0.0

    def beyond(self, seconds: float) -> float:
        """How many calls took longer; within a bucket it is interpolated."""
        longer = 0.0
        for bucket, count in enumerate(self.counts):
            low = BOUNDS_S[bucket - 1] if bucket else 0.0
            if seconds <= low:
                longer += count
            elif bucket < len(BOUNDS_S) and seconds < BOUNDS_S[bucket]:
                longer += count * (BOUNDS_S[bucket] - seconds) / (BOUNDS_S[bucket] - low)
        return longer

    def plus(self, other: "Latency") -> "Latency":
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Latency(counts, self.total_s + other.total_s)

    def minus(self, earlier: "Latency") -> "Latency":
        """What was counted since an earlier reading of the same instance.

        If a count has fallen the instance was restarted in between: then all of it.
        """
        counts = tuple(a - b for a, b in zip(self.counts, earlier.counts, strict=True))
        if min(counts) < 0:
            return self
        return Latency(counts, max(0.0, self.total_s - earlier.total_s))
