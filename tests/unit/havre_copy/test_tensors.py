"""Inference requests of the Open Inference Protocol, and what answers them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from tests.zoo import outputs as zoo

from havre_copy import tensors
from havre_copy.encoding import Codec
from havre_copy.faults import HttpError
from havre_copy.plain import NotEncodable

DATATYPES = {name: np.dtype(layout) for name, layout in tensors.TYPES.items()}


def packed(inputs, chunks=(), **more):
    """A request with the data of some inputs behind its JSON, and the length of that."""
    text = json.dumps({"inputs": inputs, **more}).encode()
    return text + b"".join(chunks), str(len(text)).encode() if chunks else b""


def one(**described):
    return {"name": "x", "shape": [2], "datatype": "FP64", **described}


def read(inputs, chunks=(), **more):
    body, length = packed(inputs, chunks, **more)
    return tensors.read(body, b"iris", length, Codec())


@pytest.mark.parametrize(
    ("target", "model"),
    [
        (b"/o/predict/v2/models/iris/infer", b"iris"),
        (b"/o/predict/v2/models/iris/infer?a=b/c", b"iris"),
        (b"/o//predict/more/v2/models/iris/versions/3/infer/", b"iris"),
        (b"/o/predict/v2/models/versions/infer", b"versions"),
        (b"/o/predict/v2/models/iris", b""),
        (b"/o/predict/v2/models/iris/ready", b""),
        (b"/o/predict/v1/models/iris/infer", b""),
        (b"/o/predict?x=/v2/models/iris/infer", b""),
        (b"/predict", b""),
        (b"infer", b""),
    ],
)
def test_an_inference_request_is_known_by_its_path(target, model):
    assert tensors.model_named(target) == model


@given(data=st.data(), as_bytes=st.booleans())
def test_arrays_of_every_datatype_come_and_go_unchanged(data, as_bytes):
    datatype = data.draw(st.sampled_from(sorted(DATATYPES)))
    dtype = DATATYPES[datatype]
    # NaN and the infinities have no JSON.
    elements = None
    if dtype.kind == "f" and not as_bytes:
        elements = st.floats(width=8 * dtype.itemsize, allow_nan=False, allow_infinity=False)
    shape = data.draw(numpy_strategies.array_shapes(min_dims=0, min_side=0))
    array = data.draw(numpy_strategies.arrays(dtype, shape, elements=elements))
    described = {"name": "x", "shape": list(shape), "datatype": datatype}
    if as_bytes:
        described["parameters"] = {"binary_data_size": array.nbytes}
        chunks = [array.tobytes(), b""]
    else:
        described["data"] = array.ravel().tolist()
        chunks = []
    got, form = read([described], chunks, parameters={"binary_data_output": as_bytes})
    np.testing.assert_array_equal(got, array)
    assert got.dtype == dtype
    assert got.flags.writeable
    assert got.flags.aligned
    kind, body, more = form(got)
    if not as_bytes:
        (output,) = json.loads(body)["outputs"]
        np.testing.assert_array_equal(np.array(output["data"], dtype).reshape(shape), array)
        assert (kind, more) == (b"application/json", b"")
        return
    length = int(more.split(b":")[1])
    (output,) = json.loads(body[:length])["outputs"]
    assert body[length:] == array.tobytes()
    assert output["shape"] == list(shape)
    assert output["datatype"] == datatype
    assert kind == b"application/octet-stream"


def test_several_inputs_are_a_dict_in_their_order():
    inputs = [
        one(name="a", parameters={"binary_data_size": 16}),
        one(name="b", shape=[1, 3], datatype="INT8", data=[[1, -2, 3]]),
        one(name="c", datatype="BYTES", parameters={"binary_data_size": 11}),
    ]
    texts = b"\x03\0\0\0abc\0\0\0\0"
    data, _ = read(inputs, [np.array([1.5, 2.5]).tobytes(), texts])
    assert list(data) == ["a", "b", "c"]
    assert data["a"].tolist() == [1.5, 2.5]
    assert data["b"].tolist() == [[1, -2, 3]]
    assert data["c"].tolist() == [b"abc", b""]


def test_texts_are_bytes_for_predict_and_texts_in_json():
    data, form = read([one(datatype="BYTES", data=["né", "b"])])
    assert data.tolist() == ["né".encode(), b"b"]
    (output,) = json.loads(form(data)[1])["outputs"]
    assert output == {"name": "output-0", "datatype": "BYTES", "shape": [2], "data": ["né", "b"]}
    with pytest.raises(NotEncodable, match="binary data"):
        form([b"\xff"])


def test_outputs_are_those_of_a_dict_and_only_those_asked_for():
    _, form = read([one(data=[1, 2])], id="7")
    answer = json.loads(form({"label": ["a", "b"], "score": np.float32([0.5, 1])})[1])
    assert answer == {
        "model_name": "iris",
        "id": "7",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
            {"name": "score", "datatype": "FP32", "shape": [2], "data": [0.5, 1.0]},
        ],
    }
    outputs = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]
    _, form = read([one(data=[1, 2])], outputs=outputs)
    _, body, more = form({"label": ["a", "b"], "score": [1, 2], "other": None})
    length = int(more.split(b":")[1])
    described = json.loads(body[:length])["outputs"]
    assert [output["name"] for output in described] == ["score", "label"]
    assert described[0]["parameters"] == {"binary_data_size": 16}
    assert body[length:] == np.array([1, 2]).tobytes()
    with pytest.raises(HttpError, match="no output score; it has: prediction"):
        form({"prediction": [1]})


def test_the_only_output_has_the_name_that_was_asked_for():
    _, form = read([one(data=[1, 2])], outputs=[{"name": "y"}])
    assert json.loads(form(np.arange(2))[1])["outputs"][0]["name"] == "y"


@pytest.mark.parametrize(
    ("data", "datatype", "expected"),
    [
        ([None, 1.5], "FP64", np.array([np.nan, 1.5])),
        ([[None], [2]], "FP32", np.array([np.nan, 2], "f4")),
        ([None, None], "FP16", np.array([np.nan, np.nan], "f2")),
        ([0, 1], "BOOL", np.array([False, True])),
        ([1, True], "BOOL", np.array([True, True])),
    ],
)
def test_null_is_nan_and_booleans_may_be_numbers(data, datatype, expected):
    array, form = read([one(data=data, datatype=datatype)])
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    answer = json.loads(form(array)[1])["outputs"][0]
    again, _ = read([one(data=answer["data"], datatype=answer["datatype"])])
    np.testing.assert_array_equal(again, expected)  # what we send we take


def test_zeros_at_the_end_of_bytes_stay():
    _, form = read([one(data=[1, 2])], parameters={"binary_data_output": True})
    assert form([b"a\0\0"])[1].endswith(b"\x03\0\0\0a\0\0")


def answered(result, **more):
    _, form = read([one(data=[1, 2])], **more)
    _, body, head = form(result)
    length = int(head.split(b":")[1]) if head else len(body)
    return json.loads(body[:length])["outputs"], body[length:]


def flat(outputs):
    return [(one["name"], one["datatype"], one["shape"], one["data"]) for one in outputs]


@pytest.mark.parametrize(("result", "expected"), zoo.OUTPUTS + zoo.DATES)
def test_a_result_of_the_zoo_becomes_its_outputs(result, expected):
    outputs, _ = answered(result)
    assert flat(outputs) == expected
    for output, (_, _, _, data) in zip(outputs, expected, strict=True):
        assert list(map(type, output["data"])) == list(map(type, data))


@pytest.mark.parametrize(("result", "expected"), zoo.DATES)
def test_dates_are_marked_as_such_if_none_is_missing(result, expected):
    for binary in (False, True):
        (output,), _ = answered(result, parameters={"binary_data_output": binary})
        assert output["parameters"]["content_type"] == "datetime"
    for other, _ in zoo.OUTPUTS:
        outputs, _ = answered(other)
        assert not any("parameters" in output for output in outputs)


@pytest.mark.parametrize(("result", "expected"), zoo.OUTPUTS + zoo.DATES)
def test_as_bytes_outputs_hold_the_same(result, expected):
    if any(one[1] == "BYTES" and None in one[3] for one in expected):
        with pytest.raises(NotEncodable, match=r"missing texts.*ask for no binary data"):
            answered(result, parameters={"binary_data_output": True})
        return
    outputs, rest = answered(result, parameters={"binary_data_output": True})
    for output, (name, datatype, shape, data) in zip(outputs, expected, strict=True):
        size = output["parameters"]["binary_data_size"]
        chunk, rest = rest[:size], rest[size:]
        described = {"name": name, "shape": shape, "datatype": datatype}
        array, _ = read([{**described, "parameters": {"binary_data_size": size}}], [chunk])
        plain, _ = read([{**described, "data": data}])
        np.testing.assert_array_equal(array, plain)
    assert rest == b""


@pytest.mark.parametrize(("result", "expected"), zoo.OUTPUTS + zoo.DATES)
def test_what_we_send_we_take(result, expected):
    outputs, _ = answered(result)
    for output in outputs:
        array, form = read([output])
        (again,) = json.loads(form(array)[1])["outputs"]
        assert (again["data"], again["shape"]) == (output["data"], output["shape"])


@pytest.mark.parametrize(("result", "told"), zoo.REFUSED)
def test_a_result_that_is_no_tensor_is_refused_with_a_reason(result, told):
    with pytest.raises(NotEncodable, match=told):
        answered(result)


def test_infinities_stay_in_bytes():
    _, rest = answered([np.inf, None], parameters={"binary_data_output": True})
    np.testing.assert_array_equal(np.frombuffer(rest), [np.inf, np.nan])


def test_null_is_absent_where_a_client_sends_it():
    data, _ = read([one(data=[1, 2], parameters=None)], outputs=None, parameters=None, id=None)
    assert data.tolist() == [1, 2]
    data, _ = read([one(data=[1, 2], parameters={"binary_data_size": None})])
    assert data.tolist() == [1, 2]


def test_missing_texts_come_in_as_none():
    data, _ = read([one(datatype="BYTES", data=["a", None])])
    assert data.tolist() == [b"a", None]


class Polars:
    """What a frame and a column of polars offer of what is used."""

    def __init__(self, name, items):
        self.name, self.items, self.columns = name, items, [name]

    def get_columns(self):
        return [self]

    def null_count(self):
        return self.items.count(None)

    def to_list(self):
        return self.items

    def __array__(self, dtype=None, copy=None):
        return np.array(self.items, dtype=dtype)


def test_a_frame_of_polars_is_its_columns():
    outputs, _ = answered(Polars("n", [1, None]))
    assert flat(outputs) == [("n", "FP64", [2], [1, None])]
    outputs, _ = answered(Polars("n", [1, 2]))
    assert flat(outputs) == [("n", "INT64", [2], [1, 2])]


def test_a_tensor_that_remembers_how_it_was_computed_is_sent_without_that():
    class Tensor:
        def detach(self):
            return np.float32([0.5])

    outputs, _ = answered({"y": Tensor()})
    assert flat(outputs) == [("y", "FP32", [1], [0.5])]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([], "no inputs"),
        ("x", "list"),
        ([3], "list"),
        ([one(data=[1, 2])] * 1001, "at most 1000"),
        ([one(name=None, data=[1, 2])], "name of its own"),
        ([one(data=[1, 2]), one(data=[1, 2])], "name of its own"),
        ([one(data=[1, 2], datatype="BF16")], "datatype must be"),
        ([one(data=[1, 2], datatype=["FP64"])], "datatype must be"),
        ([one(data=[1, 2], shape=2)], "list of lengths"),
        ([one(data=[1, 2], shape=[-1])], "list of lengths"),
        ([one(data=[1, 2], shape=[True, 2])], "list of lengths"),
        ([one(data=[1, 2, 3])], "2 elements, not 3"),
        ([one(data=[], shape=[0, 2**80])], "input x"),
        ([one(data=[1, 2], shape=[1] * 99 + [2])], "input x"),
        ([one()], "data must be a list"),
        ([one(data=["1", "2"])], "not all FP64"),
        ([one(data=[None, 2], datatype="INT32")], "not all INT32"),
        ([one(data=[None, True], datatype="BOOL")], "not all BOOL"),
        ([one(data=[True, 2.0])], "not all FP64"),
        ([one(data=[{}, 2])], "not all FP64"),
        ([one(data=[1.5, 2], datatype="INT64")], "not all INT64"),
        ([one(data=[1, 256], datatype="UINT8")], "not all UINT8"),
        ([one(data=[1, 10**400])], "input x"),
        ([one(data=[0, 2], datatype="BOOL")], "not all BOOL"),
        ([one(data=["a", 1], datatype="BYTES")], "texts"),
        ([one(parameters={"binary_data_size": 16})], "that are there"),
        ([one(parameters={"shared_memory_region": "r"}, data=[1, 2])], "shared memory"),
        ([one(parameters=[], data=[1, 2])], "parameters"),
    ],
)
def test_a_request_that_is_none_is_refused_with_a_reason(inputs, reason):
    with pytest.raises(HttpError, match=reason) as caught:
        read(inputs)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("size", "chunk", "more", "reason"),
    [
        (8, bytes(8), {}, "2 elements of FP64 are 16 bytes, not 8"),
        (16, bytes(17), {}, "1 bytes follow the last input"),
        (17, bytes(16), {}, "that are there"),
        (-1, bytes(16), {}, "that are there"),
        (True, bytes(16), {}, "that are there"),
        (16, b"\xff" * 16, {"datatype": "BYTES"}, "cut short"),
        (8, bytes(8), {"datatype": "UINT8", "shape": [2**70]}, "elements"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(size, chunk, more, reason):
    with pytest.raises(HttpError, match=reason):
        read([one(parameters={"binary_data_size": size}, **more)], [chunk])


@pytest.mark.parametrize("length", [b"0", b"-1", b"x", b"9999", b"9" * 99])
def test_a_length_that_is_none_is_refused(length):
    with pytest.raises(HttpError, match="inference-header-content-length"):
        tensors.read(packed([one(data=[1, 2])])[0], b"iris", length, Codec())


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff" * 9, b"[" * 100_000])
def test_what_is_not_json_is_refused(body):
    with pytest.raises(HttpError):
        tensors.read(body, b"iris", b"", Codec())


def test_deeply_nested_data_are_only_data():
    text = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": %s}]}'
    data, _ = tensors.read(text % (b"[" * 500 + b"1.5" + b"]" * 500), b"m", b"", Codec())
    assert data.tolist() == [1.5]


def test_classification_is_refused():
    with pytest.raises(HttpError, match="classification"):
        read([one(data=[1, 2])], outputs=[{"name": "y", "parameters": {"classification": 2}}])
