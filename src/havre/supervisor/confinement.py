"""What a confined process does to itself between the fork and its program: it gives up its rights.

The order matters: limits and the view of the file system need rights that are then let go of, and
the rules about files are the last but one because nothing could be opened under them.

What this machine cannot do is left out and told; only changing the user must succeed, because a
process that has kept its user is not what was asked for.
"""

import os
import resource
from collections.abc import Callable, Iterable
from functools import cache

from havre.supervisor import landlock, private_view, seccomp
from havre.supervisor.protocol import Confinement
from havre.supervisor.system_calls import PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, prctl

MOST_CAPABILITIES = 64
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
    _limit(confinement, warn, limits_processes=limits_processes)
    has_own_view = _take_own_view(confinement, warn)
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
    # Where other users' sockets are neither hidden nor forbidden, none can be used at all.
    _filter_calls(warn, unix_sockets=has_own_view or confinement.user is not None)


def _limit(confinement: Confinement, warn: Warn, *, limits_processes: bool) -> None:
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: confinement.open_files}
    if limits_processes:
        wanted[resource.RLIMIT_NPROC] = confinement.processes + (
            0 if confinement.user is not None else _threads_of(os.geteuid())
        )
    for kind, most in wanted.items():
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (least, least))
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


def _take_own_view(confinement: Confinement, warn: Warn) -> bool:
    try:
        private_view.enter(
            temporary=confinement.temporary,
            hidden=confinement.hidden,
            needed=(*confinement.readable, *confinement.writable),
        )
    except OSError as error:
        warn(
            f"no private /tmp and shared memory: this machine does not let us ({error}); "
            "what a model leaves in /dev/shm stays there"
        )
        return False
    return True


def file_rules(confinement: Confinement, warn: Warn) -> int | None:
    """For `landlock.obey`; None where files cannot be restricted."""
    if not landlock.abi():
        warn("this kernel has no Landlock: files that others may read are readable for the model")
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
    which files these are.
    """
    for number in range(MOST_CAPABILITIES):
        if number == OVERRIDE_FILE_MODES and is_needed:
            continue
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError:
            return  # not root, or beyond the last one


def _close_ports(confinement: Confinement, warn: Warn) -> None:
    if not confinement.closed_ports:
        return
    ports = _in_words(confinement.closed_ports)
    if landlock.abi() < landlock.ABI_PORTS:
        warn(
            f"this kernel is older than 6.7: the model can call the server itself ({ports}); "
            "requests can be required to be signed instead"
        )
        return
    try:
        landlock.obey(port_rules(confinement.closed_ports))
    except OSError as error:
        warn(f"{ports} cannot be closed to the model: {error}")


def _filter_calls(warn: Warn, *, unix_sockets: bool) -> None:
    if not seccomp.is_known_here():
        warn("system calls are not filtered on this kind of machine")
        return
    try:
        seccomp.obey(unix_sockets=unix_sockets)
    except OSError as error:
        warn(f"system calls cannot be filtered: {error}")


def _in_words(ports: Iterable[int]) -> str:
    return "port " + ", ".join(map(str, ports))
