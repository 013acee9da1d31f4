"""Messages that reach a user are short: what does not fit is in a file that they name."""

import hashlib
from contextlib import suppress
from pathlib import Path

from havre import durable
from havre.domain.reported import MAX_MESSAGE_BYTES, shorten

MAX_FILES = 100
"""Kept of those that did not fit; the oldest go first."""


def fit(message: str, folder: Path) -> str:
    """The message, or its beginning and end and where the whole is: a file in ``folder``."""
    content = message.encode(errors="replace")
    if len(content) <= MAX_MESSAGE_BYTES:
        return message
    path = folder / f"{hashlib.sha256(content).hexdigest()[:16]}.txt"
    try:
        _write(path, content)
        where = f"all of it is in {path}"
    except OSError as error:
        where = f"the rest is lost, as it cannot be written: {error.strerror}"
    return shorten(message, f" … [{len(content):,} bytes; {where}] … ")


def _write(path: Path, content: bytes) -> None:
    durable.make_folder(path.parent)
    durable.write_file(path, content)
    with suppress(FileNotFoundError):  # another one tidies up, too
        files = sorted(path.parent.glob("*.txt"), key=lambda file: file.stat().st_mtime)
        for old in files[:-MAX_FILES]:
            old.unlink(missing_ok=True)
