"""What a body's form costs: 256 rows of 30 float64 as JSON, .npy, Arrow and an inference request.

    make bench-binary
    python -m bench.binary_bodies --seconds 3 --rounds 5

Starts a server of its own with one scikit-learn model, deployed twice: with orjson and without.
Every form is sent over 16 connections in a closed loop, forms interleaved over the rounds, every
answer verified. CPU is that of the whole server, and of the copies in it. "in process" is the same
reading, predicting and writing in a loop, without a socket. Medians of the rounds.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from bench.installing import generator
from bench.load.plan import Exchange
from bench.load.records import outcome
from bench.load.run import SOURCE as LOAD
from bench.load.run import Generator
from bench.own_server import MOST_MBPS, OwnServer, own_server, write_artifact
from bench.processes import cpu_seconds
from bench.report import figure, table
from havre.cli.configuration import DeployOptions, configuration_of

SOURCE = Path(__file__).parents[1] / "src"
CONNECTIONS = 16
WARM_UP_S = 0.5
NEEDED = "numpy\norjson\npyarrow\nscikit-learn\n"
SCORE = """
import os, sys
if os.environ.get("WITHOUT_ORJSON"):
    sys.modules["orjson"] = sys.modules["havre_copy.orjson"] = None
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

def load_model():
    rows, labels = load_breast_cancer(return_X_y=True)
    return LogisticRegression(max_iter=10_000).fit(rows, labels)

def predict(data, model=load_model()):
    if hasattr(data, "columns"):
        data = np.column_stack(data.columns)
    labels = model.predict(np.asarray(data))
    return labels if isinstance(data, np.ndarray) else {"prediction": labels.tolist()}
"""
# Prints the forms: name -> path, headers, body, and what a right answer ends with (as Latin-1).
FORMS = """
import io, json, os, sys
import numpy as np, pyarrow as pa
sys.path.insert(0, sys.argv[1])
import score
rows = np.ascontiguousarray(score.load_breast_cancer().data[:256])
labels = score.predict(rows)
held = io.BytesIO()
np.save(held, rows)
table = pa.table({str(n): rows[:, n] for n in range(30)})
sink = pa.BufferOutputStream()
with pa.ipc.new_stream(sink, table.schema) as writer:
    writer.write_table(table)
head = json.dumps({
    "inputs": [{"name": "rows", "shape": [256, 30], "datatype": "FP64",
                "parameters": {"binary_data_size": rows.nbytes}}],
    "outputs": [{"name": "labels", "parameters": {"binary_data": True}}],
})
text = json.dumps(rows.tolist())
tail = labels.tobytes().decode("latin-1")
listed = json.dumps(labels.tolist(), separators=(",", ":"))
arrow = "application/vnd.apache.arrow.stream"
raw = lambda data: bytes(data).decode("latin-1")
print(json.dumps({
    "JSON": ["", {"content-type": "application/json"}, text, '{"prediction":%s}' % listed],
    ".npy": ["", {"content-type": "application/x-npy"}, raw(held.getvalue()), tail],
    "Arrow": ["", {"content-type": arrow, "accept": "application/json"},
              raw(sink.getvalue().to_pybytes()), listed],
    "inference": ["/v2/models/m/infer", {"inference-header-content-length": str(len(head))},
                  head + raw(rows.tobytes()), tail],
}))
"""
IN_PROCESS = """
import json, sys, time
sys.path[:0] = sys.argv[1:3]
import score
from havre_copy.bodies import Bodies
from havre_copy.encoding import fastest_codec

class Request:
    stream = False
    def __init__(self, path, headers, body, _):
        self.body = body.encode("latin-1")
        self.content_type = headers.get("content-type", "").encode()
        self.accept = headers.get("accept", "").encode()
        self.target = b"/predict" + path.encode() if path else b""
        self._headers = {name.encode(): value.encode() for name, value in headers.items()}
    def header(self, name):
        return self._headers.get(name, b"")

bodies = Bodies(fastest_codec())
taken = {}
for name, form in json.load(sys.stdin).items():
    request = Request(*form)
    times = []
    for _ in range(int(sys.argv[3])):
        began = time.process_time()
        data, write = bodies.read(request)
        write(score.predict(data))
        times.append(time.process_time() - began)
    taken[name] = sorted(times)[len(times) // 2] * 1e6
print(json.dumps(taken))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2, help="of each form in each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hv") as name:
        scratch = Path(name)
        artifact = write_artifact(scratch / "artifact", SCORE)
        needed = scratch / "requirements.txt"
        needed.write_text(NEEDED)
        with own_server(python="3.11", requirements=needed) as server, server.up():
            model_id = server.save(artifact)
            for codec in ("json", "orjson"):
                with deployed(server, model_id, codec) as (url, copies):
                    python = copies[0].cmdline()[0]
                    forms = json.loads(run(python, FORMS, str(artifact), codec=codec))
                    inside = [
                        json.loads(run(python, IN_PROCESS, *places, codec=codec, text=forms))
                        for places in [(str(artifact), str(SOURCE), "500")] * options.rounds
                    ]
                    asked = exchanges(url, forms)
                    load = Generator(generator(LOAD), scratch)
                    port = urlsplit(url).port or 0
                    root = server.supervisor()
                    for each in asked.values():
                        load.run(port, [each], connections=CONNECTIONS, seconds=WARM_UP_S)
                    live = [
                        {
                            name: measure(root, copies, load, port, each, options.seconds)
                            for name, each in asked.items()
                        }
                        for _ in range(options.rounds)
                    ]
                show(codec, live, inside)


@contextmanager
def deployed(
    server: OwnServer, model_id: str, codec: str
) -> Iterator[tuple[str, list[psutil.Process]]]:
    """The address, and the processes of its copies."""
    variables = {"WITHOUT_ORJSON": "1"} if codec == "json" else {}
    stated = DeployOptions(ocpus=1, bandwidth_mbps=MOST_MBPS, variables=variables)
    configuration = configuration_of(stated, model_id)
    deployment, _ = server.client.create_deployment(codec, configuration)
    server.wait_until_active(deployment)
    try:
        yield deployment["modelDeploymentUrl"], copies_of(deployment["id"])
    finally:
        server.delete(deployment)


def copies_of(deployment_id: str) -> list[psutil.Process]:
    """Its processes, but for the keeper that is the others' parent."""
    found = [process for process in psutil.process_iter() if serves(process, deployment_id)]
    return [process for process in found if process.parent() in found]


def serves(process: psutil.Process, deployment_id: str) -> bool:
    try:
        return bool(process.environ().get("MODEL_DEPLOYMENT_OCID") == deployment_id)
    except psutil.Error:
        return False  # not ours to look into, or it has ended


def exchanges(url: str, forms: dict[str, Any]) -> dict[str, Exchange]:
    """Each form as a request and its answer, which is verified here."""
    address = urlsplit(url)
    found = {}
    for name, (path, headers, body, end) in forms.items():
        payload = body.encode("latin-1")
        target = f"{address.path}/predict{path}"
        connection = HTTPConnection(address.netloc, timeout=60)
        connection.request("POST", target, payload, headers)
        answer = connection.getresponse()
        got = answer.read()
        connection.close()
        if answer.status != 200 or not got.endswith(end.encode("latin-1")):
            raise SystemExit(f"{name}: {answer.status} {got[:300]!r}")
        lines = [f"POST {target} HTTP/1.1", f"host: {address.netloc}"]
        lines += [f"{key}: {value}" for key, value in headers.items()]
        head = "\r\n".join([*lines, f"content-length: {len(payload)}", "", ""])
        found[name] = Exchange(head.encode("ascii") + payload, got, b"\xff" * len(got))
    return found


def measure(
    root: int,
    copies: list[psutil.Process],
    load: Generator,
    port: int,
    exchange: Exchange,
    seconds: float,
) -> tuple[float, float, float]:
    """Requests a second; µs of CPU for a request: of all below ``root``, and of the copies."""
    before = cpu_seconds(root), cpu(copies)
    records, _ = load.run(port, [exchange], connections=CONNECTIONS, seconds=seconds)
    after = cpu_seconds(root), cpu(copies)
    came_to = outcome(records).must_be_clean()
    every, theirs = (1e6 * (late - early) for early, late in zip(before, after, strict=True))
    return came_to.per_second, every / came_to.correct, theirs / came_to.correct


def cpu(processes: list[psutil.Process]) -> float:
    """Seconds on a processor, to the nanosecond."""
    return sum(
        int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
        for process in processes
    )


def run(python: str, program: str, *words: str, codec: str, text: object = None) -> str:
    return subprocess.run(
        [python, "-c", program, *words],
        input=json.dumps(text),
        env={"OMP_NUM_THREADS": "1", **({"WITHOUT_ORJSON": "1"} if codec == "json" else {})},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def show(
    codec: str, live: list[dict[str, tuple[float, float, float]]], inside: list[dict[str, float]]
) -> None:
    heads = ["requests/s", "CPU, all, µs", "copies'", "in process", "× JSON's requests/s"]
    rows = []
    for name in live[0]:
        middle = [
            statistics.median(figures) for figures in zip(*(one[name] for one in live), strict=True)
        ]
        ratio = statistics.median(one[name][0] / one["JSON"][0] for one in live)
        process = statistics.median(one[name] for one in inside)
        rows.append([name, *(figure(each) for each in (*middle, process)), figure(ratio, 2)])
    print(f"\nwith {codec}\n\n{table(['form', *heads], rows)}", flush=True)


if __name__ == "__main__":
    main()
