"""The system calls that Python does not offer, by number: the same ones on every architecture.

Numbers: those above 423 came after the tables were unified. Constants: linux/{prctl,mount,fcntl}.h.
"""

import ctypes
import os
import struct

PR_SET_PARENT_DEATH_SIGNAL = 1
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
MOUNT_SET_ATTRIBUTES = 442
MOUNT_READ_ONLY = 1
AT_HERE, AT_RECURSIVE = -100, 0x8000
CAPABILITY_VERSION = 0x20080522
"""Of linux/capability.h: two words of bits for each kind."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(number: int, *arguments: object) -> int:
    """Raises OSError."""
    return _checked(_libc.syscall(ctypes.c_long(number), *map(_whole, arguments)))


def prctl(option: int, *arguments: object) -> int:
    """Raises OSError."""
    words = [_whole(argument) for argument in arguments]
    return _checked(_libc.prctl(option, *words, *[ctypes.c_ulong(0)] * (4 - len(words))))


def unshare(flags: int) -> None:
    """Raises OSError."""
    _checked(_libc.unshare(flags))


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Raises OSError."""
    words = (source.encode(), os.fsencode(target), kind.encode())
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None))


def set_read_only(path: str, *, is_read_only: bool) -> None:
    """Mounts at and below the path; or, to be written to, the one at it. Raises OSError.

    The kernel (5.12 and newer) keeps whatever else is said of each mount.
    """
    words = (MOUNT_READ_ONLY, 0) if is_read_only else (0, MOUNT_READ_ONLY)
    attributes = struct.pack("=QQQQ", *words, 0, 0)
    flags = AT_RECURSIVE if is_read_only else 0
    call(MOUNT_SET_ATTRIBUTES, AT_HERE, os.fsencode(path), flags, attributes, len(attributes))


def keep_capabilities(kept: int) -> None:
    """Let go of all capabilities but these bits, as far as there are any. Raises OSError."""
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    words = ctypes.create_string_buffer(24)
    _checked(_libc.capget(header, words))
    _, permitted_low, _, _, permitted_high, _ = struct.unpack("=6I", words.raw)
    low, high = permitted_low & kept & 0xFFFFFFFF, permitted_high & kept >> 32
    _checked(_libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)))


def _whole(argument: object) -> object:
    """A variadic function gets its numbers as whole words."""
    return ctypes.c_ulong(argument) if isinstance(argument, int) else argument


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
