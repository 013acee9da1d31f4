"""How long things take to start: a deployment, a copy that died, the fiftieth deployment.

    make bench-start
    python -m bench.start_time --artifact DIR --requirements FILE --repeats 10

Starts a server of its own and deploys once to warm everything up (environment, unpacked artifact).
Then: deployments of four copies, created, measured and deleted one after another ("answers" is when
the first prediction succeeds; the model's own time is part of it all); deaths of the only copy of a
deployment, from the kill to the answer of a request sent right after it; and a crowd of
deployments of one copy, with what they cost when nobody asks them anything.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from bench.own_server import OwnServer, own_server, predict, write_artifact
from bench.processes import cpu_seconds, is_alive, pss_bytes, tree

COPIES = 4
IDLE_S = 10.0
EDGE = 5
"""So many deployments at each end of the crowd are compared."""
SMALLEST = """
def load_model():
    return 2

def predict(data, model=load_model()):
    return {"prediction": [model * number for number in data]}
"""
NAMES_ITSELF = """
import os

def predict(data):
    return os.getpid()
"""


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as scratch, httpx.Client(trust_env=False) as http:
        artifact = options.artifact or write_artifact(Path(scratch) / "smallest", SMALLEST)
        mortal = write_artifact(Path(scratch) / "mortal", NAMES_ITSELF)
        home = own_server(python=options.python, requirements=options.requirements)
        with home as server, server.up():
            starts(server, server.save(artifact), options, http)
            deaths(server, server.save(mortal), options.deaths, http)
            crowd(server, server.save(artifact), options, http)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--artifact", type=Path, help="a folder with score.py [a tiny model]")
    add("--requirements", type=Path, help="what its environment holds [nothing]")
    add("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    add("--body", default="[1, 2]", help="a request it answers [%(default)s]")
    add("--repeats", type=int, default=7)
    add("--deaths", type=int, default=20)
    add("--crowd", type=int, default=50, help="deployments at once [%(default)s]")
    return parser.parse_args()


def starts(
    server: OwnServer, model_id: str, options: argparse.Namespace, http: httpx.Client
) -> None:
    def once() -> tuple[float, float, float]:
        deployment, times = start(server, model_id, options.body, http, copies=COPIES)
        server.delete(deployment)
        return times

    once()  # warms up
    times = [once() for _ in range(options.repeats)]
    print(f"a deployment of {COPIES} copies")
    for name, column in zip(
        ("accepted", "ACTIVE", "answers"), zip(*times, strict=True), strict=True
    ):
        show(f"  {name}", column)


def deaths(server: OwnServer, model_id: str, count: int, http: httpx.Client) -> None:
    deployment, _ = start(server, model_id, "0", http, copies=1)
    times = []
    for _ in range(count):
        copy = predict(deployment, "0", http)
        began = time.perf_counter()
        os.kill(copy, signal.SIGKILL)
        while is_alive(copy):  # until then it may still take a request, which dies with it
            pass
        successor = predict(deployment, "0", http)
        times.append(time.perf_counter() - began)
        assert successor != copy
    server.delete(deployment)
    show("a dead copy answers again", times)


def crowd(
    server: OwnServer, model_id: str, options: argparse.Namespace, http: httpx.Client
) -> None:
    begun = [start(server, model_id, options.body, http, copies=1) for _ in range(options.crowd)]
    active = [times[1] for _, times in begun]
    print(f"{options.crowd} deployments of one copy, created one after another")
    show(f"  ACTIVE, the first {EDGE}", active[:EDGE])
    show(f"  ACTIVE, the last {EDGE}", active[-EDGE:])
    supervisor = server.supervisor()
    before = cpu_seconds(supervisor)
    time.sleep(IDLE_S)
    idle = (cpu_seconds(supervisor) - before) / IDLE_S
    processes = tree(supervisor)
    print(f"  idle: {idle:.3f} of a core; {len(processes)} processes; ", end="")
    print(f"{pss_bytes([supervisor, *processes]) / 1e6:,.0f} MB (PSS)")


def start(
    server: OwnServer, model_id: str, body: str, http: httpx.Client, *, copies: int
) -> tuple[dict[str, object], tuple[float, float, float]]:
    """The deployment, and seconds from the call to its 202, to ACTIVE, and to the first answer."""
    began = time.perf_counter()
    deployment = server.create(model_id, copies=copies)
    accepted = time.perf_counter() - began
    server.wait_until_active(deployment)
    active = time.perf_counter() - began
    predict(deployment, body, http)
    return deployment, (accepted, active, time.perf_counter() - began)


def show(name: str, seconds: Sequence[float]) -> None:
    low, high = min(seconds), max(seconds)
    print(f"{name:<28} median {statistics.median(seconds):6.3f} s   {low:.3f} to {high:.3f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
