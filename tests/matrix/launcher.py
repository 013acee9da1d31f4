"""Starts a program on a machine that lacks things: ``python launcher.py MACHINE PROGRAM ...``.

MACHINE is a JSON object; every key may be left out:

- ``reachable``: folders that the program's user must reach, though a folder above is closed
- ``mounts``: names of `MOUNTS`, done in a mount namespace of the program's own
- ``writable``: folders that stay writable on a ``read-only root``, and the one a ``noexec`` is for
- ``numbers``: enter a user namespace with so many user and group numbers, from 0 on
- ``denied``: names of `DENIED`, calls that a filter of system calls refuses
- ``unwritable``: top folders in which Landlock refuses every writing with EACCES
- ``open_files``: the hard limit
- ``capabilities``: those that root keeps, by number; all others are gone for good
- ``uid``: become this user, in the group of the same number

Needs root for all but ``denied`` and ``open_files``. What it takes is never given back: a program
started here cannot leave the machine that it sees. Constants: linux/{capability,mount,sched}.h.
"""

import ctypes
import errno
import json
import os
import platform
import resource
import shutil
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from havre.supervisor import landlock, seccomp
from havre.supervisor.private_view import BIND, PRIVATE, READ_ONLY, RECURSIVE
from havre.supervisor.system_calls import (
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    call,
    keep_capabilities,
    mount,
    prctl,
    unshare,
)
from havre.unprivileged import unreachable_part

NO_EXEC, REMOUNT = 8, 32
NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000
NEW_ANYTHING = 0x7E020080
"""CLONE_NEW* of every kind."""

NUMBERS = {
    "x86_64": {
        "clone": 56,
        "clone3": 435,
        "close_range": 436,
        "faccessat2": 439,
        "inotify_init": 253,
        "inotify_init1": 294,
        "io_uring_setup": 425,
        "memfd_create": 319,
        "mount": 165,
        "move_mount": 429,
        "open_tree": 428,
        "openat2": 437,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "prctl": 157,
        "seccomp": 317,
        "unshare": 272,
    },
    "aarch64": {
        "clone": 220,
        "clone3": 435,
        "close_range": 436,
        "faccessat2": 439,
        "inotify_init1": 26,
        "io_uring_setup": 425,
        "memfd_create": 279,
        "mount": 40,
        "move_mount": 429,
        "open_tree": 428,
        "openat2": 437,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "prctl": 167,
        "seccomp": 277,
        "unshare": 97,
    },
}

Rule = tuple[str, int] | tuple[str, int, int, int, int]
"""A call and the error it ends with; then the argument to look at, a jump of BPF, and its value."""

ANY_BIT, EQUAL = seccomp.JUMP_ANY_BIT, seccomp.JUMP_EQUAL
DENIED: dict[str, list[Rule]] = {
    "user namespaces": [
        ("unshare", errno.EPERM, 0, ANY_BIT, NEW_USER),
        ("clone", errno.EPERM, 0, ANY_BIT, NEW_USER),
        ("clone3", errno.ENOSYS),
    ],
    "namespaces": [
        ("unshare", errno.EPERM, 0, ANY_BIT, NEW_ANYTHING),
        ("clone", errno.EPERM, 0, ANY_BIT, NEW_ANYTHING),
        ("clone3", errno.ENOSYS),
    ],
    "mounts": [(name, errno.EPERM) for name in ("mount", "move_mount", "open_tree")],
    "mounts by AppArmor": [(name, errno.EACCES) for name in ("mount", "move_mount", "open_tree")],
    "Landlock": [(str(number), errno.ENOSYS) for number in (444, 445, 446)],
    "Landlock, switched off": [(str(number), errno.EOPNOTSUPP) for number in (444, 445, 446)],
    "seccomp": [
        ("prctl", errno.EINVAL, 0, EQUAL, PR_SET_SECCOMP),
        ("seccomp", errno.ENOSYS),
    ],
    "inotify, exhausted": [(name, errno.EMFILE) for name in ("inotify_init", "inotify_init1")],
    "inotify": [(name, errno.ENOSYS) for name in ("inotify_init", "inotify_init1")],
    "pidfd": [(name, errno.ENOSYS) for name in ("pidfd_open", "pidfd_send_signal")],
    "newer calls": [
        (name, errno.ENOSYS)
        for name in ("clone3", "close_range", "faccessat2", "openat2", "io_uring_setup")
    ],
    "memfd": [("memfd_create", errno.ENOSYS)],
}


def main() -> None:
    machine: dict[str, Any] = json.loads(sys.argv[1])
    enter(machine)
    os.execv(sys.argv[2], sys.argv[2:])


def enter(machine: dict[str, Any]) -> None:
    """From now on, this process and what it starts. Raises OSError, KeyError."""
    folders = [Path(each) for each in machine.get("reachable", ())]
    closed = list(filter(None, (unreachable_part(folder) for folder in folders)))
    if closed or machine.get("mounts"):
        unshare(NEW_MOUNTS)
        mount("none", "/", "", RECURSIVE | PRIVATE)
        for folder in dict.fromkeys(closed):
            _open(folder, [each for each in folders if each.is_relative_to(folder)])
        for name in machine.get("mounts", ()):
            MOUNTS[name](machine)
    if numbers := machine.get("numbers"):
        _enter_user_namespace(numbers)
    if unwritable := machine.get("unwritable"):
        _forbid_writing(unwritable)
    if limit := machine.get("open_files"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if denied := machine.get("denied"):
        _filter([rule for name in denied for rule in DENIED[name]])
    if "capabilities" in machine:
        _keep_capabilities(machine["capabilities"])
    if uid := machine.get("uid"):
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


# Folders and files.


def _open(closed: Path, needed: Sequence[Path]) -> None:
    """In place of a closed folder an open one, with nothing in it but what is needed."""
    held = {folder: os.open(folder, os.O_PATH) for folder in needed}
    mount("opened", str(closed), "tmpfs", 0, "mode=755")
    for folder, descriptor in held.items():
        folder.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{descriptor}", str(folder), "", BIND | RECURSIVE)
        os.close(descriptor)


def _hide_cgroups(_: dict[str, Any]) -> None:
    mount("hidden", "/sys/fs/cgroup", "tmpfs", READ_ONLY, "mode=755,size=4k")


def _read_only_sys(_: dict[str, Any]) -> None:
    for place in _mounted():
        if Path(place).is_relative_to("/sys") and os.path.ismount(place):  # not a covered one
            mount("none", place, "", REMOUNT | BIND | READ_ONLY)


def _small_shared_memory(_: dict[str, Any]) -> None:
    mount("small", "/dev/shm", "tmpfs", 0, "mode=1777,size=1m")


def _no_name_servers(_: dict[str, Any]) -> None:
    """The whole folder is put together anew: a single file cannot be covered by nothing."""
    beside = _empty_folder()
    shutil.copytree("/etc", f"{beside}/etc", symlinks=True, ignore=_all_but_names)
    Path(f"{beside}/etc").chmod(0o755)
    mount(f"{beside}/etc", "/etc", "", BIND)


def _all_but_names(folder: str, names: list[str]) -> list[str]:
    special = [name for name in names if not os.access(os.path.join(folder, name), os.R_OK)]
    return [*special, "resolv.conf"] if folder == "/etc" else special


def _hidden_processes(_: dict[str, Any]) -> None:
    mount("proc", "/proc", "proc", 0, "hidepid=2")


def _poor_proc(_: dict[str, Any]) -> None:
    for place in ("/proc/sys/kernel/random", "/proc/sys/fs"):
        mount("hidden", place, "tmpfs", READ_ONLY, "mode=755,size=4k")


def _noexec(machine: dict[str, Any]) -> None:
    for folder in machine["writable"]:
        mount(folder, folder, "", BIND)
        mount("none", folder, "", REMOUNT | BIND | NO_EXEC)


def _read_only_root(machine: dict[str, Any]) -> None:
    for folder in machine["writable"]:
        mount(folder, folder, "", BIND | RECURSIVE)
    kept = ("/proc", "/dev", "/sys", *machine["writable"])
    for place in _mounted():
        if not any(Path(place).is_relative_to(each) for each in kept):
            mount("none", place, "", REMOUNT | BIND | READ_ONLY)


def _chroot(_: dict[str, Any]) -> None:
    """Into a folder that is no mount point of its own, as a copied system is none."""
    root = f"{_empty_folder()}/root"
    os.mkdir(root, 0o755)
    for entry in os.scandir("/"):
        inside = f"{root}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), inside)
        elif entry.is_dir():
            os.mkdir(inside, 0o755)
            mount(entry.path, inside, "", BIND | RECURSIVE)
    os.chroot(root)
    os.chdir("/")


MOUNTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "no cgroups": _hide_cgroups,
    "read-only /sys": _read_only_sys,
    "small /dev/shm": _small_shared_memory,
    "no /etc/resolv.conf": _no_name_servers,
    "hidden processes": _hidden_processes,
    "poor /proc": _poor_proc,
    "noexec": _noexec,
    "read-only root": _read_only_root,
    "chroot": _chroot,
}


def _empty_folder() -> str:
    """For mounts: it lies in this namespace alone, and leaves nothing behind."""
    mount("beside", "/mnt", "tmpfs", 0, "mode=755")
    return "/mnt"


def _mounted() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return list(dict.fromkeys(line.split()[4] for line in lines))


# Rights.


def _enter_user_namespace(numbers: int) -> None:
    """Its numbers are written from outside, as who may do it has to."""
    pid = os.getpid()
    ready, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        try:
            os.close(go)
            os.read(ready, 1)
            for kind in ("uid", "gid"):
                Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 {numbers}")
        finally:
            os._exit(0)
    unshare(NEW_USER)
    os.close(go)
    os.waitpid(helper, 0)
    os.close(ready)
    assert os.getuid() == 0, "the numbers were not written"


def _forbid_writing(folders: Sequence[str]) -> None:
    # Whatever is not said to be moved from one folder to another is not, by any rules.
    rights = landlock.WRITE_FILE | landlock.REFER
    rules = call(landlock.CREATE_RULESET, struct.pack("=QQQ", rights, 0, 0), 24, 0)
    for entry in os.scandir("/"):
        if entry.path not in folders and entry.is_dir():
            target = os.open(entry.path, os.O_PATH)
            call(
                landlock.ADD_RULE, rules, landlock.RULE_PATH, struct.pack("=Qi", rights, target), 0
            )
            os.close(target)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    call(landlock.RESTRICT_SELF, rules, 0)
    os.close(rules)


def _filter(rules: Sequence[Rule]) -> None:
    numbers = NUMBERS[platform.machine()]
    code = [(seccomp.LOAD, 0, 0, seccomp.AT_NUMBER)]
    for name, error, *condition in rules:
        number = int(name) if name.isdigit() else numbers.get(name)
        if number is None:
            continue  # this kind of machine never had the call
        body = [(seccomp.RETURN, 0, 0, seccomp.REFUSE | error)]
        if condition:
            argument, jump, value = condition
            body = [
                (seccomp.LOAD, 0, 0, seccomp.AT_ARGUMENTS + 8 * argument),
                (jump, 0, 1, value),
                *body,
                (seccomp.LOAD, 0, 0, seccomp.AT_NUMBER),
            ]
        code += [(seccomp.JUMP_EQUAL, 0, len(body), number), *body]
    code.append((seccomp.RETURN, 0, 0, seccomp.ALLOW))
    text = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    held = ctypes.create_string_buffer(text)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, 2, struct.pack("@HP", len(code), ctypes.addressof(held)))


def _keep_capabilities(kept: Sequence[int]) -> None:
    for number in range(64):
        if number not in kept:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError:
                break  # beyond the last one
    keep_capabilities(sum(1 << number for number in kept))


if __name__ == "__main__":
    main()
