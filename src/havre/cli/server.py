"""``havre up`` and ``down``."""

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import typer

from havre.cli import output
from havre.cli.home_option import HomeOption, home_of
from havre.domain.errors import HavreError
from havre.home import Home
from havre.operate import bringup, presence, start
from havre.operate.stop import stop
from havre.settings import Settings


def register(app: typer.Typer) -> None:
    for command in (up, down):
        app.command()(command)


def up(
    home: HomeOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0 picks a free port.", show_default="8080"),
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            help="Authentication. off: anyone, loopback only; oci: only OCI-signed requests.",
            show_default="off",
        ),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="URL of the database.", show_default="SQLite in the home"),
    ] = None,
    capacity: Annotated[
        str | None,
        typer.Option(
            help="Must shapes fit what is free? overcommit: no; strict: yes.",
            show_default="overcommit",
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(help="Log level: debug, info, warning or error.", show_default="info"),
    ] = None,
    new_database: Annotated[
        bool,
        typer.Option(
            "--new-database",
            help="Start with an empty database in a home that has served before: all that the old "
            "one held is lost.",
        ),
    ] = False,
    change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Accept another value of this setting than at the home's last start "
            "(database_url, artifact_store, auth); repeatable.",
        ),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Return once the server is healthy, and leave it running."),
    ] = False,
) -> None:
    """Start the server. Without --detach, Ctrl-C stops it and everything it started."""
    resolved_home = home_of(home)
    flags: dict[str, Any] = {
        "host": host,
        "port": port,
        "auth": auth,
        "database_url": database_url,
        "capacity": capacity,
        "log_level": log_level,
    }
    if detach or presence.running(resolved_home) is not None:
        with output.progress("starting the server") as step:
            server = start.bring_up(
                resolved_home,
                flags,
                progress=step,
                notice=output.note,
                new_database=new_database,
                changed=change or (),
            )
        output.print_text(str(server))
        return
    environ = bringup.environment(resolved_home)
    settings = start.prepare(resolved_home, flags, environ)
    start.check(
        resolved_home, settings, notice=output.note, new_database=new_database, changed=change or ()
    )
    _up_in_foreground(resolved_home, settings, flags, environ)


def down(home: HomeOption = None) -> None:
    """Stop the server and everything it started."""
    resolved_home = home_of(home)
    with output.progress("stopping") as step:
        stopped = stop(resolved_home, step)
    output.print_text(f"stopped {stopped}" if stopped else f"nothing runs in {resolved_home.root}")


def _up_in_foreground(
    home: Home, settings: Settings, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> NoReturn:
    """Re-execute as the supervisor; a child of ours asks it for the rest, and ends."""
    command = bringup.supervisor_command(home, settings, "--foreground")
    sys.stdout.flush()
    supervisor = os.getpid()
    if os.fork() == 0:
        os._exit(_bring_up_the_rest(home, settings, flags, environ, supervisor))
    os.execv(command[0], command)


def _bring_up_the_rest(
    home: Home,
    settings: Settings,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    supervisor: int,
) -> int:
    try:
        with output.progress("starting the supervisor") as step:
            if not bringup.wait_for_parent_supervisor(home, supervisor):
                return 1  # it has said why
            url = bringup.bring_up(home, settings, flags, environ, step)
        output.print_text(f"havre serves {url} (Ctrl-C stops it)")
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 1  # the supervisor heard it, too
    except Exception as error:
        message = error.message if isinstance(error, HavreError) else repr(error)
        output.print_fault(message)  # first: undoing ends whoever reads it
        if kept := start.undo(home):
            output.print_fault(kept)
        return 1
    return 0
