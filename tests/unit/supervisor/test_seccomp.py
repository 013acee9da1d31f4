"""The filter of system calls, run by a small machine of our own."""

import errno
import socket
import struct

import pytest

from havre.supervisor import seccomp

MACHINES = tuple(seccomp.ARCHITECTURES)
OTHER_CALL = 63


def verdict(
    machine: str,
    number: int,
    *arguments: int,
    architecture: int | None = None,
    unix_sockets: bool = True,
) -> int:
    """What the filter answers: 0 to allow, or the error."""
    own, _ = seccomp.ARCHITECTURES[machine]
    words = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=iIQ6Q", number, own if architecture is None else architecture, 0, *words)
    code = seccomp.program(machine, unix_sockets=unix_sockets)
    instructions = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    at = value = 0
    while True:
        operation, if_true, if_false, operand = instructions[at]
        at += 1
        match operation:
            case seccomp.LOAD:
                (value,) = struct.unpack_from("=I", data, operand)
            case seccomp.JUMP_EQUAL:
                at += if_true if value == operand else if_false
            case seccomp.JUMP_GREATER_EQUAL:
                at += if_true if value >= operand else if_false
            case seccomp.JUMP_ANY_BIT:
                at += if_true if value & operand else if_false
            case seccomp.RETURN:
                return 0 if operand == seccomp.ALLOW else operand & 0xFFFF
            case _:
                raise AssertionError(operation)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("socket", (socket.AF_INET, socket.SOCK_STREAM, 0), 0),
        ("socket", (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP), 0),
        ("socket", (socket.AF_UNIX, socket.SOCK_STREAM, 0), 0),
        ("socket", (socket.AF_NETLINK, socket.SOCK_RAW, 0), 0),
        ("socket", (socket.AF_INET, socket.SOCK_STREAM, 262), errno.EPROTONOSUPPORT),
        ("socket", (43, socket.SOCK_STREAM, 0), errno.EAFNOSUPPORT),
        ("socket", (40, socket.SOCK_STREAM, 0), errno.EAFNOSUPPORT),
        ("socket", (socket.AF_INET | 1 << 32, 1, 262 | 1 << 32), errno.EPROTONOSUPPORT),
        ("sendto", (3, 0, 1, 0), 0),
        ("sendto", (3, 0, 1, 0x20000000), errno.EOPNOTSUPP),
        ("sendmsg", (3, 0, 0x20004000), errno.EOPNOTSUPP),
        ("sendmsg", (3, 0, 0x4000), 0),
        ("sendmmsg", (3, 0, 1, 0x20000000), errno.EOPNOTSUPP),
        ("io_uring_setup", (8, 0), errno.ENOSYS),
    ],
)
def test_ways_around_the_closed_port_are_closed(
    machine: str, call: str, arguments: tuple[int, ...], expected: int
) -> None:
    _, numbers = seccomp.ARCHITECTURES[machine]
    assert verdict(machine, numbers[call], *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_the_rest_is_allowed_in_the_native_table_only(machine: str) -> None:
    assert verdict(machine, OTHER_CALL) == 0
    assert verdict(machine, OTHER_CALL | 0x40000000) == errno.ENOSYS
    assert verdict(machine, OTHER_CALL, architecture=0x40000003) == errno.ENOSYS


def test_unix_sockets_can_be_refused() -> None:
    _, numbers = seccomp.ARCHITECTURES["x86_64"]
    unix, inet = (
        verdict("x86_64", numbers["socket"], family, 1, 0, unix_sockets=False)
        for family in (socket.AF_UNIX, socket.AF_INET)
    )
    assert (unix, inet) == (errno.EAFNOSUPPORT, 0)
