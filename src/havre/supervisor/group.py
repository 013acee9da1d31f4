"""The process group that a supervised process leads: itself and everything it started.

While the leader lives, or is a zombie that only we can reap, the kernel keeps its number for the
group. After that the number is kept only as long as the group has a member, so a group is looked
at by its members, and each is signalled by its own identity.
"""

import os
import signal
from collections.abc import Mapping, Sequence

from havre.supervisor.identity import (
    Identity,
    Stat,
    boot_id,
    living_processes,
    read_stat,
    send_signal,
)


def living_members(
    leader: Identity,
    *,
    environment: Mapping[str, str] | None = None,
    among: Sequence[Stat] | None = None,
) -> list[Identity]:
    """The living processes of the leader's group, the leader included.

    ``environment`` is given when nobody watched the group since its leader's death: its number may
    have been reused since, so only processes that carry the leader's whole environment are counted.
    ``among``: what `living_processes` has said; who asks for many groups asks that once.
    """
    if leader.boot_id != boot_id():
        return []
    head = read_stat(leader.pid)
    if head is not None and head.start_time != leader.start_time:
        return []  # the number was given to a stranger
    return [
        Identity(stat.pid, stat.start_time, leader.boot_id)
        for stat in (living_processes() if among is None else among)
        if _may_descend_from(leader, stat)
        and (environment is None or _carries(stat.pid, environment))
    ]


def adopted_by_us(environment: Mapping[str, str]) -> list[Identity]:
    """Living processes that fell to us, their parents being dead, and carry this environment."""
    return [
        Identity(stat.pid, stat.start_time, boot_id())
        for stat in living_processes()
        if stat.parent == os.getpid() and _carries(stat.pid, environment)
    ]


def is_empty(group: int) -> bool:
    """Whether nothing at all has this group number, zombies included; costs one system call."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def signal_members(members: list[Identity], number: signal.Signals) -> None:
    for member in members:
        try:
            send_signal(member, number)
        except PermissionError:
            continue  # it changed its user: its owner must end it


def _may_descend_from(leader: Identity, stat: Stat) -> bool:
    return (
        stat.group == leader.pid
        and stat.session == leader.pid
        and stat.start_time >= leader.start_time
    )


def _carries(pid: int, environment: Mapping[str, str]) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            actual = set(file.read().split(b"\0"))
    except OSError:
        return False
    expected = {os.fsencode(f"{name}={value}") for name, value in environment.items()}
    return bool(expected) and expected <= actual
