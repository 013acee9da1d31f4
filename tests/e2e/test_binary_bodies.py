"""Arrays, tables and inference requests through the load balancer, sent by the usual clients."""

import pytest
from tests.e2e.artifacts import scored
from tests.e2e.notebooks import Notebook
from tests.framework_environments import ARROW, framework_python

SCORE = """
def load_model():
    return 2

def predict(data, model=load_model()):
    if type(data).__name__ == "Table":
        return data.to_pandas() * model
    if isinstance(data, dict):
        return {"sum": data["a"] + data["b"], "name": data["name"]}
    return data * model
"""

CLIENT = """
import io, json, sys, urllib.error, urllib.request
import numpy as np
import pyarrow as pa
import tritonclient.http as triton

url = sys.argv[1]
rows = np.random.default_rng(0).random((256, 30))

def post(body, kind, path="", **headers):
    headers = {"content-type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url + path, body, headers))
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers["content-type"], answer.read()

held = io.BytesIO()
np.save(held, rows)
status, kind, body = post(held.getvalue(), "application/x-npy")
assert (status, kind) == (200, "application/x-npy"), body
assert (np.load(io.BytesIO(body)) == rows * 2).all()
status, kind, body = post(held.getvalue(), "application/x-npy", accept="application/json")
assert (json.loads(body) == rows * 2).all()
status, _, body = post(held.getvalue()[:-1], "application/x-npy")
assert (status, json.loads(body)["code"]) == (400, "CannotParseRequest")
# A path of an inference request cannot be forged by a header.
status, _, body = post(b"[1]", "application/json", x_havre_path="/predict/v2/models/m/infer")
assert body == b"[1,1]", body

table = pa.table({"a": rows[:, 0], "b": rows[:, 1]})
sink = pa.BufferOutputStream()
with pa.ipc.new_stream(sink, table.schema) as writer:
    writer.write_table(table)
arrow = "application/vnd.apache.arrow.stream"
status, kind, body = post(sink.getvalue().to_pybytes(), arrow)
assert (status, kind) == (200, arrow), body
assert (pa.ipc.open_stream(body).read_all()["b"].to_numpy() == rows[:, 1] * 2).all()

client = triton.InferenceServerClient(url.removeprefix("http://"))
for binary in (True, False):
    one = triton.InferInput("rows", rows.shape, "FP64")
    one.set_data_from_numpy(rows, binary_data=binary)
    result = client.infer("any", [one])  # without outputs it asks for bytes
    np.testing.assert_array_equal(result.as_numpy("output-0"), rows * 2)
    inputs = []
    for name, array, datatype in (
        ("a", np.int32([1, 2]), "INT32"),
        ("b", np.int32([10, 20]), "INT32"),
        ("name", np.array(["x", "y"], dtype=object), "BYTES"),
    ):
        inputs.append(triton.InferInput(name, array.shape, datatype))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("sum", "name")]
    result = client.infer("any", inputs, outputs=outputs, request_id="7", model_version="3")
    assert result.as_numpy("sum").tolist() == [11, 22]
    assert [str(text, "utf-8") if isinstance(text, bytes) else text
            for text in result.as_numpy("name")] == ["x", "y"]
    assert result.get_response()["id"] == "7"
client.close()
print('"done"')
"""


@pytest.mark.timeout(300)
def test_the_usual_clients_send_and_get_arrays_and_tables(server, oracle):
    environment = Notebook("arrow", framework_python(*ARROW).parents[1])
    server.havre("env", "publish", environment.slug, "--prefix", str(environment.prefix))
    runtime = "MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n    INFERENCE_ENV_SLUG: arrow\n"
    archive = scored(SCORE, **{"runtime.yaml": runtime + "    INFERENCE_ENV_TYPE: published\n"})
    deployment_id = oracle.deploy(oracle.save(archive), copies=2)
    try:
        url = f"{server.url}/{deployment_id}/predict"
        assert environment.run("-c", CLIENT, url) == "done"
    finally:
        oracle.delete(deployment_id)
