"""A filter of system calls: what Landlock does not look at, and file modes do not say.

Landlock looks at TCP's connect(2). The kernel reaches a TCP port in other ways, too: the multipath
and SMC protocols fall back to TCP, "fast open" connects while sending, and io_uring does anything
without a system call. Keys of the kernel's keyrings come with the session, whoever it becomes. None
is needed to serve a model.

Who shares a user with others may lower their limits and priorities, choose their processors, or
move their memory: calls that name a process by its number may then name their own alone, as 0. The
filter sees numbers only, so a process or thread that names itself by its own is refused as well.
Constants: linux/{seccomp,filter,audit,ioprio}.h, sys/resource.h.
"""

import errno
import platform
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from ctypes import addressof, create_string_buffer

from havre.supervisor.attempt import why_not
from havre.supervisor.system_calls import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER,
    prctl,
)

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
AT_NUMBER, AT_ARCHITECTURE, AT_ARGUMENTS = 0, 4, 16

FAST_OPEN = 0x20000000
MULTIPATH = 262
OTHER_TABLE = 0x40000000
"""The bit that marks calls of x86-64's second table."""

FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)

PROCESS_BY_NUMBER = (
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "migrate_pages",
    "move_pages",
)
"""Their first argument is a process or thread; 0 is the caller."""
WHOLE_USER = {"setpriority": 2, "ioprio_set": 3}
"""The first argument that means all processes of a user; the second is a number, 0 is one's own."""
INTO_OTHERS = (
    "kcmp",
    "pidfd_getfd",
    "process_madvise",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
)
KEYS = ("add_key", "request_key", "keyctl")
MODES = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2"),
    *("chown", "fchown", "lchown", "fchownat"),
)
ATTRIBUTES = (
    *("setxattr", "fsetxattr", "lsetxattr", "setxattrat"),
    *("removexattr", "fremovexattr", "lremovexattr", "removexattrat"),
)

NUMBERS: dict[str, tuple[int, int]] = {  # on x86-64 and on ARM, where 0 is none
    "socket": (41, 198),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "prlimit64": (302, 261),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "chmod": (90, 0),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, 0),
    "lchown": (94, 0),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
}
ARCHITECTURES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (0xC000003E, {name: numbers[0] for name, numbers in NUMBERS.items()}),
    "aarch64": (0xC00000B7, {name: number for name, (_, number) in NUMBERS.items() if number}),
}
FLAGS_ARGUMENT = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}

Instruction = tuple[int, int, int, int]


def is_known_here() -> bool:
    return platform.machine() in ARCHITECTURES


def obstacle() -> str:
    """Why calls cannot be filtered here; "" where they can. Tried, and nothing is changed.

    Only for a process that has a single thread.
    """
    if not is_known_here():
        return f"the calls of {platform.machine()} are not known to havre"
    return why_not(_try)


def _try() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    obey(unix_sockets=False, shares_user=True, file_modes=False, network=False)


def program(
    machine: str,
    *,
    unix_sockets: bool,
    shares_user: bool,
    file_modes: bool,
    network: bool = True,
) -> bytes:
    """The filter for a kind of machine. Raises KeyError for a kind that is not known.

    ``unix_sockets``: whether sockets of that family may be made (a pair always may); without a
    ``network`` no socket of any family is.
    ``shares_user``: that processes which are not its own have its user. Without ``file_modes``,
    whoever asks for another mode or owner of a file gets the result of one that was done.
    """
    architecture, numbers = ARCHITECTURES[machine]
    unix = (socket.AF_UNIX,) if unix_sockets else ()
    families = (*FAMILIES, *unix) if network else ()
    code: list[Instruction] = [
        (LOAD, 0, 0, AT_ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, architecture),
        _refuse(errno.ENOSYS),  # programs of another architecture have other numbers
        (LOAD, 0, 0, AT_NUMBER),
        (JUMP_GREATER_EQUAL, 0, 1, OTHER_TABLE),
        _refuse(errno.ENOSYS),
        (JUMP_EQUAL, 0, 1, numbers["io_uring_setup"]),
        _refuse(errno.ENOSYS),
    ]
    for name, argument in FLAGS_ARGUMENT.items():
        code += _only_for(
            numbers[name],
            [
                _load_argument(argument),
                (JUMP_ANY_BIT, 0, 1, FAST_OPEN),
                _refuse(errno.EOPNOTSUPP),
                (RETURN, 0, 0, ALLOW),
            ],
        )
    known = [
        (JUMP_EQUAL, len(families) - index, 0, family) for index, family in enumerate(families)
    ]
    code += _only_for(
        numbers["socket"],
        [
            _load_argument(2),
            (JUMP_EQUAL, 0, 1, MULTIPATH),
            _refuse(errno.EPROTONOSUPPORT),
            _load_argument(0),
            *known,
            _refuse(errno.EAFNOSUPPORT),
            (RETURN, 0, 0, ALLOW),
        ],
    )
    for name in KEYS:
        code += _only_for(numbers[name], [_refuse(errno.EPERM)])
    if not file_modes:
        code += _keep_modes(numbers)
    if shares_user:
        code += _leave_others_alone(numbers)
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def obey(*, unix_sockets: bool, shares_user: bool, file_modes: bool, network: bool = True) -> None:
    """From now on, this process and what it starts. Raises OSError, KeyError."""
    code = create_string_buffer(
        program(
            platform.machine(),
            unix_sockets=unix_sockets,
            shares_user=shares_user,
            file_modes=file_modes,
            network=network,
        )
    )
    count = (len(code) - 1) // 8
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, struct.pack("@HP", count, addressof(code)))


def _keep_modes(numbers: Mapping[str, int]) -> Iterator[Instruction]:
    """Modes, owners and access lists stay what they are.

    Copying a file sets its mode. Programs take a refusal for a failed copy, so there is none; of
    attributes they expect that a file system may have none.
    """
    for name in MODES:
        if name in numbers:
            yield from _only_for(numbers[name], [_refuse(0)])
    for name in ATTRIBUTES:
        yield from _only_for(numbers[name], [_refuse(errno.EOPNOTSUPP)])


def _leave_others_alone(numbers: Mapping[str, int]) -> Iterator[Instruction]:
    for name in INTO_OTHERS:
        yield from _only_for(numbers[name], [_refuse(errno.EPERM)])
    allow, refuse = (RETURN, 0, 0, ALLOW), _refuse(errno.EPERM)
    for name in PROCESS_BY_NUMBER:
        body = [_load_argument(0), (JUMP_EQUAL, 0, 1, 0), allow, refuse]
        yield from _only_for(numbers[name], body)
    for name, whole_user in WHOLE_USER.items():
        body = [
            *(_load_argument(1), (JUMP_EQUAL, 0, 3, 0)),
            *(_load_argument(0), (JUMP_EQUAL, 1, 0, whole_user)),
            *(allow, refuse),
        ]
        yield from _only_for(numbers[name], body)
    # The limits of others may be read: the new ones are at no address then.
    body = [
        *(_load_argument(0), (JUMP_EQUAL, 4, 0, 0)),
        *(_load_argument(2), (JUMP_EQUAL, 0, 3, 0)),
        *(_load_argument(2, upper=True), (JUMP_EQUAL, 0, 1, 0)),
        *(allow, refuse),
    ]
    yield from _only_for(numbers["prlimit64"], body)


def _only_for(number: int, body: Sequence[Instruction]) -> list[Instruction]:
    """The body, which ends in a return, for one system call; the others jump over it."""
    return [(JUMP_EQUAL, 0, len(body), number), *body]


def _load_argument(index: int, *, upper: bool = False) -> Instruction:
    """The lower half of an argument: the kernel reads whole numbers as 32 bits, too."""
    return (LOAD, 0, 0, AT_ARGUMENTS + 8 * index + 4 * upper)


def _refuse(code: int) -> Instruction:
    return (RETURN, 0, 0, REFUSE | code)
