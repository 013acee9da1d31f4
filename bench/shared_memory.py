"""What many copies of a large model cost in memory.

    python -m bench.shared_memory [--megabytes 500] [--copies 8] [--requests 10000]

A model that is NumPy arrays of this size is deployed with one copy, then with many. Prints the PSS
of the instance (keeper and copies) for each, and again after requests that read all of the model.
"""

import argparse
import json
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from bench.installing import generator
from bench.load.plan import Exchange, http_request
from bench.load.records import outcome
from bench.load.run import SOURCE, Generator
from bench.own_server import OwnServer, own_server, predict, write_artifact
from bench.peers import HERE
from bench.processes import pss_bytes, tree

SCORE = """
from pathlib import Path

import numpy

ARRAYS = {arrays}


def load_model():
    make = numpy.random.default_rng(7)
    return [make.random({numbers}) for _ in range(ARRAYS)]


def predict(data, model=load_model()):
    return {{"prediction": [round(float(model[data % ARRAYS].sum()), 3)]}}
"""
ARRAYS = 50
CONNECTIONS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    score = SCORE.format(arrays=ARRAYS, numbers=options.megabytes * 10**6 // 8 // ARRAYS)
    requirements = HERE / "havre" / "requirements.txt"
    with tempfile.TemporaryDirectory() as scratch, own_server(requirements=requirements) as server:
        artifact = write_artifact(Path(scratch) / "artifact", score)
        with server.up():
            model_id = server.save(artifact)
            one = measured(server, model_id, 1, 0, Path(scratch))
            measured(server, model_id, options.copies, options.requests, Path(scratch), one)


def measured(
    server: OwnServer, model_id: str, copies: int, requests: int, scratch: Path, one: float = 0
) -> float:
    """PSS of the instance in MB, right after its start."""
    before = set(tree(server.supervisor()))
    deployment = server.create(model_id, copies=copies)
    server.wait_until_active(deployment)
    first = instance_mb(server, before)
    told(f"{copies} copies", first, one)
    if requests:
        ask(deployment, requests, scratch)
        told(f"{copies} copies after {requests:,} requests", instance_mb(server, before), one)
    server.delete(deployment)
    return first


def instance_mb(server: OwnServer, before: set[int]) -> float:
    return pss_bytes(set(tree(server.supervisor())) - before) / 1e6


def ask(deployment: dict[str, str], requests: int, scratch: Path) -> None:
    """At least so many requests; every answer must be the one that the first round gave."""
    url = urlsplit(deployment["modelDeploymentUrl"])
    with httpx.Client(trust_env=False, timeout=60) as http:
        answers = [
            json.dumps(predict(deployment, str(n), http), separators=(",", ":"))
            for n in range(ARRAYS)
        ]
    exchanges = [
        Exchange(
            http_request(f"{url.path}/predict", b"%d" % number),
            answer.encode(),
            b"\xff" * len(answer),
        )
        for number, answer in enumerate(answers)
    ]
    load = Generator(generator(SOURCE), scratch)
    correct = 0
    while correct < requests:
        records, _ = load.run(url.port or 80, exchanges, connections=CONNECTIONS, seconds=2)
        came_to = outcome(records).must_be_clean()
        correct += came_to.correct


def told(what: str, megabytes: float, one: float) -> None:
    ratio = f"   {megabytes / one:.2f} × one copy" if one else ""
    print(f"{what:<36} {megabytes:8,.0f} MB{ratio}", flush=True)


if __name__ == "__main__":
    main()
