"""The option --home, and the home that it names."""

import os
import pwd
import stat
from pathlib import Path
from typing import Annotated

import typer

from havre.domain.errors import SettingInvalid
from havre.home import Home, default_home

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="The home folder.",
        readable=False,  # `home_of` says more of one that is not
        show_default="$HAVRE_HOME, else ~/.havre; /var/lib/havre for root",
    ),
]


def home_of(stated: Path | None) -> Home:
    """Raises SettingInvalid for what cannot be a home of this user."""
    root = (stated or default_home()).expanduser().absolute()
    other = "choose another with --home or HAVRE_HOME"
    try:
        status = root.stat()
    except FileNotFoundError:
        return Home(root)
    except NotADirectoryError:
        raise SettingInvalid(
            f"{root} cannot be a home: part of its path is a file; {other}"
        ) from None
    except OSError as error:
        raise SettingInvalid(
            f"the home {root} is out of reach: {error.strerror}; {other}"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise SettingInvalid(f"the home {root} is a file, not a folder; {other}")
    if not os.access(root, os.R_OK | os.X_OK):
        raise SettingInvalid(
            f"the home {root} belongs to {_name_of(status.st_uid)}, and this is "
            f"{_name_of(os.geteuid())}: run havre as its owner, or {other}"
        )
    return Home(root)


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
