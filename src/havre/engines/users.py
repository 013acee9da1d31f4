"""Which user a model's processes run as, where that is to be decided.

Decides only. See docs/explanation/isolation.md.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from havre.supervisor.protocol import User
from havre.unprivileged import may_change_mounts, obstacles, why_not_separate_users

NEVER, UNAVOIDABLE, ALLOWED = "never", "unavoidable", "allowed"
AS_ROOT = (NEVER, UNAVOIDABLE, ALLOWED)
"""When a model may run as root: the setting `models_as_root`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """``user`` is None for havre's own; ``refusal`` is why the model may not run at all then.

    ``opened`` are folders closed to the user that its view must lead through. ``note`` is for the
    deployment's owner.
    """

    user: User | None = None
    opened: tuple[str, ...] = ()
    note: str = ""
    refusal: str = ""


def choose(own: User, *, passed: Sequence[Path], read: Sequence[Path], as_root: str) -> Choice:
    """The deployment's own user, if there can be one that reaches these paths.

    ``passed`` must be passable, ``read`` readable. Looks at the machine's files.
    """
    why = why_not_separate_users()
    if not why:
        opened, closed = _look(passed, read)
        if not closed and (not opened or may_change_mounts()):
            return Choice(user=own, opened=opened)
        why = closed or f"{opened[0]} is closed to other users, and no view can be made around it"
        if as_root != ALLOWED:
            return Choice(
                refusal=f"the model would have to run as root: {why}. Move what is needed to where "
                "other users can read it, such as /opt, or open the folder to them with "
                '`chmod o+x`; or let such models run as root: models_as_root = "allowed"'
            )
    elif os.geteuid() != 0:
        return Choice(note=f"the model runs as the server's own user: {why}")
    elif as_root == NEVER:
        return Choice(
            refusal=f"the model would have to run as root, which models_as_root forbids: {why}"
        )
    return Choice(note=f"the model runs as the server's own user, root, without its powers: {why}")


def _look(passed: Sequence[Path], read: Sequence[Path]) -> tuple[tuple[str, ...], str]:
    """The outermost closed folders on the way, and what cannot be helped, as a sentence."""
    folders: set[Path] = set()
    for path, is_read in [*((path, False) for path in passed), *((path, True) for path in read)]:
        for obstacle in obstacles(path, is_read=is_read):
            if not os.path.lexists(obstacle.part):
                continue  # starting it fails with the reason
            if not obstacle.is_on_the_way:
                return (), f"{path} is needed, and {obstacle.part} is closed to other users"
            folders.add(obstacle.part)
    outermost = (folder for folder in folders if folders.isdisjoint(folder.parents))
    return tuple(sorted(map(str, outermost))), ""
