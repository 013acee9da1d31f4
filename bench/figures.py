"""Percentiles, and medians over rounds."""

import math
import statistics
from collections.abc import Iterable, Sequence


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of all do not exceed; NaN of nothing."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Iterable[float]) -> float:
    """NaN stands for a round without a value and is left out; NaN if none has one."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan
