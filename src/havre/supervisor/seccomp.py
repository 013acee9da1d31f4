"""A filter of system calls that closes the ways around Landlock's closed ports.

Landlock looks at TCP's connect(2). The kernel reaches a TCP port in other ways, too: the multipath
and SMC protocols fall back to TCP, "fast open" connects while sending, and io_uring does anything
without a system call. None is needed to serve a model. Constants: linux/{seccomp,filter,audit}.h.
"""

import errno
import platform
import socket
import struct
from collections.abc import Sequence
from ctypes import addressof, create_string_buffer

from havre.supervisor.system_calls import PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prctl

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
AT_NUMBER, AT_ARCHITECTURE, AT_ARGUMENTS = 0, 4, 16

FAST_OPEN = 0x20000000
MULTIPATH = 262
OTHER_TABLE = 0x40000000
"""The bit that marks calls of x86-64's second table."""

FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)

ARCHITECTURES = {
    "x86_64": (
        0xC000003E,
        {"socket": 41, "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "io_uring_setup": 425},
    ),
    "aarch64": (
        0xC00000B7,
        {"socket": 198, "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "io_uring_setup": 425},
    ),
}
FLAGS_ARGUMENT = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}

Instruction = tuple[int, int, int, int]


def is_known_here() -> bool:
    return platform.machine() in ARCHITECTURES


def program(machine: str, *, unix_sockets: bool) -> bytes:
    """The filter for a kind of machine. Raises KeyError for a kind that is not known.

    ``unix_sockets``: whether sockets of that family may be made (a pair always may).
    """
    architecture, numbers = ARCHITECTURES[machine]
    families = (*FAMILIES, socket.AF_UNIX) if unix_sockets else FAMILIES
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
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def obey(*, unix_sockets: bool) -> None:
    """From now on, this process and what it starts. Raises OSError, KeyError."""
    code = create_string_buffer(program(platform.machine(), unix_sockets=unix_sockets))
    count = (len(code) - 1) // 8
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, struct.pack("@HP", count, addressof(code)))


def _only_for(number: int, body: Sequence[Instruction]) -> list[Instruction]:
    """The body, which ends in a return, for one system call; the others jump over it."""
    return [(JUMP_EQUAL, 0, len(body), number), *body]


def _load_argument(index: int) -> Instruction:
    """The lower half of an argument: the kernel reads these as 32 bits, too."""
    return (LOAD, 0, 0, AT_ARGUMENTS + 8 * index)


def _refuse(code: int) -> Instruction:
    return (RETURN, 0, 0, REFUSE | code)
