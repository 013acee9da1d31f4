"""Where the tests keep what is slow to make, from one run to the next."""

import os
from pathlib import Path

from havre.unprivileged import may_change_mounts, unreachable_part, why_not_separate_users


def cache_folder() -> Path:
    """The user's own; the system's where models' users could not reach into that."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not why_not_separate_users() and not may_change_mounts():
        there = next(each for each in (usual, *usual.parents) if each.exists())
        if unreachable_part(there):
            usual = Path("/var/cache")
    return usual / "havre-tests"
