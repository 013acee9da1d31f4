"""What a shared object asks of the loader, read from the file itself.

`ldd` would do, but it runs the loader on the file, and these files are not ours. Only what the
loader reads (the dynamic section) is read, with bounds: a damaged or hostile file counts as none.

Format: the System V ABI, chapters 4 and 5, and the GNU extensions for versions of symbols
(Linux Standard Base, "Symbol Versioning").
"""

import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243, "ppc64le": 21, "s390x": 22}
"""The number of a machine (``e_machine``) by its name in uname."""

_MAX_TABLE_BYTES = 1 << 16
_MAX_NAME_BYTES = 4096
_MAX_VERSIONS = 1 << 12

_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
_VERSIONS_DEFINED, _VERSIONS_NEEDED = 0x6FFFFFFC, 0x6FFFFFFE


@dataclass(frozen=True, slots=True)
class SharedObject:
    """``paths`` is where it has the loader look, as written (``$ORIGIN/../x.libs``).

    ``wants`` are the versions of symbols that it wants of each library, ``has`` those that it has.
    """

    machine: int
    soname: str
    needed: tuple[str, ...]
    paths: tuple[str, ...]
    wants: dict[str, frozenset[str]]
    has: frozenset[str]


def read_shared_object(path: Path) -> SharedObject | None:
    """A 64-bit one of this machine's byte order; None for anything else, and what is damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _File(descriptor).read()
    except (OSError, ValueError, struct.error, OverflowError):
        return None
    finally:
        os.close(descriptor)


class _File:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._order = "<" if sys.byteorder == "little" else ">"
        self._segments: list[tuple[int, int, int]] = []  # address, offset, size in the file
        self._strings = 0

    def read(self) -> SharedObject | None:
        header = self._at(0, 64)
        if header[:5] != b"\x7fELF\x02" or header[5] != (1 if self._order == "<" else 2):
            return None
        machine = self._number(header, 18, "H")
        first, size, count = (
            self._number(header, 32, "Q"),
            self._number(header, 54, "H"),
            self._number(header, 56, "H"),
        )
        if size < 56 or size * count > _MAX_TABLE_BYTES:
            return None
        table = self._at(first, size * count)
        dynamic: tuple[int, int] | None = None
        for start in range(0, size * count, size):
            kind = self._number(table, start, "I")
            offset, address, _, length = self._numbers(table, start + 8, "QQQQ")
            if kind == _LOAD:
                self._segments.append((address, offset, length))
            elif kind == _DYNAMIC:
                dynamic = offset, min(length, _MAX_TABLE_BYTES)
        if dynamic is None:
            return None
        return self._described(machine, self._at(*dynamic))

    def _described(self, machine: int, dynamic: bytes) -> SharedObject | None:
        entries: list[tuple[int, int]] = []
        for start in range(0, len(dynamic) - 15, 16):
            tag, value = self._numbers(dynamic, start, "QQ")
            if tag == 0:
                break
            entries.append((tag, value))
        last = dict(entries)
        if _STRINGS not in last:
            return None
        self._strings = self._offset(last[_STRINGS])
        # Where there is a RUNPATH the loader does not look at the RPATH.
        paths = last.get(_RUNPATH, last.get(_RPATH))
        needed, defined = last.get(_VERSIONS_NEEDED), last.get(_VERSIONS_DEFINED)
        return SharedObject(
            machine=machine,
            soname=self._string(last[_SONAME]) if _SONAME in last else "",
            needed=tuple(self._string(value) for tag, value in entries if tag == _NEEDED),
            paths=tuple(self._string(paths).split(":")) if paths is not None else (),
            wants=dict(self._needed_versions(self._offset(needed))) if needed is not None else {},
            has=frozenset(() if defined is None else self._defined_versions(self._offset(defined))),
        )

    def _needed_versions(self, offset: int) -> Iterator[tuple[str, frozenset[str]]]:
        """Elfxx_Verneed: of each library a chain of versions."""
        for _ in range(_MAX_VERSIONS):
            _, count, library, first, after = self._numbers(self._at(offset, 16), 0, "HHIII")
            names, inner = set(), offset + first
            for _ in range(min(count, _MAX_VERSIONS)):
                _, _, _, name, further = self._numbers(self._at(inner, 16), 0, "IHHII")
                names.add(self._string(name))
                inner += further
            yield self._string(library), frozenset(names)
            if not after:
                return
            offset += after

    def _defined_versions(self, offset: int) -> Iterator[str]:
        """Elfxx_Verdef: the first name of each is its own."""
        for _ in range(_MAX_VERSIONS):
            words = self._numbers(self._at(offset, 20), 0, "HHHHIII")
            (name,) = self._numbers(self._at(offset + words[5], 4), 0, "I")
            yield self._string(name)
            if not words[6]:
                return
            offset += words[6]

    def _offset(self, address: int) -> int:
        """Where in the file something lies that the loader finds at an address."""
        for start, offset, length in self._segments:
            if start <= address < start + length:
                return address - start + offset
        raise ValueError("an address outside of the file")

    def _string(self, index: int) -> str:
        name, end, _ = os.pread(self._descriptor, _MAX_NAME_BYTES, self._strings + index).partition(
            b"\0"
        )
        if not end:
            raise ValueError("a name without an end")
        return name.decode(errors="replace")

    def _at(self, offset: int, size: int) -> bytes:
        piece = os.pread(self._descriptor, size, offset)
        if len(piece) < size:
            raise ValueError("the file is cut short")
        return piece

    def _number(self, piece: bytes, start: int, kind: str) -> int:
        return self._numbers(piece, start, kind)[0]

    def _numbers(self, piece: bytes, start: int, kinds: str) -> tuple[int, ...]:
        return struct.unpack_from(self._order + kinds, piece, start)
