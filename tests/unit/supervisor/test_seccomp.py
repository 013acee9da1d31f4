"""The filter of system calls, run by a small machine of our own."""

import errno
import socket
import struct

import pytest

from havre.supervisor import seccomp

MACHINES = tuple(seccomp.ARCHITECTURES)
OTHER_CALL = 63
PRETENDED = -1


def verdict(
    machine: str,
    number: int,
    *arguments: int,
    architecture: int | None = None,
    unix_sockets: bool = True,
    shares_user: bool = False,
    file_modes: bool = True,
    network: bool = True,
) -> int:
    """What the filter answers: 0 to allow, the error, or PRETENDED: done, though it was not."""
    own, _ = seccomp.ARCHITECTURES[machine]
    words = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=iIQ6Q", number, own if architecture is None else architecture, 0, *words)
    code = seccomp.program(
        machine,
        unix_sockets=unix_sockets,
        shares_user=shares_user,
        file_modes=file_modes,
        network=network,
    )
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
                return 0 if operand == seccomp.ALLOW else operand & 0xFFFF or PRETENDED
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


EPERM = errno.EPERM
OTHER, NEW_LIMIT = 4711, 0x7F00_0000_0000
"""A process, and an address whose lower half is zero."""
BEYOND = 1 << 32
"""A word whose lower half, all that the kernel reads of a process's number, is zero."""


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("call", "arguments", "shared"),
    [
        ("prlimit64", (0, 7, NEW_LIMIT, 0), 0),
        ("prlimit64", (0, 7, 0x1000, 0), 0),
        ("prlimit64", (OTHER, 7, 0, 0x1000), 0),
        ("prlimit64", (OTHER, 7, NEW_LIMIT, 0), EPERM),
        ("prlimit64", (OTHER, 7, 0x1000, 0), EPERM),
        ("prlimit64", (OTHER | BEYOND, 7, 0x1000, 0), EPERM),
        ("prlimit64", (BEYOND, 7, 0x1000, 0), 0),
        ("setpriority", (0, 0, 5), 0),
        ("setpriority", (1, 0, 5), 0),
        ("setpriority", (2, 0, 5), EPERM),
        ("setpriority", (0, OTHER, 5), EPERM),
        ("setpriority", (2, OTHER, 5), EPERM),
        ("ioprio_set", (1, 0, 0), 0),
        ("ioprio_set", (2, 0, 0), 0),
        ("ioprio_set", (3, 0, 0), EPERM),
        ("ioprio_set", (1, OTHER, 0), EPERM),
        *((name, (0, 1, 1), 0) for name in seccomp.PROCESS_BY_NUMBER),
        *((name, (OTHER, 1, 1), EPERM) for name in seccomp.PROCESS_BY_NUMBER),
        *((name, (0, 0, 0), EPERM) for name in seccomp.INTO_OTHERS),
    ],
)
def test_who_shares_a_user_names_no_process_but_its_own(
    machine: str, call: str, arguments: tuple[int, ...], shared: int
) -> None:
    number = seccomp.ARCHITECTURES[machine][1][call]
    assert verdict(machine, number, *arguments, shares_user=True) == shared
    assert verdict(machine, number, *arguments) == 0, "its user alone keeps it from others"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("call", seccomp.KEYS)
@pytest.mark.parametrize("shares_user", [False, True])
def test_keys_of_the_session_are_out_of_reach(machine: str, call: str, shares_user: bool) -> None:
    number = seccomp.ARCHITECTURES[machine][1][call]
    assert verdict(machine, number, 0, shares_user=shares_user) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("calls", "expected"),
    [(seccomp.MODES, PRETENDED), (seccomp.ATTRIBUTES, errno.EOPNOTSUPP)],
)
def test_modes_of_files_stay_where_no_view_keeps_them(
    machine: str, calls: tuple[str, ...], expected: int
) -> None:
    _, numbers = seccomp.ARCHITECTURES[machine]
    for call in calls:
        if call in numbers:
            assert verdict(machine, numbers[call], file_modes=False) == expected
            assert verdict(machine, numbers[call]) == 0


def test_each_call_has_a_number_of_its_own() -> None:
    for _, numbers in seccomp.ARCHITECTURES.values():
        assert len(set(numbers.values())) == len(numbers)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 16, 40])
def test_without_a_network_no_socket_is_made(machine: str, family: int) -> None:
    _, numbers = seccomp.ARCHITECTURES[machine]
    said = verdict(machine, numbers["socket"], family, 1, 0, network=False)
    assert said == errno.EAFNOSUPPORT
