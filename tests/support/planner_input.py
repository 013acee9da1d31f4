"""Words and routes for tests of the planner."""

from havre.domain.rollout.planner_input import DesiredRevision, ObservedRoute
from havre.domain.states import InstancePhase

READY, STARTING, FAILED, GONE, DEGRADED = (
    InstancePhase.READY,
    InstancePhase.STARTING,
    InstancePhase.FAILED,
    InstancePhase.GONE,
    InstancePhase.DEGRADED,
)


def route(target: DesiredRevision, *names: str) -> ObservedRoute:
    """What is published of a revision when these instances serve it."""
    return ObservedRoute(
        target.revision,
        frozenset(names),
        target.requests_per_instance * len(names),
        target.bandwidth_mbps,
    )
