"""Bringing a home up: the supervisor, then what a server is made of, then health."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from havre.balancer.bootstrap import envoy_process, write_bootstrap
from havre.balancer.resources import Limits
from havre.cli.output import Step
from havre.domain.errors import EngineFault, IncorrectState, SystemFault
from havre.home import Home
from havre.release import current
from havre.settings import SETTINGS, Settings
from havre.supervisor import records
from havre.supervisor.client import NoAnswer, Supervisor
from havre.supervisor.identity import is_running, read_stat
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
OF_THE_CODE = frozenset({"PYTHONPATH", "LD_LIBRARY_PATH"})
READY_WITHIN_S = 60.0
SUPERVISOR_WITHIN_S = 15.0
HOPELESS_RESTARTS = 4
POLL_S = 0.05
LOG_LINES = 15


def environment(home: Home) -> dict[str, str]:
    """The variables of this shell, over those that the running control plane was given.

    What was stated when a server was started holds until it is stopped, or something else is
    stated: an upgrade from another shell must not lead it to another database. Where its code lies
    is this shell's alone.
    """
    found, _ = records.load_all(home.processes)
    earlier: dict[str, str] = {}
    for record in found:
        if record.spec.name == CONTROL_PLANE and is_running(record.identity):
            earlier = {
                name: value
                for name, value in record.spec.environment.items()
                if name not in OF_THE_CODE
            }
    return {**earlier, **os.environ}


def running(home: Home) -> dict[str, Any] | None:
    """What the home's supervisor tells of itself; None when there is none.

    Raises SystemFault with what can be done when there is one that does not answer.
    """
    try:
        return Supervisor(home.supervisor_socket).ping()
    except NoAnswer as error:
        raise SystemFault(_why_silent(home)) from error
    except EngineFault:
        return None


def answering(home: Home) -> dict[str, Any] | None:
    """What the home's supervisor tells of itself; None while none answers."""
    try:
        return Supervisor(home.supervisor_socket).ping()
    except EngineFault:
        return None


def _why_silent(home: Home) -> str:
    try:
        pid = int(json.loads(home.server_file.read_bytes())["supervisor"]["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the supervisor of {home.root} does not answer"
    remedy = (
        f"or end it with `kill -KILL {pid}`: what it started serves on, "
        "`havre up` takes that over and `havre down` ends it"
    )
    stat = read_stat(pid)
    if stat is not None and stat.is_stopped:
        return (
            f"the supervisor of {home.root} (pid {pid}) is stopped, as Ctrl-Z does it; "
            f"let it go on with `fg` or `kill -CONT {pid}`, {remedy}"
        )
    return f"the supervisor of {home.root} (pid {pid}) does not answer; try again, {remedy}"


def check_same_address(
    about: Mapping[str, Any], settings: Settings, flags: Mapping[str, Any]
) -> None:
    """Raises IncorrectState when a server that runs already is asked to be elsewhere.

    A host or port that nobody stated, only the table's default, asks for nothing.
    """
    defaults = {setting.name: setting.default for setting in SETTINGS}
    for name in ("host", "port"):
        wanted = getattr(settings, name)
        stated = flags.get(name) is not None or wanted != defaults[name]
        if stated and wanted != about[name] and not (name == "port" and wanted == 0):
            raise IncorrectState(
                f"the server of this home runs already, at {about['url']}; "
                f"run `havre down` before moving it to {name} {wanted}"
            )


def supervisor_command(home: Home, settings: Settings, *options: str) -> list[str]:
    return [
        *(sys.executable, "-P", "-m", "havre.supervisor", "--home", str(home.root)),
        *("--host", settings.host, "--port", str(settings.port), *options),
    ]


def launch_supervisor(home: Home, settings: Settings) -> None:
    """Start the supervisor on its own, apart from this terminal, and wait until it answers.

    Raises SystemFault with what it said when it does not.
    """
    complaints = home.logs / "supervisor.err"
    with complaints.open("wb") as file:
        program = subprocess.Popen(
            supervisor_command(home, settings),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=home.root,
            start_new_session=True,
        )
    deadline = time.monotonic() + SUPERVISOR_WITHIN_S
    while (about := answering(home)) is None or about["supervisor"]["pid"] != program.pid:
        if program.poll() is not None:
            raise SystemFault(complaints.read_text().strip().removeprefix("havre: "))
        if time.monotonic() > deadline:
            program.kill()
            program.wait()
            raise SystemFault(f"the supervisor did not come up; see {complaints}")
        time.sleep(POLL_S)


def wait_for_parent_supervisor(home: Home, parent: int) -> bool:
    """Wait until our parent, that becomes the supervisor, answers; False when it ended instead."""
    while (about := answering(home)) is None or about["supervisor"]["pid"] != parent:
        if os.getppid() != parent:
            return False
        time.sleep(POLL_S)
    return True


def bring_up(
    home: Home,
    settings: Settings,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    step: Step,
) -> str:
    """Have the supervisor run what a server is made of; returns its URL once it is healthy.

    What runs already is left as it is, but for a control plane or a telemetry process that an
    earlier supervisor started from another version or with other settings: it is replaced, which no
    prediction notices. A load balancer of that kind serves on, and is the new one from its next
    start on. Raises SystemFault with the last lines of the log of what did not come up.
    """
    supervisor = Supervisor(home.supervisor_socket)
    about = supervisor.ping()
    step("starting the load balancer")
    write_bootstrap(
        home,
        host=about["host"],
        port=about["port"],
        limits=Limits.behind(settings),
        is_signed=settings.auth == "oci",
    )
    _ensure_balancer(supervisor, _balancer(home, settings))
    step("starting the control plane")
    _ensure(supervisor, _control_plane(home, flags, environ))
    _ensure(supervisor, _telemetry(home, flags, environ))
    step("waiting until it is healthy")
    _wait_until_healthy(home, supervisor, about["url"])
    url: str = about["url"]
    return url


def health(url: str) -> dict[str, str] | None:
    """What the server says of itself when it is healthy; None when it is not."""
    # Proxies of the environment are for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/healthz", timeout=2.0) as answer:
            told: dict[str, str] = json.loads(answer.read())
            return told
    except (urllib.error.URLError, OSError, ValueError):
        return None


def is_healthy(url: str) -> bool:
    return health(url) is not None


def _ensure_balancer(supervisor: Supervisor, spec: ProcessSpec) -> None:
    status = supervisor.inspect(BALANCER)
    if status is None or not _runs(status):
        supervisor.start(spec)
    elif status.adopted and status.spec_digest != spec.digest:
        supervisor.renew(spec)


def _ensure(supervisor: Supervisor, spec: ProcessSpec) -> None:
    """Of what no prediction passes through."""
    status = supervisor.inspect(spec.name)
    if status is not None and _runs(status):
        if not status.adopted or status.spec_digest == spec.digest:
            return
        supervisor.stop(spec.name)
    supervisor.start(spec)


def _runs(status: ProcessStatus | None) -> bool:
    return status is not None and status.phase is Phase.RUNNING


def _balancer(home: Home, settings: Settings) -> ProcessSpec:
    argv, environment = envoy_process(home, settings)
    return ProcessSpec(
        name=BALANCER,
        argv=argv,
        environment=environment,
        folder=str(home.root),
        log=str(home.logs / "envoy.log"),
        restart=Restart.ALWAYS,
        gives_way=True,
    )


def _control_plane(home: Home, flags: Mapping[str, Any], environ: Mapping[str, str]) -> ProcessSpec:
    return _of_ours(home, CONTROL_PLANE, "havre.service", flags, environ)


def _telemetry(home: Home, flags: Mapping[str, Any], environ: Mapping[str, str]) -> ProcessSpec:
    return _of_ours(home, TELEMETRY, "havre.telemetry", flags, environ)


def _of_ours(
    home: Home, name: str, module: str, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> ProcessSpec:
    """It reads its settings itself; flags reach it as the environment does.

    Where it is reached is the supervisor's: another ``--port`` is no reason to start it anew. Other
    code is: so it is told which it is.
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
        restart=Restart.ALWAYS,
    )


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What our own processes get of the shell's variables: what building environments, reaching
    indexes and object stores, and our settings need. Whatever else a shell holds stays there.
    """
    return {
        name: value
        for name, value in sorted(environ.items())
        if name in PASSED_ON
        or name.lower().endswith("_proxy")
        or (name.startswith(PASSED_ON_PREFIXES) and name not in {"HAVRE_HOST", "HAVRE_PORT"})
    }


def _wait_until_healthy(home: Home, supervisor: Supervisor, url: str) -> None:
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
