"""What the client libraries of the Open Inference Protocol send to one model, and must get back.

Each program runs in an environment of its library, with the deployment's address as its argument.
"""

SCORE = """
import datetime
import numpy as np
import pandas as pd
import pyarrow as pa

MIXED = pd.DataFrame({
    "n": [1, 2], "x": [0.5, np.nan], "s": ["a", "b"], "b": [True, False],
    "when": pd.to_datetime(["2026-01-02T03:04:05", "2026-01-03T00:00:00"]),
})

def predict(data):
    if isinstance(data, dict):
        if "sum" in data:
            return {"sum": data["sum"] + data["a"], "name": data["name"]}
        return data
    if data.dtype.kind != "O" or data.size != 1:
        return data
    return {
        b"frame": MIXED,
        b"table": pa.table({"n": [1, None], "s": ["a", None], "big": [2**53 + 1, 1]}),
        b"gaps": pd.DataFrame({"n": [1, None], "s": ["a", None]}),
        b"mixture": pd.DataFrame({"m": [1, "a"]}),
    }.get(data.item(), data)
"""

TRITON = """
import sys
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1].removeprefix("http://"))

def ask(word, binary):
    one = triton.InferInput("word", [1], "BYTES")
    one.set_data_from_numpy(np.array([word], dtype=object), binary_data=binary)
    if binary:
        return client.infer("any", [one])  # without outputs it asks for bytes
    names = {"frame": "n x s b when", "table": "n s big", "gaps": "n s"}.get(word, "m").split()
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in names]
    return client.infer("any", [one], outputs=wanted)

def texts(array):
    return [str(one, "utf-8") if isinstance(one, bytes) else one for one in array]

rows = np.random.default_rng(0).random((256, 30))
for algorithm in ("gzip", "deflate"):
    one = triton.InferInput("rows", rows.shape, "FP64")
    one.set_data_from_numpy(rows)
    got = client.infer("any", [one], request_compression_algorithm=algorithm)
    np.testing.assert_array_equal(got.as_numpy("output-0"), rows)
for binary in (True, False):
    for datatype, dtype in (
        ("FP64", "f8"), ("FP32", "f4"), ("INT64", "i8"), ("INT8", "i1"), ("UINT16", "u2"),
        ("BOOL", "?"),
    ):
        array = (rows * 100).astype(dtype)
        one = triton.InferInput("rows", array.shape, datatype)
        one.set_data_from_numpy(array, binary_data=binary)
        np.testing.assert_array_equal(client.infer("any", [one]).as_numpy("output-0"), array)
    holes = np.where(rows > 0.5, rows, np.nan)
    one = triton.InferInput("rows", holes.shape, "FP64")
    one.set_data_from_numpy(holes)
    output = triton.InferRequestedOutput("y", binary_data=binary)
    np.testing.assert_array_equal(client.infer("any", [one], outputs=[output]).as_numpy("y"), holes)
    got = ask("frame", binary)
    assert got.as_numpy("n").tolist() == [1, 2]
    np.testing.assert_array_equal(got.as_numpy("x"), [0.5, np.nan])
    assert texts(got.as_numpy("s")) == ["a", "b"]
    assert got.as_numpy("b").tolist() == [True, False]
    assert texts(got.as_numpy("when")) == ["2026-01-02T03:04:05", "2026-01-03T00:00:00"]
    inputs = []
    for name, array, datatype in (
        ("sum", np.int32([1, 2]), "INT32"),
        ("a", np.int32([10, 20]), "INT32"),
        ("name", np.array(["x", "y"], dtype=object), "BYTES"),
    ):
        inputs.append(triton.InferInput(name, array.shape, datatype))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("sum", "name")]
    result = client.infer("any", inputs, outputs=outputs, request_id="7", model_version="3")
    assert result.as_numpy("sum").tolist() == [11, 22]
    assert texts(result.as_numpy("name")) == ["x", "y"]
    assert result.get_response()["id"] == "7"
got = ask("table", binary=False)
assert texts(got.as_numpy("s")) == ["a", None]
np.testing.assert_array_equal(got.as_numpy("n"), [1, np.nan])
assert got.as_numpy("big").tolist() == [2**53 + 1, 1]
for word, binary, told in (
    ("gaps", True, "missing texts"),
    ("mixture", True, "numbers and texts"),
    ("mixture", False, "numbers and texts"),
):
    try:
        ask(word, binary)
        raise AssertionError(word)
    except InferenceServerException as error:
        assert told in str(error), error
client.close()
print('"done"')
"""

MLSERVER = """
import json, sys, urllib.request
from datetime import datetime, timezone
import numpy as np
import pandas as pd
from mlserver.codecs import (
    Base64Codec, DatetimeCodec, NumpyCodec, NumpyRequestCodec, PandasCodec, StringCodec
)
from mlserver.types import InferenceRequest, InferenceResponse

def ask(request, **options):
    body = request.model_dump_json(**options).encode()
    call = urllib.request.Request(
        sys.argv[1] + "/v2/models/any/infer", body, {"content-type": "application/json"}
    )
    return InferenceResponse.model_validate_json(urllib.request.urlopen(call).read())

frame = pd.DataFrame({
    "n": [1, 2], "x": [0.5, np.nan], "s": ["a", "b"], "b": [True, False],
    "i": np.int8([1, 2]), "f": np.float32([0.5, np.nan]), "u": np.uint64([2**63, 1]),
})
pd.testing.assert_frame_equal(
    PandasCodec.decode_response(ask(PandasCodec.encode_request(frame))), frame
)
holes = pd.DataFrame({"s": ["a", None], "x": [0.5, 1.5]})
texts = InferenceRequest(inputs=[
    {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["a", None]},
    {"name": "x", "datatype": "FP64", "shape": [2], "data": [0.5, 1.5]},
])
pd.testing.assert_frame_equal(PandasCodec.decode_response(ask(texts)), holes)
for array in (np.arange(6.0).reshape(2, 3), np.int32([[1], [2]]), np.array([[True], [False]]),
              np.float32([[0.5, np.nan]])):
    got = NumpyRequestCodec.decode_response(ask(NumpyRequestCodec.encode_request(array)))
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype
    answer = ask(InferenceRequest(inputs=[NumpyCodec.encode_input("x", array)], id="7"))
    assert answer.id == "7"
    np.testing.assert_array_equal(NumpyCodec.decode_output(answer.outputs[0]), array)
moments = [datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), datetime(2026, 1, 3)]
for codec, payload in (
    (StringCodec, ["a", "é"]), (DatetimeCodec, moments), (Base64Codec, [b"\\0\\xff", b"a"])
):
    for use_bytes in (True, False):
        one = codec.encode_input("x", payload, use_bytes=use_bytes)
        # Its own serialisation leaves out what is absent; that of pydantic sends null.
        for options in ({}, {"exclude_none": False, "exclude_unset": False}):
            answer = ask(InferenceRequest(inputs=[one]), **options)
            assert codec.decode_output(answer.outputs[0]) == payload, codec

def word(text):
    return ask(InferenceRequest(inputs=[StringCodec.encode_input("word", [text], use_bytes=False)]))

got = word("frame")
assert [one.name for one in got.outputs] == ["n", "x", "s", "b", "when"]
when = [datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 3)]
assert DatetimeCodec.decode_output(got.outputs[4]) == when
assert got.outputs[4].parameters.content_type == "datetime"
mixed = PandasCodec.decode_response(got)
pd.testing.assert_frame_equal(mixed[["n", "x", "s", "b"]], frame[["n", "x", "s", "b"]])
assert StringCodec.decode_output(word("table").outputs[1]) == ["a", None]
print('"done"')
"""

KSERVE = """
import asyncio, sys
import httpx
import numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceRESTClient, RESTConfig

url = sys.argv[1]

def ask(*inputs, **options):
    request = InferRequest(model_name="any", infer_inputs=list(inputs), **options)
    return asyncio.run(ask_with(request))

async def ask_with(request):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    try:
        return await client.infer(url, request, model_name="any")
    finally:
        await client.close()

rows = np.random.default_rng(0).random((4, 3))
for binary in (True, False):
    for datatype, dtype in (
        ("FP64", "f8"), ("FP32", "f4"), ("INT32", "i4"), ("UINT8", "u1"), ("BOOL", "?")
    ):
        array = (rows * 100).astype(dtype)
        one = InferInput("rows", list(array.shape), datatype)
        one.set_data_from_numpy(array, binary_data=binary)
        for outputs in ({}, {"parameters": {"binary_data_output": True}}):
            answer = ask(one, **outputs)
            np.testing.assert_array_equal(answer.outputs[0].as_numpy(), array)
    one = InferInput("texts", [2], "BYTES")
    one.set_data_from_numpy(np.array([b"a", "é".encode()], dtype=object), binary_data=binary)
    got = ask(one).outputs[0].as_numpy().tolist()
    assert got == ["a", "é"], got

def word(text):
    return ask(InferInput("word", [1], "BYTES", data=[text]))

got = word("frame")
assert {one.name: one.datatype for one in got.outputs} == {
    "n": "INT64", "x": "FP64", "s": "BYTES", "b": "BOOL", "when": "BYTES"
}
np.testing.assert_array_equal(got.get_output_by_name("x").as_numpy(), [0.5, np.nan])
assert got.get_output_by_name("when").as_numpy().tolist()[0] == "2026-01-02T03:04:05"
assert word("table").get_output_by_name("s").as_numpy().tolist() == ["a", None]
try:
    word("mixture")
    raise AssertionError("it is no tensor")
except httpx.HTTPStatusError as error:
    assert error.response.status_code == 500
    assert "numbers and texts" in error.response.text
print('"done"')
"""
