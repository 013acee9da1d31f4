"""When the next pass is due: soon while something is changing, rarely when all is well. Pure."""

from collections.abc import Sequence

from havre.domain.rollout.actions import Action
from havre.domain.rollout.planner_input import Desired, Observed, Stage
from havre.domain.states import InstancePhase

AT_ONCE = 0.0
MIN_S, MAX_S, GROWTH = 0.01, 0.25, 1.3
"""While a model loads: often at first (a small one is ready in a fraction of a second)."""
PREPARING_S = 5.0
"""The preparation wakes us itself; this is for a wake-up that was lost."""
STEADY_S = 5.0
"""Processes that end wake us, too; this finds keepers that live but hang: within ten seconds,
with the time it takes to be sure of it (`silence`)."""


def next_pass_s(
    desired: Desired,
    observed: Observed,
    actions: Sequence[Action],
    *,
    quiet_passes: int,
    pause_s: float,
    is_silent: bool = False,
) -> float:
    """Seconds until the next pass. ``pause_s`` is what is left of a back-off, 0 if none.

    ``is_silent``: a keeper has not answered.
    """
    if actions:
        return AT_ONCE
    is_changing = any(
        instance.phase is InstancePhase.STARTING
        or observed.route is None
        or instance.id not in observed.route.instances
        for instance in observed.instances
    )
    if is_changing:
        return float(min(MAX_S, MIN_S * GROWTH ** min(quiet_passes, 50)))
    if is_silent:
        return MAX_S
    if pause_s > 0:
        return pause_s
    if desired.run and observed.preparation.stage is Stage.RUNNING:
        return PREPARING_S
    return STEADY_S
