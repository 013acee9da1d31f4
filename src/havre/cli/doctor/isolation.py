"""The doctor's checks of isolation: what this machine enforces around models, and what not.

The rules that a process puts on itself are tried, each in a process of its own.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from havre.cli.doctor.finding import Finding, Verdict, existing
from havre.home import Home
from havre.supervisor import landlock, private_view
from havre.supervisor.cgroups import Cgroups, find_trees
from havre.unprivileged import may_change_mounts, unreachable_part, why_not_separate_users

PROBE_S = 10.0
PROBE = """
import json
from havre.supervisor import attempt, private_view, seccomp

def enter():
    private_view.enter(temporary="/", hidden=(), readable=private_view.TEMPORARY, writable=())

print(json.dumps([attempt.why_not(enter), seccomp.obstacle()]))
"""
MIN_SHARED_MEMORY_BYTES = 64 * 1024**2
APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


def examine(home: Home) -> Iterator[Finding]:
    no_view, no_filter = tried()
    yield _user(home)
    yield _file_access()
    yield _private_view(no_view)
    yield _system_calls(no_filter)
    yield _cgroups(home)
    yield _shared_memory(has_view=not no_view)


def tried() -> tuple[str, str]:
    """Why there is no private view, and no filter of calls; "" where there is."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=True,
        )
        no_view, no_filter = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return (f"it could not be tried ({error})",) * 2
    return no_view, no_filter


def _user(home: Home) -> Finding:
    check = "users of models"
    if os.geteuid() != 0:
        return Finding(
            check,
            Verdict.WARN,
            f"uid {os.geteuid()}, havre's own",
            "models share this user: rules about files and calls keep them apart (below), "
            "file modes do not; run havre as root to give each deployment a user of its own",
        )
    if why := why_not_separate_users():
        remedy = (
            "give root its usual capabilities (in a container: do not drop them), "
            "and 65,536 user numbers or more"
        )
        return Finding(check, Verdict.WARN, f"root: {why}", remedy)
    closed = unreachable_part(existing(home.instances), is_read=False)
    if closed and not may_change_mounts():  # else each model's view leads through it
        detail = f"root: {closed} is closed to other users"
        remedy = f"choose a --home that others can pass through, or chmod o+x {closed}"
        return Finding(check, Verdict.WARN, detail, remedy)
    return Finding(check, Verdict.OK, "each deployment is a user of its own")


def _file_access() -> Finding:
    abi, check = landlock.abi(), "files, ports, signals"
    why = landlock.obstacle()
    detail = why or f"Landlock {abi}"
    if abi >= landlock.ABI_SIGNALS:
        return Finding(check, Verdict.OK, detail)
    missing = ["signals to other processes of their user"]
    if abi < landlock.ABI_PORTS:
        missing.insert(0, "this server's own port")
    if not abi:
        missing.insert(0, "files that they may read otherwise")
    if why == landlock.WHY_NOT[landlock.SWITCHED_OFF]:
        remedy = "add landlock to the list of the kernel's parameter lsm="
    elif why and why not in landlock.WHY_NOT.values():
        remedy = "let the container have landlock_* calls (its seccomp profile)"
    else:
        remedy = "use Linux 6.12 or newer, outside of sandboxes that have none"
    return Finding(
        check, Verdict.WARN, detail, f"models are not kept from {', '.join(missing)}; {remedy}"
    )


def _private_view(why: str) -> Finding:
    check = "private /tmp"
    if not why:
        return Finding(check, Verdict.OK, "/tmp and shared memory are private to each instance")
    if why == f"{private_view.MOUNTING}: {os.strerror(errno.EINVAL)}":  # / is no mount point
        remedy = "in a chroot: `mount --bind DIR DIR` before `chroot DIR`, and run havre as root"
    elif os.geteuid() == 0:
        remedy = "in a container: --cap-add SYS_ADMIN, and a seccomp and AppArmor profile to match"
    elif _reads(APPARMOR) == "1":
        remedy = f"Ubuntu forbids it: sysctl kernel.{APPARMOR.name}=0, or run havre as root"
    else:
        remedy = (
            "allow user namespaces (sysctl user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone; a container's seccomp profile), or run as root"
        )
    return Finding(
        check,
        Verdict.WARN,
        f"this machine does not let us make {why}",
        f"what models leave in /dev/shm stays there, and all see it; {remedy}",
    )


def _system_calls(why: str) -> Finding:
    check, machine = "system calls", os.uname().machine
    if not why:
        return Finding(check, Verdict.OK, f"filtered on {machine}")
    remedy = "models have ways around the closed port: have requests signed (--auth oci)"
    return Finding(check, Verdict.WARN, f"not filtered on {machine}: {why}", remedy)


def _cgroups(home: Home) -> Finding:
    trees = find_trees(is_root=os.geteuid() == 0, only_look=True)
    missing = Cgroups(trees, home.root).missing
    if not missing:
        versions = sorted({f"version {tree.version}" for tree in trees})
        return Finding("cgroups", Verdict.OK, ", ".join(versions))
    if os.geteuid() == 0:
        remedy = "mount them writable (in a container: --cgroupns private and a writable mount)"
    else:
        remedy = "run as root, or in a delegated scope (systemd-run --user --scope -p Delegate=yes)"
    detail = f"not ours: {', '.join(missing)}"
    return Finding("cgroups", Verdict.WARN, detail, f"shapes are not enforced; {remedy}")


def _shared_memory(*, has_view: bool) -> Finding:
    """An instance with a view of its own has its own; half of the memory at most."""
    check, folder = "shared memory", "/dev/shm"
    if has_view:
        return Finding(check, Verdict.OK, "each instance has its own")
    remedy = "models that share memory between processes fail; in a container: --shm-size 1g"
    try:
        total = shutil.disk_usage(folder).total
    except OSError as error:
        return Finding(check, Verdict.WARN, f"{folder}: {error.strerror}", remedy)
    detail = f"{total / 1024**2:,.0f} MiB at {folder}, for all"
    if total < MIN_SHARED_MEMORY_BYTES:
        return Finding(check, Verdict.WARN, detail, remedy)
    return Finding(check, Verdict.OK, detail)


def _reads(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
