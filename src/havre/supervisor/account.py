"""An account for a model's user, which is a number that no list of accounts has.

Libraries ask for the name of whoever runs them, or of a file's owner, and fail where there is none.
So a model's own view of the system has lists with one account more: of that user, with its home.
"""

import os
from contextlib import suppress
from pathlib import Path

from havre.supervisor.system_calls import mount

NAME, OTHER_NAME = "model", "havre-model"
ACCOUNTS, GROUPS = Path("/etc/passwd"), Path("/etc/group")

_BIND = 1 << 12  # linux/mount.h
_FILE = ".havre-account"


def name_of(uid: int, accounts: Path = ACCOUNTS) -> str:
    """What the user is called: by the machine, or by us."""
    rows = _rows(accounts)
    names = {row[0] for row in rows}
    own = OTHER_NAME if NAME in names else NAME
    return next((row[0] for row in rows if row[2:3] == [str(uid)]), own)


def lists(uid: int, gid: int, home: str) -> dict[Path, str]:
    """The lists that lack the user or its group, each with one line more."""
    name = name_of(uid)
    entries = {
        ACCOUNTS: (uid, f"{name}:x:{uid}:{gid}:a model of havre:{home}:/bin/sh"),
        GROUPS: (gid, f"{name}:x:{gid}:"),
    }
    extended = {}
    for path, (number, line) in entries.items():
        rows = _rows(path)
        if rows and not any(row[2:3] == [str(number)] for row in rows):
            extended[path] = "".join(f"{':'.join(row)}\n" for row in rows) + f"{line}\n"
    return extended


def show(uid: int, gid: int, *, home: str, scratch: str) -> None:
    """Put such lists in the place of the machine's, in this view. Raises OSError.

    ``scratch`` is a folder of this view alone; nothing of theirs stays in it.
    """
    for path, text in lists(uid, gid, home).items():
        file = os.path.join(scratch, _FILE)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            os.write(descriptor, text.encode(errors="surrogateescape"))
            os.fchmod(descriptor, 0o444)  # whatever the umask is
            mount(file, str(path), "", _BIND)
        finally:
            os.close(descriptor)
            os.unlink(file)


def _rows(path: Path) -> list[list[str]]:
    with suppress(OSError):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        return [line.split(":") for line in text.splitlines() if line.strip()]
    return []
