"""What the replay of live requests says of a new revision. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from havre.domain.canary import in_ms, is_slower
from havre.domain.policy import Replay


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` 0: there was none."""

    status: int
    body: bytes
    took_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """``first_difference`` counts requests from 1; 0: all are equal. Medians are in seconds."""

    requests: int
    equal: int
    first_difference: int
    old_median_s: float
    new_median_s: float

    def __str__(self) -> str:
        differ = self.requests - self.equal
        first = f" (the first is request {self.first_difference})" if differ else ""
        return (
            f"{self.equal} of {self.requests} answers are equal, {differ} differ{first}; "
            f"median {in_ms(self.new_median_s)}, was {in_ms(self.old_median_s)}"
        )

    def exceeded(self, replay: Replay) -> str:
        """Which limit the new revision is beyond, with the figures; "" if none."""
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


def compare(old: Sequence[Answer], new: Sequence[Answer]) -> Comparison:
    """Both sides' answers to the same requests, at least one."""
    equal = [_are_equal(before, after) for before, after in zip(old, new, strict=True)]
    return Comparison(
        requests=len(equal),
        equal=sum(equal),
        first_difference=equal.index(False) + 1 if False in equal else 0,
        old_median_s=median(each.took_s for each in old),
        new_median_s=median(each.took_s for each in new),
    )


def _are_equal(old: Answer, new: Answer) -> bool:
    """JSON is compared as values: the order of keys, or how a number is written, is no matter."""
    if old.status != new.status:
        return False
    return old.body == new.body or _value(old.body) == _value(new.body) != _NO_JSON


_NO_JSON = object()


def _value(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return _NO_JSON
