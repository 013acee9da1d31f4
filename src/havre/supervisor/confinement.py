"""What a confined process does to itself between the fork and its program: it drops its rights.

The order matters: limits and the view of the file system need rights that are then let go of, and
the rules about files are the last but one because nothing could be opened under them.

What this machine cannot do is left out and reported; only changing the user must succeed, because a
process that has kept its user is not what was asked for.
"""

import os
import resource
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from havre.supervisor import landlock, private_view, seccomp
from havre.supervisor.attempt import why_not
from havre.supervisor.protocol import Confinement
from havre.supervisor.system_calls import (
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    keep_capabilities,
    prctl,
)

MAX_CAPABILITIES = 64
OVERRIDE_FILE_MODES = 1  # CAP_DAC_OVERRIDE

Warn = Callable[[str], None]


def prepare(confinement: Confinement) -> None:
    """What is done once, before the fork, for all that follow: it takes a tenth of a second."""
    if confinement.closed_ports and landlock.abi() >= landlock.ABI_PORTS:
        port_rules(confinement.closed_ports)


@cache
def port_rules(closed: tuple[int, ...]) -> int:
    return landlock.port_rules(closed)


def confine(confinement: Confinement, *, limits_processes: bool, warn: Warn) -> None:
    """Confine this process, for good. Raises OSError when the user cannot be changed.

    ``limits_processes``: that no cgroup bounds their number. ``warn`` takes a sentence for each
    thing that this machine does not do.
    """
    # The view first: it is tried in a child, which a limit of processes could refuse.
    view = _take_own_view(confinement, warn)
    _limit(confinement, warn, limits_processes=limits_processes)
    files = file_rules(confinement, warn)
    _drop_capabilities(is_needed=confinement.user is None)
    if confinement.user is not None:
        user = confinement.user
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _close_ports(confinement, warn)
    if files is not None:
        landlock.obey(files)
    # Who shares the user may connect to whatever socket that user may, the server's included where
    # they are not hidden.
    shares_user = confinement.user is None
    unix_sockets = not shares_user or (confinement.unix_sockets and view.is_own)
    _filter_calls(
        warn,
        unix_sockets=unix_sockets,
        shares_user=shares_user,
        file_modes=not shares_user or view.is_read_only or confinement.file_modes,
        network=confinement.network,
    )


def _limit(confinement: Confinement, warn: Warn, *, limits_processes: bool) -> None:
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: confinement.open_files}
    if limits_processes:
        limits[resource.RLIMIT_NPROC] = confinement.processes + (
            0 if confinement.user is not None else _threads_of(os.geteuid())
        )
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        lower = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        try:
            resource.setrlimit(kind, (lower, lower))
        except (OSError, ValueError) as error:
            warn(f"a resource limit ({kind}) cannot be set: {error}")


def _threads_of(uid: int) -> int:
    """The kernel counts every thread of a user, of whatever program."""
    count = 0
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == uid:
                count += len(os.listdir(f"/proc/{entry}/task"))
        except OSError:
            continue  # it has ended
    return count


@dataclass(frozen=True, slots=True)
class _View:
    is_own: bool
    is_read_only: bool


def _take_own_view(confinement: Confinement, warn: Warn) -> _View:
    def enter() -> bool:
        return private_view.enter(
            temporary=confinement.temporary,
            hidden=confinement.hidden,
            readable=confinement.readable,
            writable=confinement.writable,
            opened=confinement.opened,
            user=confinement.user,
        )

    if why := why_not(enter):
        if confinement.opened:
            folders = ", ".join(confinement.opened)
            raise OSError(
                f"{folders} is closed to the model's user, and this machine does not let us make "
                f"a view around it ({why}): open it with `chmod o+x`, or move what is needed"
            )
        warn(
            f"no private /tmp and shared memory: this machine does not let us make {why}; "
            "what a model leaves in /dev/shm stays there"
        )
        return _View(is_own=False, is_read_only=False)
    return _View(is_own=True, is_read_only=enter())


def file_rules(confinement: Confinement, warn: Warn) -> int | None:
    """For `landlock.obey`; None where files cannot be restricted."""
    if why := landlock.obstacle():
        if confinement.user is not None:
            warn(f"{why}: files that others may read are readable for the model")
        else:
            warn(
                f"{why}: the model can read and write the files of the server's user, "
                "and signal its processes"
            )
        return None
    try:
        rules = landlock.file_rules(confinement.readable, confinement.writable)
        landlock.device_rules(rules, confinement.devices)
    except OSError as error:
        warn(f"access to files cannot be restricted: {error}")
        return None
    if landlock.abi() < landlock.ABI_SIGNALS and confinement.user is None:
        warn("this kernel is older than 6.12: the model can signal other processes of its user")
    return rules


def _drop_capabilities(*, is_needed: bool) -> None:
    """What no program can ever regain. Only root has any to drop.

    Who stays root may need to read an environment that belongs to somebody else: Landlock says
    which files these are. In some containers root must not drop what it could regain, only what it
    has: with no new privileges, that is as good.
    """
    for number in range(MAX_CAPABILITIES):
        if number == OVERRIDE_FILE_MODES and is_needed:
            continue
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError:
            break  # not root, or beyond the last one
    if is_needed:
        keep_capabilities(1 << OVERRIDE_FILE_MODES)  # a change of the user drops them all by itself


def _close_ports(confinement: Confinement, warn: Warn) -> None:
    if not confinement.network:
        _close_all_ports(warn)
        return
    if not confinement.closed_ports:
        return
    ports = _in_words(confinement.closed_ports)
    if landlock.abi() < landlock.ABI_PORTS:
        why = landlock.obstacle() or "this kernel is older than 6.7"
        warn(
            f"{why}: the model can call the server itself ({ports}); "
            "requests can be required to be signed instead"
        )
        return
    try:
        landlock.obey(port_rules(confinement.closed_ports))
    except OSError as error:
        warn(f"{ports} cannot be closed to the model: {error}")


def _close_all_ports(warn: Warn) -> None:
    if landlock.abi() >= landlock.ABI_PORTS:
        try:
            landlock.obey(landlock.no_ports())
        except OSError as error:
            warn(f"TCP ports cannot be closed: {error}")


def _filter_calls(
    warn: Warn, *, unix_sockets: bool, shares_user: bool, file_modes: bool, network: bool
) -> None:
    if not seccomp.is_known_here():
        warn(f"system calls are not filtered on this kind of machine: {_unfiltered(shares_user)}")
        return
    try:
        seccomp.obey(
            unix_sockets=unix_sockets,
            shares_user=shares_user,
            file_modes=file_modes,
            network=network,
        )
    except OSError as error:
        warn(f"system calls cannot be filtered ({error.strerror}): {_unfiltered(shares_user)}")


def _unfiltered(shares_user: bool) -> str:
    if not shares_user:
        return "some lead to closed ports"
    return (
        "some lead to closed ports, to sockets of the server's user, and change the limits of its "
        "processes"
    )


def _in_words(ports: Iterable[int]) -> str:
    return "port " + ", ".join(map(str, ports))
