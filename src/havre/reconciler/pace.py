"""When to look again: soon while something is on its way, rarely when all is well. Pure."""

from collections.abc import Sequence

from havre.domain.actions import Action
from havre.domain.observed import Preparation, Seen, Wanted
from havre.domain.states import InstancePhase

AT_ONCE = 0.0
SHORTEST_S, LONGEST_S, GROWTH = 0.01, 0.25, 1.3
"""While a model loads: often at first (a small one is there in a fraction of a second)."""
PREPARING_S = 5.0
"""The preparation wakes us itself; this only catches what it may have missed."""
STEADY_S = 10.0
"""Processes that end wake us too; this finds keepers that live but have given up."""


def next_look_s(
    wanted: Wanted, seen: Seen, actions: Sequence[Action], *, quiet_passes: int, pause_s: float
) -> float:
    """Seconds until the next pass. ``pause_s`` is what is left of a back-off, 0 if none."""
    if actions:
        return AT_ONCE
    is_moving = any(
        each.phase is InstancePhase.STARTING
        or seen.route is None
        or each.id not in seen.route.instances
        for each in seen.instances
    )
    if is_moving:
        return float(min(LONGEST_S, SHORTEST_S * GROWTH ** min(quiet_passes, 50)))
    if pause_s > 0:
        return pause_s
    if wanted.run and seen.preparation is Preparation.RUNNING:
        return PREPARING_S
    return STEADY_S
