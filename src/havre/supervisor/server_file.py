"""``server.json``: where the server of a home is reached, and which process supervises it."""

import json
from collections.abc import Mapping
from typing import Any

from havre.domain.errors import SystemFault, Unavailable
from havre.home import Home
from havre.supervisor.identity import Identity, is_running

_NEEDED = {"host": str, "port": int, "url": str}


def read(home: Home) -> dict[str, Any]:
    """What the supervisor has written. Raises Unavailable without a file, SystemFault where it is
    no such file.
    """
    path = home.server_file
    try:
        stored = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Unavailable(f"no server runs in {home.root}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(home, str(error)) from error
    if not isinstance(stored, dict) or any(
        not isinstance(stored.get(name), kind) for name, kind in _NEEDED.items()
    ):
        raise _damaged(home, "it does not say where the server is")
    return stored


def read_if_whole(home: Home) -> dict[str, Any] | None:
    """None where there is no such file, or one that is damaged."""
    try:
        return read(home)
    except SystemFault:
        return None


def write(home: Home, about: Mapping[str, Any]) -> None:
    """Raises OSError."""
    beside = home.server_file.with_suffix(".new")
    beside.write_text(json.dumps(about))
    beside.chmod(0o600)
    beside.rename(home.server_file)


def running_supervisor(home: Home) -> Identity | None:
    """The process that the file names, if it runs still, whether or not it can be reached."""
    stored = read_if_whole(home) or {}
    try:
        identity = Identity.from_json(stored["supervisor"])
    except (KeyError, TypeError, ValueError):
        return None
    return identity if is_running(identity) else None


def _damaged(home: Home, why: str) -> SystemFault:
    return SystemFault(
        f"{home.server_file} is damaged ({why}): a running server writes it again within seconds; "
        f"else remove it and run `havre up`"
    )
