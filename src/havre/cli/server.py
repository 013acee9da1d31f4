"""``havre up``, ``down`` and ``status``."""

import contextlib
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from havre.cli import bringup, output, upgrade
from havre.cli.connection import HomeOption, connect, home_of
from havre.cli.output import JsonOption
from havre.domain.errors import EngineFault, HavreError, IncorrectState, SettingInvalid, SystemFault
from havre.domain.lease import Role
from havre.home import Home
from havre.settings import Settings, load_settings
from havre.supervisor import records
from havre.supervisor.client import Supervisor
from havre.supervisor.identity import Identity, is_running
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE, TELEMETRY, Phase

NOT_RUNNING = 3
"""Exit code of `status` when the server is down."""
GONE_WITHIN_S = 10.0


def register(app: typer.Typer) -> None:
    for command in (up, down, status):
        app.command()(command)


def up(
    home: HomeOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0: the system picks.", show_default="8080"),
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            help="Who may call: off (all, on loopback) or oci (who signs).", show_default="off"
        ),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="URL of the database.", show_default="SQLite in the home"),
    ] = None,
    capacity: Annotated[
        str | None, typer.Option(help="overcommit or strict.", show_default="overcommit")
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(help="debug, info, warning or error.", show_default="info"),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it is healthy, and leave it running.")
    ] = False,
) -> None:
    """Start the server. Without --detach, Ctrl-C stops it and everything it started."""
    where = home_of(home)
    flags: dict[str, Any] = {
        "host": host,
        "port": port,
        "auth": auth,
        "database_url": database_url,
        "capacity": capacity,
        "log_level": log_level,
    }
    if detach or bringup.running(where) is not None:
        bring_up(where, **flags)
    else:
        environ = bringup.environment(where)
        settings = _prepare(where, flags, environ)
        upgrade.check(where, settings)
        _up_in_foreground(where, settings, flags, environ)


def bring_up(home: Home, *, console: Console = output.console, **flags: Any) -> str:
    """Have the server of this home run, apart from this terminal; returns its URL when healthy.

    ``flags`` are settings by name; None states nothing. A server that runs already is left as it
    is, but for one of another version: this one takes its place. Raises IncorrectState when that
    cannot be, or is at another address than the flags ask for, SystemFault when it does not come
    up.
    """
    environ = bringup.environment(home)
    settings = _prepare(home, flags, environ)
    about = bringup.running(home)
    told = "havre serves" if about is None else "havre runs already:"
    if about is not None:
        _check_can_serve(about, settings, flags)
        settings = replace(settings, host=about["host"], port=about["port"])
    change = about and upgrade.change(about)
    if about is None or change:
        upgrade.check(home, settings)
    if change:
        output.errors.print(change)
        told = "havre serves"
    with output.progress(change or "starting the server", console) as step:
        if about is not None and change:
            about = upgrade.hand_over(home, settings, environ, about)
        if about is None:
            bringup.launch_supervisor(home, settings)
        try:
            url = bringup.bring_up(home, settings, flags, environ, step)
        except HavreError as error:
            if about is None or change:
                raise SystemFault("\n".join(filter(None, (error.message, _undo(home))))) from error
            raise
        except BaseException:
            if about is None or change:
                _undo(home)
            raise
    console.print(f"{told} {url}")
    return url


def down(home: HomeOption = None) -> None:
    """Stop the server and everything it started."""
    where = home_of(home)
    about = bringup.running(where)
    if about is not None:
        with output.progress("stopping") as step:
            Supervisor(where.supervisor_socket).shutdown(step)
            _wait_until_gone(Identity(**about["supervisor"]))
        output.say(f"stopped {about['url']}")
    elif _left_running(where):
        with output.progress("stopping what a dead supervisor left"):
            _end_leftovers(where)
        output.say("stopped what was left running")
    else:
        output.say(f"nothing runs in {where.root}")


def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what runs. Exit code 3 when the server is down."""
    where = home_of(home)
    report = look(where)
    if as_json:
        output.print_json(report.to_json())
    else:
        _show(report)
    if not report.is_running:
        raise typer.Exit(NOT_RUNNING)


@dataclass(frozen=True, slots=True)
class Report:
    """What `status` tells; pids are 0 for what does not run.

    ``behind``: sentences on what is not of the version that asks. ``role`` is "holder" or
    "standby", ``holder`` the URL that serves the deployments; both empty while the server is not
    healthy.
    """

    home: str
    is_running: bool = False
    healthy: bool = False
    url: str = ""
    version: str = ""
    role: str = ""
    holder: str = ""
    pid: int = 0
    supervisor_pid: int = 0
    balancer_pid: int = 0
    telemetry_pid: int = 0
    deployments: list[dict[str, str]] = field(default_factory=list)
    left_running: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "running": self.is_running,
            "healthy": self.healthy,
            "home": self.home,
            "url": self.url,
            "version": self.version,
            "role": self.role,
            "holder": self.holder,
            "pid": self.pid,
            "supervisor_pid": self.supervisor_pid,
            "balancer_pid": self.balancer_pid,
            "telemetry_pid": self.telemetry_pid,
            "deployments": self.deployments,
            "left_running": self.left_running,
            "behind": self.behind,
        }


def look(home: Home) -> Report:
    """See what runs in a home."""
    about = bringup.running(home)
    if about is None:
        return Report(str(home.root), left_running=_left_running(home))
    try:
        processes = Supervisor(home.supervisor_socket).list()
    except EngineFault:  # it ended between the two questions
        return Report(str(home.root), left_running=_left_running(home))
    pids = {each.name: each.pid for each in processes if each.phase is Phase.RUNNING}
    health = bringup.health(about["url"])
    return Report(
        home=str(home.root),
        is_running=True,
        healthy=health is not None,
        url=about["url"],
        version=about["version"],
        role=(health or {}).get("role", ""),
        holder=(health or {}).get("holder", ""),
        pid=pids.get(CONTROL_PLANE, 0),
        supervisor_pid=about["supervisor"]["pid"],
        balancer_pid=pids.get(BALANCER, 0),
        telemetry_pid=pids.get(TELEMETRY, 0),
        deployments=_deployments(home) if health is not None else [],
        behind=upgrade.behind(about, processes),
    )


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


def _prepare(home: Home, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    settings = load_settings(home.root, flags=flags, environ=environ)
    check_exposure(settings)
    try:
        home.make()
    except OSError as error:
        raise SystemFault(f"the home folder cannot be made: {error}; choose --home") from error
    return settings


def _check_can_serve(
    about: Mapping[str, Any], settings: Settings, flags: Mapping[str, Any]
) -> None:
    if about["shutting_down"]:
        raise IncorrectState("the server of this home is shutting down; try again when it is down")
    bringup.check_same_address(about, settings, flags)


def _undo(home: Home) -> str:
    """End what came up only now. Where something served before, it serves on: says so."""
    with contextlib.suppress(EngineFault):
        supervisor = Supervisor(home.supervisor_socket)
        if any(each.adopted and each.phase is Phase.RUNNING for each in supervisor.list()):
            return "what was deployed serves on, with nobody to change it; run `havre up` again"
        supervisor.shutdown(exit_code=1)
    return ""


def _up_in_foreground(
    home: Home, settings: Settings, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> NoReturn:
    """Become the supervisor itself; a child of ours asks it for the rest, and leaves."""
    command = bringup.supervisor_command(home, settings, "--foreground")
    sys.stdout.flush()
    supervisor = os.getpid()
    if os.fork() == 0:
        os._exit(_ask_for_the_rest(home, settings, flags, environ, supervisor))
    os.execv(command[0], command)


def _ask_for_the_rest(
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
        output.say(f"havre serves {url} (Ctrl-C stops it)")
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 1  # the supervisor heard it, too
    except Exception as error:
        told = error.message if isinstance(error, HavreError) else repr(error)
        output.print_fault(told)  # first: undoing ends whoever reads it
        if kept := _undo(home):
            output.print_fault(kept)
        return 1
    return 0


def _wait_until_gone(supervisor: Identity) -> None:
    """The port and the lock are free only then."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while is_running(supervisor) and time.monotonic() < deadline:
        time.sleep(bringup.POLL_S)


def _left_running(home: Home) -> list[str]:
    """Names of processes that live though their supervisor does not answer."""
    found, _ = records.load_all(home.processes)
    return [record.spec.name for record in found if is_running(record.identity)]


def _end_leftovers(home: Home) -> None:
    """The supervisor's own code ends them: it takes them over only to shut down."""
    command = [sys.executable, "-P", "-m", "havre.supervisor", "--home", str(home.root), "--end"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemFault(done.stderr.strip().removeprefix("havre: "))


def _deployments(home: Home) -> list[dict[str, str]]:
    return [
        {
            "id": row["id"],
            "display_name": row["displayName"],
            "state": row["lifecycleState"],
            "url": row["modelDeploymentUrl"],
        }
        for row in connect(home).deployments()
    ]


def _show(report: Report) -> None:
    if not report.is_running:
        output.say(f"not running ({report.home})")
        if report.left_running:
            output.say(
                f"left by a dead supervisor: {', '.join(report.left_running)}; "
                "`havre up` takes them over, `havre down` ends them"
            )
        return
    output.say(f"{'healthy' if report.healthy else 'not healthy'}  {report.url}  ({report.home})")
    output.say(
        f"supervisor {report.supervisor_pid}, load balancer {report.balancer_pid or 'down'}, "
        f"control plane {report.pid or 'down'}, telemetry {report.telemetry_pid or 'down'}, "
        f"version {report.version}"
    )
    for sentence in report.behind:
        output.say(sentence)
    if report.role == Role.STANDBY:
        output.say(f"standby; deployments are served by {report.holder}")
    if report.deployments:
        columns = ("display_name", "state", "url")
        rows = [[row[column] for column in columns] for row in report.deployments]
        output.print_table(("deployment", "state", "url"), rows, fold=False)
