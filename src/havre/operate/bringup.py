"""Bringing a home up: the supervisor, then the processes of a server, then its health."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx

from havre.balancer.base import Companion, OpenTo
from havre.balancer.registry import balancer_process
from havre.domain.errors import IncorrectState, SystemFault
from havre.domain.progress import Progress
from havre.home import Home
from havre.operate import presence
from havre.release import current
from havre.settings import Settings
from havre.settings_table import SETTINGS
from havre.supervisor import records
from havre.supervisor.client import SupervisorClient
from havre.supervisor.identity import is_running
from havre.supervisor.protocol import (
    BALANCER,
    CONTROL_PLANE,
    TELEMETRY,
    Phase,
    ProcessSpec,
    ProcessStatus,
    Restart,
)

PASSED_ON = frozenset(
    {"HOME", "LANG", "LD_LIBRARY_PATH", "LOGNAME", "NETRC", "PATH", "PYTHONPATH", "TMPDIR"}
    | {"TZ", "USER", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}
)
PASSED_ON_PREFIXES = ("AWS_", "HAVRE_", "LC_", "OCI_", "PIP_", "PYENV_", "SSL_", "UV_", "XDG_")
CODE_VARIABLES = frozenset({"PYTHONPATH", "LD_LIBRARY_PATH"})
READY_WITHIN_S = 60.0
SUPERVISOR_WITHIN_S = 15.0
HOPELESS_RESTARTS = 4
POLL_S = 0.05
LOG_LINES = 15


def environment(home: Home) -> dict[str, str]:
    """The variables of this shell, over those that the running control plane was given.

    Variables that a server was started with stay in force until it is stopped or they are set
    again: an upgrade from another shell must not lead it to another database. Only the variables
    that say where its code is are always this shell's.
    """
    loaded, _ = records.load_all(home.processes)
    earlier: dict[str, str] = {}
    for record in loaded:
        if record.spec.name == CONTROL_PLANE and is_running(record.identity):
            earlier = {
                name: value
                for name, value in record.spec.environment.items()
                if name not in CODE_VARIABLES
            }
    return {**earlier, **os.environ}


def check_same_address(
    about: Mapping[str, Any], settings: Settings, flags: Mapping[str, Any]
) -> None:
    """Raises IncorrectState when a server that runs already is asked to be elsewhere.

    A host or port that is only the default asks for nothing.
    """
    defaults = {setting.name: setting.default for setting in SETTINGS}
    for name in ("host", "port"):
        requested = getattr(settings, name)
        stated = flags.get(name) is not None or requested != defaults[name]
        if stated and requested != about[name] and not (name == "port" and requested == 0):
            raise IncorrectState(
                f"the server of this home runs already, at {about['url']}; "
                f"run `havre down` before moving it to {name} {requested}"
            )


def supervisor_command(home: Home, settings: Settings, *options: str) -> list[str]:
    return [
        *(sys.executable, "-P", "-m", "havre.supervisor", "--home", str(home.root)),
        *("--host", settings.host, "--port", str(settings.port), *options),
    ]


def launch_supervisor(home: Home, settings: Settings) -> None:
    """Start the supervisor detached from this terminal, and wait until it responds.

    Raises SystemFault with its error output when it does not.
    """
    errors = home.logs / "supervisor.err"
    with errors.open("wb") as file:
        program = subprocess.Popen(
            supervisor_command(home, settings),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=home.root,
            start_new_session=True,
        )
    deadline = time.monotonic() + SUPERVISOR_WITHIN_S
    while (about := presence.responding(home)) is None or about["supervisor"]["pid"] != program.pid:
        if program.poll() is not None:
            raise SystemFault(errors.read_text().strip().removeprefix("havre: "))
        if time.monotonic() > deadline:
            program.kill()
            program.wait()
            raise SystemFault(f"the supervisor did not come up; see {errors}")
        time.sleep(POLL_S)


def wait_for_parent_supervisor(home: Home, parent: int) -> bool:
    """Wait until our parent, now the supervisor, responds; False when it ended instead."""
    while (about := presence.responding(home)) is None or about["supervisor"]["pid"] != parent:
        if os.getppid() != parent:
            return False
        time.sleep(POLL_S)
    return True


def bring_up(
    home: Home,
    settings: Settings,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    progress: Progress,
) -> str:
    """Have the supervisor run the processes of a server; returns its URL once it is healthy.

    What runs already is left as it is, except a control plane or telemetry process that an earlier
    supervisor started from another version or with other settings: it is replaced, which no
    prediction notices. A load balancer of that kind serves on; its next start is of this version.
    Raises SystemFault with the last lines of the log of the process that did not come up.
    """
    supervisor = SupervisorClient(home.supervisor_socket)
    about = supervisor.ping()
    progress("starting the load balancer")
    balancer = balancer_process(home)
    companions = balancer.prepare(
        settings,
        host=about["host"],
        port=about["port"],
        open_to=OpenTo(about["port"], about["host"], tuple(settings.allowed_hosts)),
        is_running=_runs(supervisor.inspect(BALANCER)),
    )
    for companion in companions:
        _ensure(supervisor, _companion(home, companion, flags, environ))
    _ensure_balancer(supervisor, balancer.spec(settings))
    progress("starting the control plane")
    _ensure(supervisor, _control_plane(home, flags, environ))
    _ensure(supervisor, _telemetry(home, flags, environ))
    progress("waiting until it is healthy")
    _wait_until_healthy(home, supervisor, about["url"])
    url: str = about["url"]
    return url


def health(url: str, signer: httpx.Auth | None = None) -> dict[str, str] | None:
    """The report of a healthy server; None when it is not healthy.

    Where requests must be signed, only signed ones get all of it.
    """
    try:
        # Proxies of the environment are for the world outside.
        response = httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False, auth=signer)
        report: dict[str, str] = response.raise_for_status().json()
        return report
    except (httpx.HTTPError, ValueError):
        return None


def is_healthy(url: str) -> bool:
    return health(url) is not None


def _ensure_balancer(supervisor: SupervisorClient, spec: ProcessSpec) -> None:
    status = supervisor.inspect(BALANCER)
    if status is None or not _runs(status):
        supervisor.start(spec)
    elif status.adopted and status.spec_digest != spec.digest:
        supervisor.renew(spec)


def _ensure(supervisor: SupervisorClient, spec: ProcessSpec) -> None:
    """For processes that no prediction passes through."""
    status = supervisor.inspect(spec.name)
    if status is not None and _runs(status):
        if not status.adopted or status.spec_digest == spec.digest:
            return
        supervisor.stop(spec.name)
    supervisor.start(spec)


def _runs(status: ProcessStatus | None) -> bool:
    return status is not None and status.phase is Phase.RUNNING


def _control_plane(home: Home, flags: Mapping[str, Any], environ: Mapping[str, str]) -> ProcessSpec:
    return _own_process(home, CONTROL_PLANE, "havre.service", flags, environ)


def _telemetry(home: Home, flags: Mapping[str, Any], environ: Mapping[str, str]) -> ProcessSpec:
    return _own_process(home, TELEMETRY, "havre.telemetry", flags, environ)


def _companion(
    home: Home, companion: Companion, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> ProcessSpec:
    """A process that the load balancer needs beside it."""
    return _own_process(
        home, companion.name, companion.module, flags, environ, listen=companion.listen
    )


def _own_process(
    home: Home,
    name: str,
    module: str,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    listen: tuple[str, ...] = (),
) -> ProcessSpec:
    """It reads its settings itself; flags reach it as variables.

    Its address is the supervisor's: another ``--port`` is no reason to restart it. Other code is,
    so the release is among its arguments.
    """
    stated = {
        f"HAVRE_{flag.upper()}": str(value)
        for flag, value in flags.items()
        if value is not None and flag not in {"host", "port"}
    }
    return ProcessSpec(
        name=name,
        argv=(
            *(sys.executable, "-P", "-m", module),
            *("--home", str(home.root), "--release", str(current())),
        ),
        environment={**passed_on(environ), **stated},
        folder=str(home.root),
        log=str(home.logs / f"{name}.log"),
        listen=listen,
        restart=Restart.ALWAYS,
    )


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """The shell's variables that our own processes get: those that building environments, reaching
    indexes and object stores, and our settings need. All others stay in the shell.
    """
    return {
        name: value
        for name, value in sorted(environ.items())
        if name in PASSED_ON
        or name.lower().endswith("_proxy")
        or (name.startswith(PASSED_ON_PREFIXES) and name not in {"HAVRE_HOST", "HAVRE_PORT"})
    }


def _wait_until_healthy(home: Home, supervisor: SupervisorClient, url: str) -> None:
    began = {status.name: status.restarts for status in supervisor.list()}
    deadline = time.monotonic() + READY_WITHIN_S
    while not is_healthy(url):
        statuses = {status.name: status for status in supervisor.list()}
        for name in (BALANCER, CONTROL_PLANE):
            status = statuses.get(name)
            if status and status.restarts - began.get(name, 0) >= HOPELESS_RESTARTS:
                raise SystemFault(f"{name} does not stay up\n{_log_tail(home, name)}")
        if time.monotonic() > deadline:
            tails = "\n".join(_log_tail(home, name) for name in (BALANCER, CONTROL_PLANE))
            raise SystemFault(f"{url} was not healthy within {READY_WITHIN_S:g} s\n{tails}")
        time.sleep(POLL_S)


def _log_tail(home: Home, name: str) -> str:
    path = home.logs / f"{name}.log"
    try:
        lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"the end of {path}:", *(f"  {line}" for line in lines)])
