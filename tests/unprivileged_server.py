"""A program for a user without any rights: a supervisor, two hostile instances, and their answers.

``python unprivileged_server.py HOME`` reads a JSON list of codes and prints a JSON object: the
``answers`` of instance "a", its ``notes``, the pids alive ``before`` and ``after`` the stop.
``{other}`` and ``{supervisor}`` in a code are pids, ``{port}`` is the home's.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]

from tests.hostile_model import Line, hostile_instance  # noqa: E402

from havre.domain.instance import InstanceStatus  # noqa: E402
from havre.engines.process import ProcessEngine  # noqa: E402
from havre.home import Home  # noqa: E402
from havre.supervisor.client import Supervisor  # noqa: E402

T = TypeVar("T")
DEADLINE_S = 20.0


def main() -> None:
    home = Home(Path(sys.argv[1]))
    codes = json.load(sys.stdin)
    home.make()
    command = [sys.executable, "-m", "havre.supervisor", "--home", str(home.root), "--port", "0"]
    environment = {"PYTHONPATH": sys.path[1], "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, env=environment) as program:
        try:
            client = Supervisor(home.supervisor_socket)
            until(lambda: home.supervisor_socket.exists())
            print(json.dumps(try_all(home, client, program.pid, codes)))
        finally:
            program.terminate()


def try_all(home: Home, client: Supervisor, supervisor: int, codes: list[str]) -> dict[str, object]:
    engine = ProcessEngine(home, client)
    for path in (home.database, home.keys / "key.pem"):
        path.write_text("secret")
    instances = {}
    for name in ("a", "b"):
        spec = hostile_instance(home, name, Path(sys.executable))
        engine.start(spec)
        instances[name] = until(lambda spec=spec: ready(engine.inspect(spec.id)))
    known = {
        "other": instances["b"].pid,
        "supervisor": supervisor,
        "port": json.loads(home.server_file.read_text())["port"],
        "home": home.root,
    }
    answers = []
    for code in codes:
        for name, value in known.items():
            code = code.replace(f"{{{name}}}", str(value))
        with Line(instances["a"].socket) as line:
            status, body = line.request(code)
        answers.append(json.loads(body)["prediction"] if status == 200 else f"HTTP {status}")
    before = processes_of_ours()
    for name in instances:
        engine.stop(name * 12)
    return {
        "answers": answers,
        "notes": instances["a"].notes,
        "before": sorted(before),
        "after": sorted(processes_of_ours() - {os.getpid(), supervisor}),
        "files": [path.name for path in home.instances.iterdir()],
    }


def ready(status: InstanceStatus) -> InstanceStatus | None:
    assert not status.reason, status.reason
    return status if status.copies_ready else None


def processes_of_ours() -> set[int]:
    found = set()
    for entry in os.listdir("/proc"):
        try:
            is_dead = "State:\tZ" in Path(f"/proc/{entry}/status").read_text()
            if entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == os.getuid() and not is_dead:
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
