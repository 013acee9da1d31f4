"""Shared objects made by hand: what the loader reads of one, and no code."""

import platform
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from havre.environments.elf import MACHINES

HERE = MACHINES[platform.machine()]


def write_shared_object(
    path: Path,
    *,
    soname: str = "",
    needed: Sequence[str] = (),
    runpath: str = "",
    rpath: str = "",
    wants: Mapping[str, Sequence[str]] | None = None,
    has: Sequence[str] = (),
    machine: int = HERE,
) -> Path:
    """One segment, the whole file, which the loader would put at an address that is no offset."""
    strings = _Strings()
    dynamic: list[tuple[int, int]] = [(1, strings.add(name)) for name in needed]
    for tag, text in ((14, soname), (15, rpath), (29, runpath)):
        if text:
            dynamic.append((tag, strings.add(text)))
    wanted = _wanted(strings, wants or {})
    here = _here(strings, has)
    base, start = 0x10000, 64 + 2 * 56
    places, content = {}, b""
    for tag, piece in ((5, bytes(strings.text)), (0x6FFFFFFE, wanted), (0x6FFFFFFC, here)):
        if piece:
            places[tag] = base + start + len(content)
            content += piece + bytes(-len(piece) % 8)
    dynamic += [*places.items(), (0, 0)]
    table = b"".join(struct.pack("QQ", *entry) for entry in dynamic)
    where = start + len(content)
    whole = where + len(table)
    header = struct.pack(
        "16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0),
    )
    segments = struct.pack("IIQQQQQQ", 1, 5, 0, base, base, whole, whole, 0x1000)
    segments += struct.pack("IIQQQQQQ", 2, 6, where, base + where, 0, len(table), len(table), 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + segments + content + table)
    return path


class _Strings:
    def __init__(self) -> None:
        self.text = bytearray(b"\0")

    def add(self, text: str) -> int:
        place = len(self.text)
        self.text += text.encode() + b"\0"
        return place


def _wanted(strings: _Strings, wants: Mapping[str, Sequence[str]]) -> bytes:
    pieces = []
    for library, versions in wants.items():
        names = b"".join(
            struct.pack("IHHII", 0, 0, 2, strings.add(name), 16 if name != versions[-1] else 0)
            for name in versions
        )
        pieces.append(
            struct.pack("HHIII", 1, len(versions), strings.add(library), 16, 16 + len(names))
            + names
        )
    if pieces:  # the last one names no next
        pieces[-1] = pieces[-1][:12] + struct.pack("I", 0) + pieces[-1][16:]
    return b"".join(pieces)


def _here(strings: _Strings, has: Sequence[str]) -> bytes:
    return b"".join(
        struct.pack("HHHHIII", 1, 0, number + 1, 1, 0, 20, 28 if number < len(has) - 1 else 0)
        + struct.pack("II", strings.add(name), 0)
        for number, name in enumerate(has)
    )
