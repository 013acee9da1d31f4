"""A view of the file system that an instance shares with nobody: its own /tmp and shared memory.

What is left there goes with the last process that sees it. Folders of ours are covered, sockets in
them included, which Landlock does not guard. Constants: linux/sched.h, linux/mount.h.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from havre.supervisor.system_calls import mount, unshare

NEW_MOUNTS, NEW_IPC, NEW_USER = 0x00020000, 0x08000000, 0x10000000
READ_ONLY, NO_SET_UID, NO_DEVICES, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 1 << 12, 1 << 14, 1 << 18

SHARED_MEMORY = "/dev/shm"
TEMPORARY = ("/tmp", "/var/tmp")


def enter(*, temporary: str, hidden: Iterable[str], needed: Iterable[str]) -> None:
    """Leave the machine's view. Raises OSError where the kernel does not let us.

    ``temporary`` takes the place of the temporary folders, unless something ``needed`` lies there.
    Who is not root needs a user namespace for it, in which it remains who it is.
    """
    user, group = os.geteuid(), os.getegid()
    unshare(NEW_MOUNTS | NEW_IPC | (NEW_USER if user != 0 else 0))
    if user != 0:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    mount("none", "/", "", RECURSIVE | PRIVATE)
    safe = NO_SET_UID | NO_DEVICES
    if os.path.isdir(SHARED_MEMORY):
        mount("havre", SHARED_MEMORY, "tmpfs", safe, "mode=1777")
    for folder in hidden:
        if os.path.isdir(folder):
            mount("havre", folder, "tmpfs", safe | READ_ONLY, "mode=0,size=4k")
    real = [os.path.realpath(path) for path in (*needed, temporary)]
    for place in TEMPORARY:
        if os.path.isdir(place) and not any(Path(path).is_relative_to(place) for path in real):
            mount(temporary, place, "", BIND)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
