"""What pickled files show of how they were made, without being loaded: nothing of them is run.

Their bytes are searched for the forms in which pickles write names and versions. joblib puts raw
arrays in between, so a reader of the pickle's own steps would be lost.
"""

import bz2
import lzma
import re
import string
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of a file that are looked at, and of what it is decompressed to."""

_SUFFIXES = frozenset({".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill", ".sav"})
_SHORT_TEXT = re.compile(rb"\x8c(.)([A-Za-z_][\w.]*)", re.DOTALL)
_END_OF_MODULE = re.compile(rb"\n(?=[A-Za-z_][\w.]{0,200}\n)")
_OF_NAMES = (string.ascii_letters + string.digits + "_.").encode()
_MAX_NAME_BYTES, _MAX_NAMES = 200, 100_000
_MAX_FILES, _MAX_TOTAL_BYTES = 100, 4 * MAX_BYTES
_SKLEARN = re.compile(
    rb"_sklearn_version(?:\x94\x8c.|q.X....|r....X....)(\d+\.[\w.]{1,20}?)(?=[\x94qr])", re.DOTALL
)
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def pickles(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The name and the decompressed beginning of pickled files below a folder, of the first ones
    where there are very many.
    """
    left = _MAX_TOTAL_BYTES
    named = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES)
    for path in islice(named, _MAX_FILES):
        if path.is_symlink() or not path.is_file() or left <= 0:
            continue
        try:
            with path.open("rb") as file:
                content = _decompressed(file.read(min(MAX_BYTES, left)))
        except OSError:
            continue  # whoever packs or loads it says so
        left -= len(content)
        yield str(path.relative_to(folder)), content


def modules_in(pickle: bytes) -> set[str]:
    """The dotted names in a pickle; modules are among them."""
    names = set(islice(_global_modules(pickle), _MAX_NAMES))
    for match in islice(_SHORT_TEXT.finditer(pickle), _MAX_NAMES):
        length = match[1][0]
        name = match[2][:length].decode()
        if len(name) == length and _NAME.fullmatch(name):
            names.add(name)
    return names


def _global_modules(pickle: bytes) -> Iterator[str]:
    """Of the opcode GLOBAL, which is ``c``, a module, a newline, a name and a newline.

    Sought from the newline on: what is no pickle must not cost more than its length.
    """
    for match in islice(_END_OF_MODULE.finditer(pickle), 10 * _MAX_NAMES):
        before = pickle[max(0, match.start() - _MAX_NAME_BYTES) : match.start()]
        _, code, module = before[len(before.rstrip(_OF_NAMES)) :].partition(b"c")
        if code and _NAME.fullmatch(name := module.decode()):
            yield name


def sklearn_version(pickle: bytes) -> str:
    """The version of scikit-learn that saved an estimator in it, or empty."""
    match = _SKLEARN.search(pickle)
    return match[1].decode() if match else ""


def _decompressed(content: bytes) -> bytes:
    """What joblib, gzip and their kin have packed; what is not packed, or damaged, as it is."""
    try:
        if content[:1] == b"\x78" or content[:2] == b"\x1f\x8b":
            return zlib.decompressobj(wbits=47).decompress(content, MAX_BYTES)
        if content[:3] == b"BZh":
            return bz2.BZ2Decompressor().decompress(content, MAX_BYTES)
        if content[:6] == b"\xfd7zXZ\x00" or content[:3] == b"\x5d\x00\x00":
            return lzma.LZMADecompressor(memlimit=4 * MAX_BYTES).decompress(content, MAX_BYTES)
    except (zlib.error, OSError, lzma.LZMAError, ValueError):
        pass
    return content
