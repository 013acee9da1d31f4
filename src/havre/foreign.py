"""Files in folders that others write to: a model's own, above all.

What lies there may be anything by any name: a pipe that nobody writes to, a device, a link to
elsewhere, a file without end, one under a lease. So nothing is opened that is no plain file, no
link is followed on the way, no call waits, and no more is read than was asked for.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LARGEST_RECORD = 1024 * 1024

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def open_folder(path: Path, *, below: Path) -> Iterator[int]:
    """A descriptor of a folder; no part of the way from ``below``, which is ours, may be a link.

    Raises OSError; ValueError if ``path`` is not below it.
    """
    descriptor = os.open(below, FOLDER & ~os.O_NOFOLLOW)
    try:
        for name in path.relative_to(below).parts:
            beneath = os.open(name, FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = beneath
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(path: Path, *, below: Path, access: int = os.O_RDONLY) -> int:
    """A descriptor of a plain file, on the same terms; ``access`` as of ``os.open``.

    Raises OSError, also when it is no plain file; the caller closes it.
    """
    with open_folder(path.parent, below=below) as folder:
        descriptor = os.open(path.name, access | _FILE, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a plain file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(path: Path, *, below: Path, max_bytes: int) -> bytes:
    """A whole file of at most ``max_bytes``. Raises OSError; ValueError when it is larger."""
    with open(open_file(path, below=below), "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path} has more than {max_bytes} bytes")
    return content


def read_json(path: Path, *, below: Path, max_bytes: int = LARGEST_RECORD) -> dict[str, Any]:
    """A JSON object. Raises OSError; ValueError when it is none."""
    try:
        record = json.loads(read(path, below=below, max_bytes=max_bytes))
    except RecursionError as error:
        raise ValueError(f"{path} nests too deeply") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds no object")
    return record
