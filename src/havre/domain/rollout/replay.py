"""Compares a new revision's responses to replayed live requests with the old one's. Pure."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from havre.domain.rollout.canary import in_ms, is_slower
from havre.domain.rollout.policy import Replay


@dataclass(frozen=True, slots=True)
class Response:
    """``status`` 0: there was no response."""

    status: int
    body: bytes
    took_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """``first_difference`` counts requests from 1; 0: all responses are equal. Medians are in
    seconds, of the responses that there were. ``unanswered``: by the new revision alone.
    """

    requests: int
    equal: int
    first_difference: int
    old_median_s: float
    new_median_s: float
    unanswered: int = 0

    def __str__(self) -> str:
        differ = self.requests - self.equal
        first = f" (the first is request {self.first_difference})" if differ else ""
        if self.unanswered:
            first += f", {self.unanswered} of them got no response"
        return (
            f"{self.equal} of {self.requests} responses are equal, {differ} differ{first}; "
            f"median {in_ms(self.new_median_s)}, was {in_ms(self.old_median_s)}"
        )

    def violated_limit(self, replay: Replay) -> str:
        """The limit that the new revision exceeds, with the figures; "" if none.

        What the old one answered the new one must answer, too, in time and without dying.
        """
        if self.unanswered:
            return f"the replay stopped the rollout: {self}"
        if replay.equal is not None and self.equal < replay.equal * self.requests:
            limit = f"equal={100 * replay.equal:g}%"
            return f"the replay stopped the rollout: {self}; {limit} is the limit"
        if replay.slowdown is not None and is_slower(
            self.new_median_s, self.old_median_s, replay.slowdown
        ):
            return (
                f"the replay stopped the rollout: {self}; slowdown={replay.slowdown:g} is the limit"
            )
        return ""


def compare(
    old: Iterable[Response], new: Iterable[Response], *, tolerance: float = 1e-9
) -> Comparison:
    """Both revisions' responses to the same requests, at least one. Of each pair only the outcome
    is kept, so that the bodies need not all be in memory at once.
    """
    equal: list[bool] = []
    old_s: list[float] = []
    new_s: list[float] = []
    unanswered = 0
    for before, after in zip(old, new, strict=True):
        equal.append(_are_equal(before, after, tolerance))
        old_s += [before.took_s] if before.status else []
        new_s += [after.took_s] if after.status else []
        unanswered += before.status != 0 and after.status == 0
    return Comparison(
        requests=len(equal),
        equal=sum(equal),
        first_difference=equal.index(False) + 1 if False in equal else 0,
        old_median_s=median(old_s or [0.0]),
        new_median_s=median(new_s or [0.0]),
        unanswered=unanswered,
    )


def _are_equal(old: Response, new: Response, tolerance: float) -> bool:
    """JSON is compared as values: the order of keys, and how a number is written, is ignored."""
    if old.status != new.status:
        return False
    if old.body == new.body:
        return True
    # Equal bodies have equally many commas and brackets, or some of them as escapes: a body with
    # many more has other values, and parsing it is not worth the memory.
    if _parts(new.body) > _parts(old.body) + old.body.count(b"\\"):
        return False
    try:
        return _are_same(json.loads(old.body), json.loads(new.body), tolerance)
    except (ValueError, RecursionError):
        return False


def _parts(body: bytes) -> int:
    return sum(map(body.count, (b",", b"[", b"{")))


def _are_same(old: Any, new: Any, tolerance: float) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(
            _are_same(value, new[key], tolerance) for key, value in old.items()
        )
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(
            _are_same(before, after, tolerance) for before, after in zip(old, new, strict=True)
        )
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, float) or isinstance(new, float):
        return _are_near(old, new, tolerance)
    return bool(old == new)


def _are_near(old: Any, new: Any, tolerance: float) -> bool:
    """Two numbers, one of them not whole; of whole ones each unit counts."""
    if not isinstance(old, int | float) or not isinstance(new, int | float):
        return False
    try:
        both_nan = math.isnan(old) and math.isnan(new)
        return both_nan or math.isclose(old, new, rel_tol=tolerance)
    except OverflowError:  # a whole number beyond all floats
        return old == new
