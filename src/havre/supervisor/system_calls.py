"""The system calls that Python does not offer, by number: the same ones on every architecture.

Numbers: linux/landlock.h came after the tables were unified (444 to 446 everywhere).
"""

import ctypes
import os

PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

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


def _whole(argument: object) -> object:
    """A variadic function gets its numbers as whole words."""
    return ctypes.c_ulong(argument) if isinstance(argument, int) else argument


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
