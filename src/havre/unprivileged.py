"""The users and groups that models run as when havre is root, and what such a user can reach.

No account is made for them: a number that nobody else has is enough for the kernel. Both are found
from what they stand for, so that nothing needs to be remembered.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WIDE_FIRST, WIDE_SPAN = 1 << 30, 1 << 30
NARROW_FIRST, NARROW_SPAN = 32768, 28000
"""In a user namespace of 65,536 numbers: above people's, below those systemd gives out."""

CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7}
"""What it takes to start processes as others and to end them; numbers of linux/capability.h."""
CHANGE_MOUNTS = 21


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What a user without any rights cannot pass or read; ``is_on_the_way``: to what was asked."""

    part: Path
    is_on_the_way: bool


def why_not_separate_users() -> str:
    """Why processes cannot be started as other users; empty when they can."""
    if os.geteuid() != 0:
        return "havre does not run as root"
    effective = _effective_capabilities()
    if missing := [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]:
        return f"root lacks the capabilities {', '.join(missing)}"
    if _range() is None:
        return "this user namespace has too few user numbers"
    return ""


def may_change_mounts() -> bool:
    """Whether root may, and can; whether the machine lets it is found when it tries."""
    may = os.geteuid() == 0 and bool(_effective_capabilities() >> CHANGE_MOUNTS & 1)
    return may and _has_mounted_root()


def _has_mounted_root(mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Not so in a plain chroot: no view of its own can be made there, since its top cannot be made
    private. True where that cannot be found out.
    """
    try:
        return any(line.split(" ")[4] == "/" for line in mounts.read_text().splitlines())
    except (OSError, IndexError):
        return True


def user_of(deployment_id: str) -> int:
    """The user number, and the group number, of a deployment's processes."""
    return _number(f"deployment {deployment_id}")


def build_user_of(what: str) -> int:
    """The user number, and the group number, of what makes or asks one environment."""
    return _number(f"build {what}")


def group_of(artifact_digest: str) -> int:
    """The group whose members may read an unpacked artifact."""
    return _number(f"artifact {artifact_digest}")


def unreachable_part(path: Path, *, is_read: bool = True) -> Path | None:
    """The first folder or file on the way that a user without any rights cannot pass or read.

    None when such a user can reach the path; ``is_read``: it must be readable itself, too.
    """
    return next((obstacle.part for obstacle in obstacles(path, is_read=is_read)), None)


def obstacles(path: Path, *, is_read: bool = True) -> Iterator[Obstacle]:
    """All that keep such a user from a path. Links are followed one at a time."""
    pending = list(reversed(path.absolute().parts[1:]))
    here, links = Path("/"), 0
    while True:
        try:
            status = here.lstat()
        except OSError:
            yield Obstacle(here, is_on_the_way=False)
            return
        if stat.S_ISLNK(status.st_mode):
            links += 1
            target = Path(os.readlink(here))
            if links > 40:
                yield Obstacle(here, is_on_the_way=False)
                return
            parts = list(reversed(target.parts))
            if target.is_absolute():
                parts.pop()
                here = Path("/")
            else:
                here = here.parent
            pending += parts
        else:
            is_passable = status.st_mode & stat.S_IXOTH or not stat.S_ISDIR(status.st_mode)
            is_readable = status.st_mode & stat.S_IROTH or pending or not is_read
            if not is_passable or not is_readable:
                yield Obstacle(here, is_on_the_way=bool(pending))
            if not pending:
                return
        if pending:
            part = pending.pop()
            here = here.parent if part == ".." else here / part


def passable_temporary() -> str:
    """Where temporary folders go that a user without any rights must reach."""
    usual = tempfile.gettempdir()
    return usual if unreachable_part(Path(usual), is_read=False) is None else "/tmp"


def reachable(path: Path) -> bool:
    """Whether a user without any rights can reach and read the path."""
    return unreachable_part(path) is None


def _effective_capabilities() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["CapEff"], 16)


def _number(what: str) -> int:
    first, span = _range() or (WIDE_FIRST, WIDE_SPAN)
    digest = hashlib.sha256(what.encode()).digest()
    return first + int.from_bytes(digest[:8], "big") % span


def _range() -> tuple[int, int] | None:
    """First and how many of the numbers to use: all that this user namespace lets us."""
    for first, span in ((WIDE_FIRST, WIDE_SPAN), (NARROW_FIRST, NARROW_SPAN)):
        if all(_is_mapped(kind, first, span) for kind in ("uid", "gid")):
            return first, span
    return None


def _is_mapped(kind: str, first: int, span: int) -> bool:
    for line in Path(f"/proc/self/{kind}_map").read_text().splitlines():
        inside, _, length = (int(word) for word in line.split())
        if inside <= first and first + span <= inside + length:
            return True
    return False
