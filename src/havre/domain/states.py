"""States, families of states, and the only legal transitions between them.

Imports nothing of ours. Values are the API's own words.
"""

from enum import StrEnum
from typing import TypeVar


class ProjectState(StrEnum):
    ACTIVE = "ACTIVE"
    DELETING = "DELETING"
    DELETED = "DELETED"


class ModelState(StrEnum):
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    FAILED = "FAILED"
    DELETED = "DELETED"


class VersionSetState(StrEnum):
    ACTIVE = "ACTIVE"
    DELETING = "DELETING"
    DELETED = "DELETED"
    FAILED = "FAILED"


class DeploymentState(StrEnum):
    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    UPDATING = "UPDATING"
    INACTIVE = "INACTIVE"
    NEEDS_ATTENTION = "NEEDS_ATTENTION"
    FAILED = "FAILED"
    DELETING = "DELETING"
    DELETED = "DELETED"


class WorkRequestState(StrEnum):
    ACCEPTED = "ACCEPTED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"


class Operation(StrEnum):
    """What a work request does; the API's ``operationType``."""

    MODEL_DEPLOYMENT_CREATE = "MODEL_DEPLOYMENT_CREATE"
    MODEL_DEPLOYMENT_UPDATE = "MODEL_DEPLOYMENT_UPDATE"
    MODEL_DEPLOYMENT_DELETE = "MODEL_DEPLOYMENT_DELETE"
    MODEL_DEPLOYMENT_ACTIVATE = "MODEL_DEPLOYMENT_ACTIVATE"
    MODEL_DEPLOYMENT_DEACTIVATE = "MODEL_DEPLOYMENT_DEACTIVATE"
    PROJECT_DELETE = "PROJECT_DELETE"
    MODELVERSIONSET_DELETE = "MODELVERSIONSET_DELETE"
    CREATE_LOG_GROUP = "CREATE_LOG_GROUP"
    UPDATE_LOG_GROUP = "UPDATE_LOG_GROUP"
    MOVE_LOG_GROUP = "MOVE_LOG_GROUP"
    DELETE_LOG_GROUP = "DELETE_LOG_GROUP"
    CREATE_LOG = "CREATE_LOG"
    UPDATE_LOG = "UPDATE_LOG"
    MOVE_LOG = "MOVE_LOG"
    DELETE_LOG = "DELETE_LOG"


class InstancePhase(StrEnum):
    """What an engine reports of one instance."""

    STARTING = "STARTING"  # its process is up, its model is loading
    READY = "READY"  # at least one copy takes requests
    DEGRADED = "DEGRADED"  # may answer, but must be replaced: its keeper is dead, or hangs
    FAILED = "FAILED"  # will not become ready by itself; `reason` says why
    GONE = "GONE"  # nothing of it runs


OF_LOGGING = frozenset(
    {
        Operation.CREATE_LOG_GROUP,
        Operation.UPDATE_LOG_GROUP,
        Operation.MOVE_LOG_GROUP,
        Operation.DELETE_LOG_GROUP,
        Operation.CREATE_LOG,
        Operation.UPDATE_LOG,
        Operation.MOVE_LOG,
        Operation.DELETE_LOG,
    }
)
"""Log groups and logs have an API of their own, with work requests of its own."""

BUSY = frozenset({DeploymentState.CREATING, DeploymentState.UPDATING, DeploymentState.DELETING})
"""A change is under way."""

SERVING = frozenset(
    {DeploymentState.ACTIVE, DeploymentState.UPDATING, DeploymentState.NEEDS_ATTENTION}
)
"""Its route may be live."""

USES_MODEL = frozenset(set(DeploymentState) - {DeploymentState.DELETED, DeploymentState.FAILED})
"""Its model must stay as it is."""

NAMELESS = frozenset({DeploymentState.FAILED, DeploymentState.DELETING, DeploymentState.DELETED})
"""Another deployment may have its name without being mistaken for it."""

IDLE = frozenset({DeploymentState.INACTIVE, DeploymentState.FAILED, DeploymentState.DELETED})
"""Nothing of it runs, and nothing is to."""

FINISHED = frozenset(
    {WorkRequestState.SUCCEEDED, WorkRequestState.FAILED, WorkRequestState.CANCELED}
)

_D = DeploymentState
DEPLOYMENT_TRANSITIONS: dict[DeploymentState, frozenset[DeploymentState]] = {
    _D.CREATING: frozenset({_D.ACTIVE, _D.FAILED, _D.DELETING}),
    _D.ACTIVE: frozenset({_D.UPDATING, _D.DELETING, _D.NEEDS_ATTENTION}),
    _D.UPDATING: frozenset({_D.ACTIVE, _D.INACTIVE, _D.NEEDS_ATTENTION, _D.FAILED, _D.DELETING}),
    _D.INACTIVE: frozenset({_D.UPDATING, _D.DELETING}),
    _D.NEEDS_ATTENTION: frozenset({_D.ACTIVE, _D.UPDATING, _D.DELETING}),
    _D.FAILED: frozenset({_D.DELETING}),
    _D.DELETING: frozenset({_D.DELETED}),
    _D.DELETED: frozenset(),
}

_W = WorkRequestState
WORK_REQUEST_TRANSITIONS: dict[WorkRequestState, frozenset[WorkRequestState]] = {
    _W.ACCEPTED: frozenset({_W.IN_PROGRESS, _W.CANCELING, _W.CANCELED, _W.FAILED}),
    _W.IN_PROGRESS: frozenset({_W.SUCCEEDED, _W.FAILED, _W.CANCELING, _W.CANCELED}),
    _W.CANCELING: frozenset({_W.CANCELED, _W.SUCCEEDED, _W.FAILED}),
    _W.SUCCEEDED: frozenset(),
    _W.FAILED: frozenset(),
    _W.CANCELED: frozenset(),
}

S = TypeVar("S", DeploymentState, WorkRequestState)


class IllegalTransition(Exception):
    """A bug of ours: nothing that a client does may lead here."""


def transition(current: S, to: S) -> S:
    """``to``, if it is a legal state after ``current``; staying is always legal.

    Raises IllegalTransition.
    """
    transitions: dict[S, frozenset[S]] = (
        DEPLOYMENT_TRANSITIONS if isinstance(current, DeploymentState) else WORK_REQUEST_TRANSITIONS
    )
    if to != current and to not in transitions[current]:
        raise IllegalTransition(f"{type(current).__name__} {current} -> {to}")
    return to
