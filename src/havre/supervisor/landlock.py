"""Landlock: rules that a process lays on itself and its children, for good, without being root.

Every file not named is out of reach, every TCP port but the closed ones is open. With them come
(kernel 5.13 and newer) no tracing and (6.12) no signalling of processes outside.
Constants: linux/landlock.h.
"""

import errno
import os
import struct
from collections.abc import Iterable
from ctypes import create_string_buffer
from functools import cache

from havre.supervisor.system_calls import call

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION = 1
RULE_PATH, RULE_PORT = 1, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REFER, TRUNCATE, IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
BASIC = (1 << 13) - 1
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
READ = EXECUTE | READ_FILE | READ_DIR
BIND, CONNECT = 1, 2
ABSTRACT_SOCKETS, SIGNALS = 1, 2

ABI_PORTS, ABI_SIGNALS = 4, 6
PORTS = 65536


SWITCHED_OFF = errno.EOPNOTSUPP
WHY_NOT = {
    errno.ENOSYS: "this kernel has no Landlock",
    SWITCHED_OFF: "Landlock is switched off on this machine",
}


@cache
def abi() -> int:
    """What the kernel offers, a number that grows; 0 is nothing."""
    return _version()[0]


def obstacle() -> str:
    """Why there is nothing; "" where there is something."""
    return _version()[1]


@cache
def _version() -> tuple[int, str]:
    try:
        return call(CREATE_RULESET, None, 0, CREATE_RULESET_VERSION), ""
    except OSError as error:
        return 0, WHY_NOT.get(error.errno or 0, f"Landlock is refused to havre ({error.strerror})")


def file_rules(readable: Iterable[str], writable: Iterable[str]) -> int:
    """A descriptor of rules: below these files and folders, nowhere else. Raises OSError.

    Paths that are not there are left out. The kernel marks the files themselves, not their names.
    """
    handled = _handled_files()
    scoped = ABSTRACT_SOCKETS | SIGNALS if abi() >= ABI_SIGNALS else 0
    rules = _ruleset(files=handled, scoped=scoped)
    for paths, rights in ((readable, READ), (writable, handled & ~IOCTL_DEVICE)):
        for path in paths:
            _allow_below(rules, path, rights & handled)
    return rules


def device_rules(rules: int, devices: Iterable[str]) -> None:
    """Let devices be read, written and controlled. Raises OSError."""
    for path in devices:
        _allow_below(rules, path, (READ | WRITE_FILE | IOCTL_DEVICE) & _handled_files())


def port_rules(closed: Iterable[int]) -> int:
    """A descriptor of rules: no connecting to these TCP ports, nor listening on them.

    Only what is open can be listed, so this takes a tenth of a second: keep the descriptor. The
    kernel needs ABI_PORTS. Raises OSError.
    """
    rules = no_ports()
    closed = frozenset(closed)
    rule = create_string_buffer(16)
    for port in range(PORTS):
        if port not in closed:
            struct.pack_into("=QQ", rule, 0, BIND | CONNECT, port)
            call(ADD_RULE, rules, RULE_PORT, rule, 0)
    return rules


def no_ports() -> int:
    """A descriptor of rules: no TCP port at all. The kernel needs ABI_PORTS. Raises OSError.

    Rules that name no files forbid one thing of them all the same: to move or link a file from one
    folder to another fails with EXDEV (seen with Linux 6.18). So that is named, and allowed.
    """
    rules = _ruleset(files=REFER, ports=BIND | CONNECT)
    _allow_below(rules, "/", REFER)
    return rules


def obey(rules: int) -> None:
    """From now on, this process and what it starts. It must have promised no new privileges."""
    call(RESTRICT_SELF, rules, 0)


def _handled_files() -> int:
    handled = BASIC
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEVICE)):
        handled |= right if abi() >= since else 0
    return handled


def _ruleset(*, files: int = 0, ports: int = 0, scoped: int = 0) -> int:
    # A kernel that does not know a field refuses its being there only when it is not zero.
    attributes = struct.pack("=QQQ", files, ports, scoped)
    return call(CREATE_RULESET, attributes, len(attributes), 0)


def _allow_below(rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            rights &= OF_FILES
        call(ADD_RULE, rules, RULE_PATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
