"""Starting the server of a home, apart from this terminal or under it."""

import contextlib
import ipaddress
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from havre import kept_settings
from havre.domain.errors import (
    EngineFault,
    HavreError,
    IncorrectState,
    SettingInvalid,
    SystemFault,
    Unavailable,
)
from havre.domain.progress import Progress
from havre.home import Home
from havre.operate import bringup, diagnosis, presence, upgrade
from havre.settings import Settings, load_settings
from havre.supervisor.client import SupervisorClient
from havre.supervisor.protocol import Phase


@dataclass(frozen=True, slots=True)
class Started:
    """A healthy server. ``ran_already``: it is the one that ran before, and was left as it is."""

    url: str
    ran_already: bool

    def __str__(self) -> str:
        return f"havre {'runs already:' if self.ran_already else 'serves'} {self.url}"


def bring_up(
    home: Home,
    flags: Mapping[str, Any],
    *,
    progress: Progress,
    notice: Progress,
    new_database: bool = False,
    changed: Collection[str] = (),
) -> Started:
    """Have the server of this home run, apart from this terminal; returns once it is healthy.

    ``flags`` are settings by name; None states nothing. ``progress`` gets each step, ``notice``
    what somebody should read whatever comes of it. ``new_database``: start with an empty one,
    whatever the home has. ``changed`` names settings that may differ from what the home was begun
    with. A server that runs already is left as it is, unless it is of another version: this one
    takes its place. Raises IncorrectState when that cannot be, or when it has another address or
    other settings than those asked for, SystemFault when it does not come up.
    """
    environ = bringup.environment(home)
    settings = prepare(home, flags, environ)
    about = presence.running(home)
    if about is not None:
        _check_can_serve(about, settings, flags)
        settings = replace(settings, host=about["host"], port=about["port"])
        if new_database:
            raise IncorrectState(
                "the server of this home runs already, with a database; run `havre down` first"
            )
    change = upgrade.change(about) if about else ""
    if about is None or change:
        check(home, settings, notice=notice, new_database=new_database, changed=changed)
    else:
        kept_settings.check_running(home, settings)
        if (trouble := diagnosis.trouble(home, about["url"])) and trouble.is_reported:
            raise Unavailable(f"havre runs already: {about['url']}, but {trouble}")
    if change:
        notice(change)
    progress(change or "starting the server")
    is_new = about is None or bool(change)
    if about is not None and change:
        upgrade.hand_over(home, settings, environ, about)
    if about is None:
        bringup.launch_supervisor(home, settings)
    try:
        url = bringup.bring_up(home, settings, flags, environ, progress)
    except HavreError as error:
        if is_new:
            raise SystemFault("\n".join(filter(None, (error.message, undo(home))))) from error
        raise
    except BaseException:
        if is_new:
            undo(home)
        raise
    return Started(url, ran_already=not is_new)


def prepare(home: Home, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings in force, and the folders of the home. Raises SettingInvalid, SystemFault."""
    settings = load_settings(home.root, flags=flags, environ=environ)
    check_exposure(settings)
    try:
        home.make()
    except OSError as error:
        raise SystemFault(f"the home folder cannot be made: {error}; choose --home") from error
    return settings


def check(
    home: Home,
    settings: Settings,
    *,
    notice: Progress,
    new_database: bool,
    changed: Collection[str],
) -> None:
    """Raises what `upgrade.check` raises; ``notice`` gets what differs from the last start."""
    upgrade.check(home, settings, new_database=new_database, changed=changed)
    for sentence in kept_settings.notes(home, settings):
        notice(sentence)


def check_exposure(settings: Settings) -> None:
    """Raises SettingInvalid when others could call a server that lets everybody in."""
    if settings.auth != "off":
        return
    try:
        address = socket.getaddrinfo(settings.host, None, socket.AF_INET)[0][4][0]
    except OSError:
        return  # binding it will say what is wrong with it
    if not ipaddress.ip_address(address).is_loopback:
        raise SettingInvalid(
            f"host {settings.host} lets other machines in while auth is off: "
            "use --host 127.0.0.1, or have every request signed (--auth oci) first"
        )


def undo(home: Home) -> str:
    """End what came up only now. Where something served before, it goes on: a sentence says so."""
    with contextlib.suppress(EngineFault):
        supervisor = SupervisorClient(home.supervisor_socket)
        processes = supervisor.list()
        if any(process.adopted and process.phase is Phase.RUNNING for process in processes):
            return "what was deployed serves on, with nobody to change it; run `havre up` again"
        supervisor.shutdown(exit_code=1)
    return ""


def _check_can_serve(
    about: Mapping[str, Any], settings: Settings, flags: Mapping[str, Any]
) -> None:
    if about["shutting_down"]:
        raise IncorrectState("the server of this home is shutting down; try again when it is down")
    bringup.check_same_address(about, settings, flags)
