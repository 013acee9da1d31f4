"""The doctor's checks of the machine's resources: port, disk, memory, files, name servers."""

import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from havre.balancer.envoy import watching
from havre.cli.doctor.finding import Finding, Verdict, existing
from havre.domain.errors import HavreError
from havre.engines import trash
from havre.home import SOCKET_PATH_LIMIT, Home
from havre.settings import Settings
from havre.supervisor import identity, port
from havre.supervisor.client import SupervisorClient

GIB = 1024**3
LOW_DISK_BYTES = 5 * GIB
LOW_MEMORY_BYTES = 2 * GIB
TRASH_S = 300.0
INOTIFY_INSTANCES = 16
RECOMMENDED_DESCRIPTORS = 4096
NAMES = Path("/etc/resolv.conf")


def examine(home: Home, settings: Settings) -> Iterator[Finding]:
    yield _port(home, settings)
    yield _disk(home)
    yield _trash(home)
    yield _programs(home)
    yield _memory()
    yield _inotify()
    yield _pidfd()
    yield _descriptors()
    yield _socket_paths(home)
    yield _names()


def _port(home: Home, settings: Settings) -> Finding:
    try:
        url = SupervisorClient(home.supervisor_socket).ping()["url"]
    except HavreError:
        pass
    else:
        return Finding("port", Verdict.OK, f"this home serves {url}")
    try:
        port.reserve(settings.host, settings.port).close()
    except HavreError as error:
        return Finding("port", Verdict.MISSING, error.message, "havre up --port 0")
    return Finding("port", Verdict.OK, f"{settings.port} on {settings.host} is free")


def _disk(home: Home) -> Finding:
    folder = existing(home.root)
    free = shutil.disk_usage(folder).free
    detail = f"{free / GIB:.1f} GiB free at {folder}"
    if free < LOW_DISK_BYTES:
        return Finding("disk", Verdict.WARN, detail, "environments take about 1 GiB each")
    return Finding("disk", Verdict.OK, detail)


def _programs(home: Home) -> Finding:
    check, folder = "programs in the home", existing(home.root)
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        remedy = (
            "environments that are built there do not work: choose a --home on another file "
            "system, or publish environments with --prefix"
        )
        return Finding(check, Verdict.WARN, f"{folder} is mounted noexec", remedy)
    return Finding(check, Verdict.OK, "can be run")


def _memory() -> Finding:
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    available = int(fields.get("MemAvailable", fields["MemFree"]).split()[0]) * 1024
    detail = f"{available / GIB:.1f} GiB available, {len(os.sched_getaffinity(0))} threads"
    if available < LOW_MEMORY_BYTES:
        return Finding("memory", Verdict.WARN, detail, "choose small shapes")
    return Finding("memory", Verdict.OK, detail)


def _inotify() -> Finding:
    check = "inotify"
    if why := watching.obstacle():
        remedy = (
            "the load balancer asks a feed instead, five times a second; "
            "sysctl fs.inotify.max_user_instances=128, or end the processes that hold them"
        )
        return Finding(check, Verdict.WARN, why, remedy)
    try:
        limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    except OSError:
        return Finding(check, Verdict.OK, "available")
    if limit < INOTIFY_INSTANCES:
        remedy = "sysctl fs.inotify.max_user_instances=128"
        return Finding(check, Verdict.WARN, f"{limit} instances per user", remedy)
    return Finding(check, Verdict.OK, f"{limit} instances per user")


def _pidfd() -> Finding:
    check, myself = "process descriptors", identity.identify(os.getpid())
    assert myself is not None
    try:
        descriptor = identity.open_pidfd(myself)
    except OSError as error:
        remedy = (
            "processes are looked at just before they are signalled, and adopted ones once a "
            "second; use Linux 5.3 or newer, outside of sandboxes that have none"
        )
        return Finding(check, Verdict.WARN, f"not available: {error.strerror}", remedy)
    assert descriptor is not None
    os.close(descriptor)
    return Finding(check, Verdict.OK, "available")


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < RECOMMENDED_DESCRIPTORS:
        remedy = f"raise the hard limit (ulimit -Hn) to {RECOMMENDED_DESCRIPTORS} or more"
        return Finding("open files", Verdict.WARN, str(hard), remedy)
    return Finding("open files", Verdict.OK, "unlimited" if hard < 0 else str(hard))


def _socket_paths(home: Home) -> Finding:
    longest = len(str(home.instance_sockets / ("x" * 12 + ".sock")))
    detail = f"{longest} of {SOCKET_PATH_LIMIT} bytes, in {home.run}"
    if longest > SOCKET_PATH_LIMIT:
        return Finding("socket paths", Verdict.MISSING, detail, "choose a shorter --home or TMPDIR")
    return Finding("socket paths", Verdict.OK, detail)


def _names() -> Finding:
    check = "host names"
    try:
        lines = NAMES.read_text(errors="replace").splitlines()
    except OSError as error:
        lines, detail = [], f"{NAMES}: {error.strerror}"
    else:
        detail = f"{NAMES} names no server"
    named = (line.split() for line in lines)
    servers = [words[1] for words in named if len(words) > 1 and words[0] == "nameserver"]
    if not servers:
        remedy = "environments can be built only from an index by address or proxy; write the file"
        return Finding(check, Verdict.WARN, detail, remedy)
    return Finding(check, Verdict.OK, f"resolved by {', '.join(servers)}")


def _trash(home: Home) -> Finding:
    """Something that is in it for longer than removing takes could not be removed."""
    check = "trash"
    if home.trash.exists() and not os.access(home.trash, os.R_OK | os.X_OK):
        return Finding(check, Verdict.OK, "this user may not look into it")
    old = [path for path in trash.left(home.trash) if _age_s(path) > TRASH_S]
    if not old:
        return Finding(check, Verdict.OK, "nothing is stuck in it")
    return Finding(
        check,
        Verdict.WARN,
        f"{len(old)} of {home.trash} cannot be removed, {old[0].name} for example",
        "remove them by hand: see lsattr, chmod, mount, and the log of the control plane",
    )


def _age_s(path: Path) -> float:
    """Since it was moved there."""
    try:
        return time.time() - path.lstat().st_ctime
    except OSError:
        return 0.0
