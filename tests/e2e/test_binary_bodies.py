"""Arrays, tables and inference requests through the load balancer, sent by the usual clients.

Those of the Open Inference Protocol are the libraries' own; their environments are built once.
"""

import pytest
from tests.e2e import inference_clients
from tests.e2e.artifacts import scored
from tests.e2e.notebooks import Notebook
from tests.support.framework_environments import ARROW, KSERVE, MLSERVER, framework_python

SCORE = """
def load_model():
    return 2

def predict(data, model=load_model()):
    if type(data).__name__ == "Table":
        return data.to_pandas() * model
    return data * model
"""

CLIENT = """
import gzip, io, json, sys, urllib.error, urllib.request
import numpy as np
import pyarrow as pa

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
packed = gzip.compress(held.getvalue())
status, kind, body = post(packed, "application/x-npy", content_encoding="gzip")
assert (np.load(io.BytesIO(body)) == rows * 2).all()
status, kind, body = post(iter([b"[", b"1]"]), "application/json", transfer_encoding="chunked")
assert (status, body) == (200, b"[1,1]"), body
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

print('"done"')
"""


@pytest.fixture(scope="module")
def deployed(server, oracle):
    """Deploys a score.py in the environment with Arrow; its address."""
    environment = Notebook("arrow", framework_python(*ARROW).parents[1])
    server.havre("env", "publish", environment.slug, "--prefix", str(environment.prefix))
    runtime = "MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n    INFERENCE_ENV_SLUG: arrow\n"
    runtime += "    INFERENCE_ENV_TYPE: published\n"
    made = []

    def deploy(score):
        made.append(
            oracle.deploy(oracle.save(scored(score, **{"runtime.yaml": runtime})), copies=2)
        )
        return f"{server.url}/{made[-1]}/predict"

    yield deploy
    for deployment_id in made:
        oracle.delete(deployment_id)


@pytest.mark.timeout(300)
def test_the_usual_clients_send_and_get_arrays_and_tables(deployed):
    environment = Notebook("arrow", framework_python(*ARROW).parents[1])
    assert environment.run("-c", CLIENT, deployed(SCORE)) == "done"


@pytest.fixture(scope="module")
def inference(deployed):
    return deployed(inference_clients.SCORE)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("requirements", "program"),
    [
        pytest.param(ARROW, inference_clients.TRITON, id="tritonclient"),
        pytest.param(MLSERVER, inference_clients.MLSERVER, id="mlserver"),
        pytest.param(KSERVE, inference_clients.KSERVE, id="kserve"),
    ],
)
def test_client_libraries_of_the_inference_protocol_get_back_what_they_sent(
    inference, requirements, program
):
    environment = Notebook("client", framework_python(*requirements).parents[1])
    assert environment.run("-c", program, inference) == "done"
