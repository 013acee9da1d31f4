"""States, families of states, and the only legal moves between them.

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
    """What an engine says of one instance."""

    STARTING = "STARTING"  # its process is up, its model is loading
    READY = "READY"  # at least one copy takes requests
    DEGRADED = "DEGRADED"  # may answer, but needs replacing: its keeper is dead, or hangs
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

FINISHED = frozenset(
    {WorkRequestState.SUCCEEDED, WorkRequestState.FAILED, WorkRequestState.CANCELED}
)

_D = DeploymentState
DEPLOYMENT_MOVES: dict[DeploymentState, frozenset[DeploymentState]] = {
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
WORK_REQUEST_MOVES: dict[WorkRequestState, frozenset[WorkRequestState]] = {
    _W.ACCEPTED: frozenset({_W.IN_PROGRESS, _W.CANCELING, _W.CANCELED, _W.FAILED}),
    _W.IN_PROGRESS: frozenset({_W.SUCCEEDED, _W.FAILED, _W.CANCELING, _W.CANCELED}),
    _W.CANCELING: frozenset({_W.CANCELED, _W.SUCCEEDED, _W.FAILED}),
    _W.SUCCEEDED: frozenset(),
    _W.FAILED: frozenset(),
    _W.CANCELED: frozenset(),
}

S = TypeVar("S", DeploymentState, WorkRequestState)


class IllegalMove(Exception):
    """A bug of ours: nothing a caller does may lead here."""


def move(current: S, to: S) -> S:
    """The state after moving from ``current`` to ``to``; staying is always legal.

    Raises IllegalMove if the table does not have the move.
    """
    moves: dict[S, frozenset[S]] = (
        DEPLOYMENT_MOVES if isinstance(current, DeploymentState) else WORK_REQUEST_MOVES
    )
    if to != current and to not in moves[current]:
        raise IllegalMove(f"{type(current).__name__} {current} -> {to}")
    return to
