"""What a body's form costs: 256 rows of 30 float64 as JSON, .npy, Arrow and an inference request.

    make bench-binary
    python -m bench.binary_bodies --requests 2000 --rounds 3

Starts a server of its own with one scikit-learn model, deployed twice: with orjson and without.
Every form is sent over one kept connection, forms interleaved over the rounds, every answer
verified. CPU is that of the copies, from the kernel's account. "in process" is the same reading,
predicting and writing in a loop, without a socket. Microseconds per request; medians of the rounds.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from bench.own_server import MOST_MBPS, OwnServer, own_server, write_artifact
from havre.cli.deployments import configure

SOURCE = Path(__file__).parents[1] / "src"
NEEDED = "numpy\norjson\npyarrow\nscikit-learn\n"
SCORE = """
import os, sys
if os.environ.get("WITHOUT_ORJSON"):
    sys.modules["orjson"] = None
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
        self._headers = {name.encode(): value.encode() for name, value in headers.items()}
        if path:
            self._headers[b"x-havre-path"] = b"/predict" + path.encode()
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
    parser.add_argument("--requests", type=int, default=2000, help="of each form in each round")
    parser.add_argument("--rounds", type=int, default=3)
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
                    live = [measure(url, copies, forms, options.requests)]  # warms up, too
                    live = [
                        measure(url, copies, forms, options.requests) for _ in range(options.rounds)
                    ]
                show(codec, live, inside)


@contextmanager
def deployed(
    server: OwnServer, model_id: str, codec: str
) -> Iterator[tuple[str, list[psutil.Process]]]:
    """The address, and the processes of its copies."""
    variables = {"WITHOUT_ORJSON": "1"} if codec == "json" else {}
    configuration = configure(ocpus=1, bandwidth_mbps=MOST_MBPS, variables=variables)
    configuration["modelConfigurationDetails"]["modelId"] = model_id
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


def measure(
    url: str, copies: list[psutil.Process], forms: dict[str, Any], requests: int
) -> dict[str, tuple[float, float]]:
    """Per form: microseconds of wall time and of the copies' CPU for a request."""
    address = urlsplit(url)
    taken = {}
    for name, (path, headers, body, end) in forms.items():
        payload = body.encode("latin-1")
        connection = HTTPConnection(address.netloc, timeout=60)
        before = cpu(copies)
        began = time.perf_counter()
        for _ in range(requests):
            connection.request("POST", f"{address.path}/predict{path}", payload, headers)
            answer = connection.getresponse()
            got = answer.read()
            if answer.status != 200 or not got.endswith(end.encode("latin-1")):
                raise SystemExit(f"{name}: {answer.status} {got[:300]!r}")
        wall = time.perf_counter() - began
        taken[name] = (wall / requests * 1e6, (cpu(copies) - before) / requests * 1e6)
        connection.close()
    return taken


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
    codec: str, live: list[dict[str, tuple[float, float]]], inside: list[dict[str, float]]
) -> None:
    print(
        f"\nwith {codec}: µs per request\n{'':<10}  round trip  CPU of copies  in process   JSON's"
    )
    rows = {
        name: (
            statistics.median(one[name][0] for one in live),
            statistics.median(one[name][1] for one in live),
            statistics.median(one[name] for one in inside),
        )
        for name in live[0]
    }
    for name, (wall, copies, process) in rows.items():
        print(
            f"{name:<10}  {wall:10.0f}  {copies:13.0f}  {process:10.0f}"
            f"   {rows['JSON'][1] / copies:5.1f} x CPU, {rows['JSON'][0] / wall:.1f} x round trip"
        )


if __name__ == "__main__":
    main()
