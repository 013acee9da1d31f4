"""A program: a server with two hostile instances, what they are told to do, and their answers.

``python server.py HOME PLACE MODE`` reads a JSON list of ``[code, remains]`` and prints an object:
each code's answer from instance "a", the instance's ``notes``, which of its processes were alive
``before`` and ``after`` the instances' end, and which ``files`` and ``shared`` memory they left.
PLACE is an empty folder for what belongs to the server's user and not to the server.
"""

import ctypes
import errno
import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]

from tests.hostile.attempts import Mode  # noqa: E402
from tests.hostile.model import DAEMON, Line, hostile_instance  # noqa: E402

from havre.domain.errors import EngineFault  # noqa: E402
from havre.domain.instance import InstanceStatus  # noqa: E402
from havre.engines.confinement import Permissions  # noqa: E402
from havre.engines.process import ProcessEngine  # noqa: E402
from havre.home import Home  # noqa: E402
from havre.supervisor import seccomp  # noqa: E402
from havre.supervisor.client import SupervisorClient  # noqa: E402
from havre.supervisor.system_calls import (  # noqa: E402
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER,
    prctl,
)

T = TypeVar("T")
DEADLINE_S = 40.0
UNSHARE = {"x86_64": 272, "aarch64": 97}
VICTIM = """
import os, socket, sys, time
kept = []
for address in ("agent.sock", b"\\0" + sys.argv[1].encode()):
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].bind(address)
    kept[-1].listen()
os.chmod("agent.sock", 0o600)
memory = b"secret of the victim"
print("ready", flush=True)
time.sleep(600)
"""


def main() -> None:
    home, place, mode = Home(Path(sys.argv[1])), Path(sys.argv[2]), Mode(sys.argv[3])
    codes = json.load(sys.stdin)
    home.make()
    with ExitStack() as kept:
        targets = kept.enter_context(outsiders(place))
        before_exec = refuse_views if mode is Mode.BARE else None
        program = kept.enter_context(supervisor(home, before_exec))
        client = SupervisorClient(home.supervisor_socket)
        until(lambda: answers(client))
        targets |= {
            "supervisor": program.pid,
            "home": home.root,
            "port": json.loads(home.server_file.read_text())["port"],
        }
        print(json.dumps(try_all(home, client, mode, targets, codes)))


@contextmanager
def supervisor(
    home: Home, before_exec: Callable[[], None] | None
) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "havre.supervisor", "--home", str(home.root), "--port", "0"]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path[:2]), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, env=environment, preexec_fn=before_exec) as program:
        try:
            yield program
        finally:
            program.terminate()


@contextmanager
def outsiders(place: Path) -> Iterator[dict[str, Any]]:
    """Another process of the server's user, its sockets and files: no business of a model's."""
    mark = f"havre-{secrets.token_hex(6)}"
    shared = Path("/dev/shm", mark)
    key = secrets.randbits(31) | 1
    libc = ctypes.CDLL(None, use_errno=True)
    for path in (place / "secret", shared):
        path.write_text("secret")
        path.chmod(0o600)
    segment = libc.shmget(key, 8, 0o1600)  # made, for its owner
    command = [sys.executable, "-S", "-c", VICTIM, mark]
    with (
        socket.create_server(("127.0.0.1", 0)) as anybody,
        subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE) as victim,
    ):
        try:
            assert victim.stdout is not None
            assert victim.stdout.readline()
            yield {
                "victim": victim.pid,
                "place": place,
                "abstract": mark,
                "mark": mark,
                "key": key,
                "uid": os.getuid(),
                "nice": os.nice(0),
                "open_port": anybody.getsockname()[1],
                "oom": Path(f"/proc/{victim.pid}/oom_score_adj").read_text().strip(),
                "address": heap_of(victim.pid),
            }
        finally:
            victim.kill()
            for path in shared.parent.glob(f"{mark}*"):
                path.unlink()
            libc.shmctl(segment, 0, None)


def heap_of(pid: int) -> int:
    """Some address that the process may read."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "[heap]" in line:
            return int(line.partition("-")[0], 16)
    raise AssertionError("a process without a heap")


def refuse_views() -> None:
    """As a machine does that has no user namespaces to give: unshare(2) is refused from now on."""
    machine = os.uname().machine
    architecture, _ = seccomp.ARCHITECTURES[machine]
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (seccomp.LOAD, 0, 0, seccomp.AT_ARCHITECTURE),
            (seccomp.JUMP_EQUAL, 0, 3, architecture),
            (seccomp.LOAD, 0, 0, seccomp.AT_NUMBER),
            (seccomp.JUMP_EQUAL, 0, 1, UNSHARE[machine]),
            (seccomp.RETURN, 0, 0, seccomp.REFUSE | errno.EPERM),
            (seccomp.RETURN, 0, 0, seccomp.ALLOW),
        )
    )
    kept = ctypes.create_string_buffer(code, len(code))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    count = len(code) // 8
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, struct.pack("@HP", count, ctypes.addressof(kept)))


def try_all(
    home: Home,
    client: SupervisorClient,
    mode: Mode,
    targets: dict[str, Any],
    codes: list[list[str]],
) -> dict[str, object]:
    as_root = "allowed" if mode is Mode.ROOT else "unavoidable"
    engine = ProcessEngine(home, client, Permissions(models_as_root=as_root))
    for path in (home.database, home.keys / "key.pem"):
        path.write_text("secret")
        path.chmod(0o600)
    instances = {}
    for name in ("a", "b"):
        interpreter = Path(sys.executable)
        if mode is Mode.ROOT:
            interpreter = of_a_closed_environment(home, interpreter)
        spec = hostile_instance(home, name, interpreter)
        engine.start(spec)
        instances[name] = until(lambda spec=spec: ready(engine.inspect(spec.id)))
    artifact = home.unpacked / ("a" * 64) / "score.py"
    targets |= {
        "other": instances["b"].pid,
        "home_mode": f"{home.root.stat().st_mode & 0o7777:o}",
        "artifact_mode": f"{artifact.stat().st_mode & 0o7777:o}",
    }
    answers = [
        [ask(instances["a"], filled(code, targets)), remains and eval(filled(remains, targets))]
        for code, remains in codes
    ]
    daemon = ask(instances["a"], DAEMON.replace("{})", "os.environ)"))
    # While it executes its program, the kernel shows no variables of it.
    until(lambda: daemon in processes_of_ours())
    before = processes_of_ours()
    for name in instances:
        engine.stop(name * 12)
    return {
        "answers": answers,
        "uid": os.getuid(),
        "notes": instances["a"].notes,
        "daemon": daemon,
        "before": sorted(before),
        "after": sorted(processes_of_ours() & (before | {daemon})),
        "files": [path.name for path in home.instances.iterdir()],
        "shared": [path.name for path in Path("/dev/shm").glob(f"{targets['mark']}-*")],
    }


def of_a_closed_environment(home: Home, interpreter: Path) -> Path:
    environment = home.environments / "closed"
    program = environment / "bin" / "python"
    if not program.exists():
        program.parent.mkdir(parents=True)
        program.symlink_to(interpreter)
        (environment / "pyvenv.cfg").touch()
        environment.chmod(0o700)
    return program


def filled(code: str, targets: Mapping[str, Any]) -> str:
    for name, value in targets.items():
        code = code.replace(f"{{{name}}}", str(value))
    return code


def ask(instance: InstanceStatus, code: str) -> Any:
    with Line(instance.address.path) as line:
        status, body = line.request(code)
    return json.loads(body)["prediction"] if status == 200 else f"HTTP {status}"


def answers(client: SupervisorClient) -> bool:
    try:
        return bool(client.ping())
    except EngineFault:
        return False


def ready(status: InstanceStatus) -> InstanceStatus | None:
    assert not status.reason, status.reason
    return status if status.copies_ready else None


def processes_of_ours() -> set[int]:
    """Below the supervisor of this home: what has its variable."""
    found = set()
    for entry in os.listdir("/proc"):
        try:
            is_dead = "State:\tZ" in Path(f"/proc/{entry}/status").read_text()
            marker = os.fsencode(f"HAVRE_TEST_HOME={sys.argv[1]}")
            is_ours = marker in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            if entry.isdigit() and is_ours and not is_dead:
                found.add(int(entry))
        except OSError:
            continue
    return found


def until(look: Callable[[], T]) -> T:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


if __name__ == "__main__":
    main()
