"""What it costs a request that its copy's output is told apart: CPU of the copy, two trees in turn.

``python -m bench.printing [--before DIR]``: DIR has another ``src/havre_copy``. One copy of each,
of a model that echoes, is asked over one connection, without a load balancer; they take turns of a
few milliseconds, so that both meet the same machine, and medians of the turns count.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUESTS, TURNS = 300, 200
SCORE = """
def predict(data):
    if PRINTS:
        print("a line of some forty characters, as usual")
    return data
"""
BODY = b'{"data": [5.1, 3.5, 1.4, 0.2]}'
REQUEST = (
    b"POST /o/predict HTTP/1.1\r\ncontent-type: application/json\r\nopc-request-id: %%d\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
START_S = 30.0


@contextmanager
def copy(tree: Path, *, prints: bool) -> Iterator[tuple[Path, int]]:
    """A keeper with one copy; the folder of its sockets, and the copy's pid."""
    folder = Path(tempfile.mkdtemp(prefix="hv"))
    (folder / "artifact").mkdir()
    (folder / "output").mkdir()
    (folder / "artifact" / "score.py").write_text(SCORE.replace("PRINTS", str(prints)))
    told = {
        "protocol": 1,
        "instance": "b" * 12,
        "revision": "r1",
        "artifact": str(folder / "artifact"),
        "copies": 1,
        "state_file": str(folder / "state.json"),
        "output": str(folder / "output"),
    }
    (folder / "spec.json").write_text(json.dumps(told))
    listeners = []
    for name in ("i", "c"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / name))
        listener.listen(16)
        listeners.append(listener)
    placed = 'exec 8<&{} 9<&{}; exec 3<&8 4<&9 8<&- 9<&-; exec "$@"'.format(
        *(each.fileno() for each in listeners)
    )
    launcher = tree / "src" / "havre_copy" / "launch.py"
    with (folder / "log").open("wb") as log:
        keeper = subprocess.Popen(
            ["/bin/bash", "-c", placed, "sh", sys.executable, launcher, folder / "spec.json"],
            env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[each.fileno() for each in listeners],
        )
    for each in listeners:
        each.close()
    try:
        deadline = time.monotonic() + START_S
        children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
        while not (_is_ready(folder) and children.read_text().split()):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield folder, int(children.read_text().split()[0])
    finally:
        keeper.terminate()
        keeper.wait(START_S)
        shutil.rmtree(folder)


def cpu_us(connection: socket.socket, pid: int) -> float:
    """Microseconds of the copy's processor time per request, over one turn."""
    before = _cpu_ns(pid)
    for number in range(REQUESTS):
        _ask(connection, REQUEST % (10**9 + number))
    return (_cpu_ns(pid) - before) / REQUESTS / 1000


def _ask(connection: socket.socket, request: bytes) -> None:
    connection.sendall(request)
    answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200"), answer


def _cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _is_ready(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "state.json").read_bytes())["phase"] == "ready")
    except FileNotFoundError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path)
    before = parser.parse_args().before
    trees = {"now": ROOT, **({"before": before} if before else {})}
    for prints in (False, True):
        found: dict[str, list[float]] = {name: [] for name in trees}
        with ExitStack() as kept:
            asked = {}
            for name, tree in trees.items():
                folder, pid = kept.enter_context(copy(tree, prints=prints))
                connection = kept.enter_context(socket.socket(socket.AF_UNIX))
                connection.connect(str(folder / "i"))
                asked[name] = connection, pid
            for _ in range(TURNS):
                for name, (connection, pid) in asked.items():
                    found[name].append(cpu_us(connection, pid))
        for name, each in found.items():
            low, middle, _ = statistics.quantiles(each, n=4)
            print(
                f"{'one line printed' if prints else 'nothing printed'}, {name}: "
                f"{middle:.2f} us of CPU per request, a quarter of the turns below {low:.2f}"
            )


if __name__ == "__main__":
    main()
