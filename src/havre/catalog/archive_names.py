"""The names of a zip archive's entries, where the archive does not give them in Unicode.

The format has code page 437 and, by a flag, UTF-8. The tools in use do otherwise: Finder,
and Info-ZIP on a machine without locales, write UTF-8 and set no flag; other builds of Info-ZIP
write the name in the machine's own code page and, in a field beside it, in UTF-8.
"""

import struct
import unicodedata
import zipfile
import zlib

_IS_UTF8 = 0x800
_UNICODE_PATH = 0x7075
_UNIX = 3
_FINDER = 21
"""Finder writes "version 2.1, Unix" into each entry, Info-ZIP 3.0."""
_FORKS = "__MACOSX/"
"""Where Finder puts what only a Mac knows of a file."""


def name_in_unicode(archive: zipfile.ZipFile) -> None:
    """Give each entry the name that its file had. Reads nothing but the table of contents.

    Names by Finder are composed (é as one character): it decomposes them, and a Mac finds a file
    by either, but score.py holds what a keyboard writes.
    """
    entries = archive.infolist()
    with_forks = any(info.filename.startswith(_FORKS) for info in entries)
    for info in entries:
        if info.orig_filename.isascii() or info.flag_bits & _IS_UTF8:
            continue
        raw = info.orig_filename.encode("cp437")
        name = _unicode_path(info.extra, raw) or _as_utf8(raw)
        if not name:
            continue
        finders = with_forks or (info.create_system, info.create_version) == (_UNIX, _FINDER)
        info.filename = unicodedata.normalize("NFC", name) if finders else name


def _as_utf8(raw: bytes) -> str:
    """Empty if it is none: then it is of a code page, which the archive does not name."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return ""


def _unicode_path(extra: bytes, raw: bytes) -> str:
    """The name in the field for it; empty if there is none, or it is of a name since changed."""
    at = 0
    while len(extra) - at >= 4:
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4 + length
        if kind == _UNICODE_PATH and length > 5:
            field = extra[at - length : at]
            version, checksum = struct.unpack_from("<BL", field)
            if version == 1 and checksum == zlib.crc32(raw):
                return _as_utf8(field[5:])
    return ""
