"""Whether the copies of a model fit their shape's memory, in words. Pure."""

from havre.domain.deployment import DeploymentSpec
from havre.domain.instance import InstanceStatus
from havre.domain.shape import GIB


def memory_note(status: InstanceStatus, spec: DeploymentSpec) -> list[str]:
    """A line with the figures and a remedy if the copies need more than the shape has, else none.

    What all copies share counts once; what each adds counts once per copy.
    """
    if status.memory_bytes <= 0:
        return []
    needed = status.shared_bytes + spec.copies * status.memory_bytes
    if needed <= spec.shape.memory_bytes:
        return []
    fitting = max(1, (spec.shape.memory_bytes - status.shared_bytes) // status.memory_bytes)
    return [
        f"Warning: {spec.copies} copies need {needed / GIB:.1f} GB "
        f"({status.shared_bytes / GIB:.1f} GB shared and {status.memory_bytes / GIB:.2f} GB each), "
        f"the shape has {spec.shape.memory_gb:g} GB. Set the environment variable WEB_CONCURRENCY "
        f"to {fitting} or less, or choose a shape with at least {needed / GIB:.0f} GB."
    ]
