"""Binary bodies at a real copy: what predict() gets, what comes back, and what costs no copy."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.copy_instance import NO_RESPONSE, Response, wait_until
from tests.support.framework_environments import ARROW, framework_python

NPY = "application/x-npy"
ARROWS = ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file")
INFER = {"x-havre-path": "/ocid1.test/predict/v2/models/m/infer"}

TOLD = """
import os, sys

def predict(data):
    if type(data).__name__ == "ndarray":
        data *= 2  # it is ours
        return data
    return [os.getpid(), "numpy" in sys.modules, type(data).__name__]
"""

TABLES = """
def predict(data):
    if type(data).__name__ == "Table":
        return {"whole": data, "frame": data.to_pandas(), "rows": {"n": data.num_rows}}[
            data.schema.metadata[b"as"].decode()
        ]
    return data
"""

BODIES = """
import base64, io, json, sys
import pandas, pyarrow as pa
from pyarrow import ipc

def packed(table, begin):
    sink = pa.BufferOutputStream()
    with begin(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()

def offsets_beyond_the_text(kind):
    # The reader believes them: only a full validation looks.
    body = packed(pa.table({"s": ["abc", "defghij"]}), kind)
    at = body.find(b"\\x03\\0\\0\\0\\x0a\\0\\0\\0")
    assert at > 0
    return body[:at] + b"\\xff\\xff\\xff\\x7f" + body[at + 4:]

made = {}
for kind, begin in (("stream", ipc.new_stream), ("file", ipc.new_file)):
    for form in ("whole", "frame", "rows"):
        table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]}, metadata={"as": form})
        made[kind + " " + form] = packed(table, begin)
    made[kind + " hostile"] = offsets_beyond_the_text(begin)
print(json.dumps({name: base64.b64encode(body).decode() for name, body in made.items()}))
"""

READ = """
import base64, json, sys
from pyarrow import ipc
for line in sys.stdin:
    kind, body = line.split()
    begin = ipc.open_stream if kind.endswith("stream") else ipc.open_file
    print(json.dumps(begin(base64.b64decode(body)).read_all().to_pydict()))
"""


def npy(array: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


def test_an_array_comes_as_its_own_and_goes_back_as_one(launch):
    instance = launch(TOLD, copies=1).ready()
    pid, has_numpy, _ = instance.post(1).json
    assert not has_numpy  # nobody needed it so far
    response = instance.post(npy(np.arange(6.0).reshape(2, 3)), headers={"content-type": NPY})
    assert response.headers["content-type"] == NPY
    assert np.load(io.BytesIO(response.body)).tolist() == [[0, 2, 4], [6, 8, 10]]
    large = np.random.default_rng(0).random((400, 400))  # more than the wire takes at once
    response = instance.post(npy(large), headers={"content-type": NPY})
    np.testing.assert_array_equal(np.load(io.BytesIO(response.body)), large * 2)
    headers = {"content-type": NPY, "accept": "application/json"}
    assert instance.post(npy(np.arange(3)), headers=headers).json == [0, 2, 4]
    assert instance.post(b"x", headers={"accept": NPY}).status == 400
    assert instance.post(1, headers={"accept": NPY}).status == 200
    assert instance.post(1).json == [pid, True, "int"]


def test_an_inference_request_is_answered_in_its_own_form(launch):
    instance = launch(TOLD, copies=1).ready()
    one = {"name": "x", "shape": [2], "datatype": "FP32"}
    asked = {"inputs": [{**one, "data": [1, 2]}]}
    response = instance.post(asked, headers=INFER)
    output = {"name": "output-0", "datatype": "FP32", "shape": [2], "data": [2.0, 4.0]}
    assert response.json == {"model_name": "m", "outputs": [output]}
    inputs = [{**one, "parameters": {"binary_data_size": 8}}]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {**INFER, "inference-header-content-length": str(len(head))}
    response = instance.post(head + np.float32([1, 2]).tobytes(), headers=headers)
    length = int(response.headers["inference-header-content-length"])
    assert json.loads(response.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(response.body[length:], "<f4").tolist() == [2, 4]


HOSTILE = [
    (b"", NPY),
    (npy(np.arange(9))[:-1], NPY),
    (npy(np.arange(9))[:90], NPY),
    (npy(np.array([{"a": 1}], dtype=object)), NPY),
    (npy(np.arange(9)).replace(b"(9,)", b"(-9,)"), NPY),
    (npy(np.arange(9)).replace(b"(9,)", b"(999999999999,)"), NPY),
    (npy(np.arange(0)).replace(b"(0,)", b"(0, 9999999999999999999,)"), NPY),
    (b"\x93NUMPY\x03\x00\xff\xff\xff\x7f", NPY),
]


def test_a_hostile_body_gets_a_reason_and_costs_no_copy(launch):
    instance = launch(TOLD, copies=1).ready()
    pid = instance.post(1).json[0]
    for body, kind in HOSTILE:
        response = instance.post(body, headers={"content-type": kind})
        assert response.status == 400, body
        assert response.json["code"] == "CannotParseRequest"
        assert "no .npy that can be read" in response.json["message"]
    for asked in (
        [],
        {"inputs": [{"name": "x", "shape": [2**62, 2**62], "datatype": "FP64", "data": [1]}]},
        {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": ["a" * 10**6, 1]}]},
    ):
        response = instance.post(asked, headers=INFER)
        assert (response.status, response.json["code"]) == (400, "CannotParseRequest")
    assert instance.post(1).json[0] == pid
    assert instance.ask("status")["restarts"] == 0


def test_a_library_that_the_environment_lacks_is_named(launch, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    instance = launch(TOLD, python=tmp_path / "bare" / "bin" / "python", copies=1).ready()
    for kind, name in ((NPY, "numpy"), (ARROWS[0], "pyarrow"), (ARROWS[1], "pyarrow")):
        response = instance.post(b"x", headers={"content-type": kind})
        assert response.status == 415
        assert response.json["code"] == "UnsupportedMediaType"
        assert f"{kind} needs {name}, which cannot be imported" in response.json["message"]
    response = instance.post({"inputs": []}, headers=INFER)
    assert (response.status, response.json["code"]) == (415, "UnsupportedMediaType")
    assert instance.post(1).json[1:] == [False, "int"]
    assert instance.ask("status")["restarts"] == 0


@pytest.mark.parametrize("size", ["1", "8"])
def test_a_body_that_takes_too_long_to_read_ends_its_copy(launch, size):
    files = {"score.py": TOLD, "test_input.json": "[1]"}
    files["pyarrow.py"] = "import time\ntime.sleep(60)"
    environment = {"MODEL_BATCH_SIZE": size}
    instance = launch(files, copies=1, predict_timeout_s=4, environment=environment).ready()
    headers = {"content-type": ARROWS[0], "opc-request-id": "whose"}
    with pytest.raises(NO_RESPONSE):
        instance.post(b"x", headers=headers)
    wait_until(lambda: "reading what the request's body says took over 4 s" in instance.log)
    assert "request whose" in instance.log
    assert instance.ask("status")["failed"] == 1
    assert instance.post([1]).status == 200


@pytest.fixture(scope="module")
def arrow() -> Path:
    return framework_python(*ARROW)


@pytest.fixture(scope="module")
def tables(arrow):
    made = subprocess.run([arrow, "-c", BODIES], check=True, capture_output=True, text=True)
    return {name: base64.b64decode(body) for name, body in json.loads(made.stdout).items()}


def contents(arrow: Path, responses: list[Response]) -> list[dict[str, list[Any]]]:
    """The columns of each response, as pyarrow reads them."""
    lines = [
        f"{response.headers['content-type']} {base64.b64encode(response.body).decode()}\n"
        for response in responses
    ]
    words = [arrow, "-c", READ]
    read = subprocess.run(words, input="".join(lines), check=True, capture_output=True, text=True)
    return [json.loads(line) for line in read.stdout.splitlines()]


def test_a_table_comes_as_one_and_goes_back_as_one(launch, arrow, tables):
    instance = launch(TABLES, python=arrow, copies=1).ready()
    responses, wanted = [], []
    for kind in ARROWS:
        name = kind.rpartition(".")[2]
        for form in ("whole", "frame"):
            headers = {"content-type": kind}
            responses.append(instance.post(tables[f"{name} {form}"], headers=headers))
            wanted.append({"a": [1, 2, 3], "b": ["x", None, "z"]})
        responses.append(instance.post({"a": [1, 2], "b": [0.5, None]}, headers={"accept": kind}))
        wanted.append({"a": [1, 2], "b": [0.5, None]})
        assert {response.headers["content-type"] for response in responses[-3:]} == {kind}
        response = instance.post(tables[f"{name} rows"], headers={"content-type": kind})
        assert response.json == {"n": 3}
        headers = {"content-type": kind, "accept": "application/json"}
        response = instance.post(tables[f"{name} whole"], headers=headers)
        assert response.json[1] == {"a": 2, "b": None}
        assert instance.post([1], headers={"accept": kind}).status == 406
        assert instance.post({"a": [1], "b": [1, 2]}, headers={"accept": kind}).status == 500
    assert contents(arrow, responses) == wanted


def test_a_hostile_table_gets_a_reason_and_costs_no_copy(launch, arrow, tables):
    instance = launch(TABLES, python=arrow, copies=1).ready()
    for kind in ARROWS:
        name = kind.rpartition(".")[2]
        whole = tables[f"{name} whole"]
        bodies = [b"", b"x", whole[: len(whole) // 2], whole[:-20][::-1], tables[f"{name} hostile"]]
        bodies += [whole[:at] + b"\xff" * 8 + whole[at + 8 :] for at in range(0, 200, 8)]
        responses = [instance.post(body, headers={"content-type": kind}) for body in bodies]
        assert {response.status for response in responses[:5]} == {400}
        assert f"no {kind} that can be read" in responses[0].json["message"]
        assert {response.status for response in responses} <= {200, 400, 500}
    assert instance.post([1]).json == [1]
    assert instance.ask("status")["restarts"] == 0
