"""Recognises a full disk among troubles with files, and says what is free and needed."""

import errno
import os
import shutil
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WORDS = tuple(os.strerror(number) for number in sorted(DISK_FULL))
_MB = 1_000_000


def is_full(error: OSError) -> bool:
    """Also of what copying a tree raises, which is a list of all that went wrong, in words."""
    if isinstance(error, shutil.Error):
        return any(word in problem for problem in _problems(error) for word in _WORDS)
    return error.errno in DISK_FULL


def message(folder: Path, *, needed: int = 0) -> str:
    """The sentence; ``needed`` bytes, if it is known how many. ``folder`` need not be there."""
    requirement = f", about {_megabytes(needed)} needed" if needed else ""
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = f"{_megabytes(shutil.disk_usage(existing).free)} free{requirement}"
    except OSError:
        free = f"no room{requirement}"
    return f"the disk that holds {folder} is full, or a quota used up: {free}"


def cause(error: OSError, folder: Path, *, needed: int = 0) -> str:
    """Why files in ``folder`` could not be written, in a sentence however many there were."""
    if is_full(error):
        return f"{message(folder, needed=needed)}; make room there"
    if not isinstance(error, shutil.Error):
        return str(error)
    problems = _problems(error)
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"{problems[0] if problems else 'it cannot be copied'}{more}"


def _problems(error: shutil.Error) -> list[str]:
    """copytree's list has (source, destination, why) for each file."""
    listed = error.args[0] if error.args and isinstance(error.args[0], list) else [error.args]
    return [
        str(problem[-1]) if isinstance(problem, tuple) and problem else str(problem)
        for problem in listed
    ]


def _megabytes(count: int) -> str:
    return f"{count / _MB:,.1f} MB" if count < 10 * _MB else f"{count / _MB:,.0f} MB"
