"""A view of the file system that an instance shares with nobody: its own /tmp and shared memory.

What is left there goes with the last process that sees it. Folders of ours are covered, sockets in
them included, which Landlock does not guard. Nor does it guard modes, owners and times of files:
all but what may be written to is read-only in the view. Constants: linux/sched.h, linux/mount.h.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from havre.supervisor import account
from havre.supervisor.protocol import User
from havre.supervisor.system_calls import mount, set_read_only, unshare

NEW_MOUNTS, NEW_IPC, NEW_USER = 0x00020000, 0x08000000, 0x10000000
READ_ONLY, NO_SET_UID, NO_DEVICES, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 1 << 12, 1 << 14, 1 << 18

SHARED_MEMORY = "/dev/shm"
TEMPORARY = ("/tmp", "/var/tmp")
MAX_LINKS = 40
MAKING, WRITING, MOUNTING = "a namespace", "user numbers in it", "a mount"


def enter(
    *,
    temporary: str,
    hidden: Iterable[str],
    readable: Sequence[str],
    writable: Sequence[str],
    opened: Iterable[str] = (),
    user: User | None = None,
) -> bool:
    """Leave the machine's view; whether all the rest is read-only in the new one (Linux 5.12).

    Raises OSError, which names the step that is not allowed. Some systems let a namespace be made,
    and nothing be done in it, and there is no way back: try it with `attempt.why_not` first.

    In place of the folders ``opened``, which are root's alone, are ones that everybody may pass
    through, to what is needed below them and to nothing else.

    ``temporary`` takes the place of the temporary folders, unless something needed lies there.
    Who is not root needs a user namespace for it, in which it remains who it is.

    ``user`` will be who runs in it, if not who does now: it gets an account, whose home is the
    working folder.
    """
    uid, gid = os.geteuid(), os.getegid()
    with _called(MAKING):
        unshare(NEW_MOUNTS | NEW_IPC | (NEW_USER if uid != 0 else 0))
    if uid != 0:
        with _called(WRITING):
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{uid} {uid} 1")
            _write("/proc/self/gid_map", f"{gid} {gid} 1")
    number, group = (uid, gid) if user is None else (user.uid, user.gid)
    with _called(MOUNTING):
        own = _arrange(temporary, hidden, readable, writable, opened)
    if os.path.isdir(SHARED_MEMORY):
        with suppress(OSError):  # its name is worth less than the view
            account.show(number, group, home=os.getcwd(), scratch=SHARED_MEMORY)
    try:
        set_read_only("/", is_read_only=True)
    except OSError:
        return False
    for path in own:
        set_read_only(path, is_read_only=False)
    return True


def _arrange(
    temporary: str,
    hidden: Iterable[str],
    readable: Sequence[str],
    writable: Sequence[str],
    opened: Iterable[str],
) -> list[str]:
    """Mount what is private; returns what may be written to."""
    mount("none", "/", "", RECURSIVE | PRIVATE)
    safe = NO_SET_UID | NO_DEVICES
    if os.path.isdir(SHARED_MEMORY):
        mount("havre", SHARED_MEMORY, "tmpfs", safe, "mode=1777")
    needed = (*readable, *writable)
    for folder in opened:
        _open(folder, needed)
    for folder in hidden:
        if os.path.isdir(folder):
            mount("havre", folder, "tmpfs", safe | READ_ONLY, "mode=0,size=4k")
    own = [path for path in writable if os.path.isdir(path)]
    for path in own:
        if not os.path.ismount(path):
            mount(path, path, "", BIND)
    shared = shared_temporary((*needed, temporary))
    for folder in TEMPORARY:
        if os.path.isdir(folder) and folder not in shared:
            mount(temporary, folder, "", BIND)
            own.append(folder)
    return own


def shared_temporary(needed: Iterable[str]) -> dict[str, str]:
    """Temporary folders that stay the machine's, each with what is needed and lies there."""
    real = [os.path.realpath(path) for path in needed]
    needed_in = {
        folder: next((path for path in real if Path(path).is_relative_to(folder)), "")
        for folder in TEMPORARY
    }
    return {folder: path for folder, path in needed_in.items() if path}


def _open(folder: str, needed: Iterable[str]) -> None:
    ways: dict[str, str | int] = {}
    for path in needed:
        _find_ways(path, Path(folder), ways)
    mount("havre", folder, "tmpfs", NO_SET_UID | NO_DEVICES, "mode=711,size=1m")
    bound: set[Path] = set()
    mask = os.umask(0o066)  # passable, not readable
    for path, target in sorted(ways.items()):
        if not bound.isdisjoint(Path(path).parents):
            pass  # it is there with the folder that it lies in
        elif isinstance(target, str):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(target, path)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            source = f"/proc/self/fd/{target}"
            if os.path.isdir(source):
                os.mkdir(path)
                bound.add(Path(path))
            else:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
            mount(source, path, "", BIND | RECURSIVE)
        if isinstance(target, int):
            os.close(target)
    os.umask(mask)


def _find_ways(path: str, folder: Path, ways: dict[str, str | int]) -> None:
    """What leads to a path below the folder: links, by what they say, and itself, as a descriptor.

    What is not there is left out.
    """
    pending = list(reversed(Path(path).parts[1:]))
    here, links = Path("/"), 0
    while pending and links < MAX_LINKS:
        part = pending.pop()
        here = here.parent if part == ".." else here / part
        is_below, name = folder in here.parents, str(here)
        if here.is_symlink():
            links += 1
            target = Path(os.readlink(here))
            if is_below:
                ways[name] = str(target)
            pending += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            here = Path("/") if target.is_absolute() else here.parent
        elif not pending and is_below and name not in ways:
            with suppress(OSError):
                ways[name] = os.open(name, os.O_PATH | os.O_CLOEXEC)


@contextmanager
def _called(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"{what}: {error.strerror}") from error


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
