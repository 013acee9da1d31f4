"""Which form an answer takes, and what happens where a library is missing."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from havre_copy.bodies import Bodies, choices
from havre_copy.encoding import Codec, NotEncodable
from havre_copy.faults import Refused

NPY = b"application/x-npy"
STREAM = b"application/vnd.apache.arrow.stream"
FILE = b"application/vnd.apache.arrow.file"
JSON = b"application/json"


class Asked:
    """As much of a request as is looked at."""

    def __init__(self, body, **headers):
        self.body = body
        self.stream = False
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.content_type = self._headers.get("content-type", b"")
        self.accept = self._headers.get("accept", b"")
        self.target = self._headers.get("x-havre-path", b"")

    def header(self, name):
        return self._headers.get(name.decode(), b"")


def npy(array) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


def answered(result, *, kind=JSON, body=b"[1]", **headers):
    return Bodies(Codec()).read(Asked(body, content_type=kind, **headers))[1](result)


@pytest.mark.parametrize(
    ("accept", "kind", "tried"),
    [
        (b"", NPY, [(NPY, False), (JSON, False)]),
        (b"*/*", STREAM, [(STREAM, False), (JSON, False)]),
        (b"*/*", JSON, [(JSON, False)]),
        (NPY, JSON, [(NPY, True)]),
        (b"Application/X-NPY;q=1", JSON, [(NPY, True)]),
        (b"application/json;q=0.5, application/x-npy", b"", [(NPY, True), (JSON, False)]),
        (b"application/x-npy;q=0, */*", b"", [(JSON, False)]),
        (b"text/html, application/x-npy", b"", [(JSON, False), (NPY, True)]),
        (b"application/x-npy;q=nonsense", b"", [(NPY, True)]),
        (b",;,", b"", [(JSON, False)]),
        (b"application/x-npy;q=0", NPY, [(JSON, False)]),
    ],
)
def test_the_answer_has_the_form_asked_for_or_that_of_the_request(accept, kind, tried):
    assert choices(accept, kind)[: len(tried)] == tried


def test_an_array_for_an_array():
    data, form = Bodies(Codec()).read(Asked(npy(np.eye(2)), content_type=NPY))
    assert data.tolist() == [[1, 0], [0, 1]]
    kind, body, more = form(data * 2)
    assert kind == NPY
    assert np.load(io.BytesIO(body)).tolist() == [[2, 0], [0, 2]]
    assert more == b""
    assert form({"prediction": data})[:2] == (JSON, b'{"prediction":[[1.0,0.0],[0.0,1.0]]}')
    assert form(b"abc")[0] == b"application/octet-stream"
    assert form(np.array([{}, None], dtype=object))[:2] == (JSON, b"[{},null]")


def test_json_for_an_array_where_json_is_asked_for():
    kind, body, _ = answered(np.arange(2), kind=NPY, body=npy(np.eye(2)), accept=JSON)
    assert (kind, body) == (JSON, b"[0,1]")


def test_an_array_for_json_where_it_is_asked_for():
    for result in (np.arange(2.0), [0.0, 1.0], pd.Series([0.0, 1.0])):
        kind, body, _ = answered(result, accept=NPY)
        assert kind == NPY
        assert np.load(io.BytesIO(body)).tolist() == [0.0, 1.0]


def test_what_cannot_be_what_is_asked_for_is_told():
    with pytest.raises(Refused, match="type dict, which cannot be sent as application/x-npy") as no:
        answered({"prediction": [1]}, accept=NPY)
    assert no.value.status == 406
    assert answered({"prediction": [1]}, accept=NPY + b", */*;q=0.1")[0] == JSON
    with pytest.raises(NotEncodable, match="no array"):
        answered([[1], [2, 3]], accept=NPY)


def test_what_the_environment_lacks_is_told(monkeypatch):
    for name, kind in (("numpy", NPY), ("pyarrow", STREAM), ("pyarrow", FILE)):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(Refused, match=f"needs {name}, which cannot be imported") as no:
                Bodies(Codec()).read(Asked(b"x", content_type=kind))
            assert no.value.status == 415


def test_an_arrow_library_that_unpickles_is_not_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace(__version__="14.0.0"))
    with pytest.raises(Refused, match=r"14\.0\.1 or newer") as no:
        Bodies(Codec()).read(Asked(b"x", content_type=STREAM))
    assert no.value.status == 415


def test_an_inference_request_is_one_whatever_its_type_says():
    one = {"name": "x", "shape": [1], "datatype": "INT32", "data": [7]}
    body = json.dumps({"inputs": [one]}).encode()
    path = b"/ocid1.d/predict/v2/models/m/infer"
    for kind in (b"", JSON, b"application/octet-stream"):
        asked = Asked(body, content_type=kind, x_havre_path=path)
        data, form = Bodies(Codec()).read(asked)
        assert data.dtype == "int32"
        assert json.loads(form(data)[1])["outputs"][0]["data"] == [7]


def test_a_body_that_is_compressed_is_told_to_be():
    path = b"/ocid1.d/predict/v2/models/m/infer"
    for headers in ({}, {"x_havre_path": path}, {"content_type": NPY}):
        asked = Asked(b"\x1f\x8b", **{"content_type": JSON, **headers, "content_encoding": b"gzip"})
        with pytest.raises(Refused, match="content-encoding gzip, which is not undone") as no:
            Bodies(Codec()).read(asked)
        assert no.value.status == 400
    asked = Asked(b"{", content_type=JSON, content_encoding=b"identity")
    with pytest.raises(Refused, match="not JSON"):
        Bodies(Codec()).read(asked)
    # The model may know what to do with it.
    assert Bodies(Codec()).read(Asked(b"\x1f", content_encoding=b"gzip"))[0] == b"\x1f"


def test_json_text_and_bytes_are_as_ever():
    bodies = Bodies(Codec())
    for kind, body, data in (
        (JSON, b"[1]", [1]),
        (b"application/ld+json; charset=latin-1", b'"\xe9"', "é"),
        (b"TEXT/plain; charset=latin-1", b"\xe9", "é"),
        (b"text/csv", b"a,b", b"a,b"),
        (b"", b"\x00", b"\x00"),
    ):
        assert bodies.read(Asked(body, content_type=kind))[0] == data
    for kind, body in (
        (JSON, b""),
        (JSON, b"{"),
        (b"text/plain; charset=nope", b"a"),
        (b"text/plain; charset=punycode", b"a"),  # would take hours for a large one
        (JSON + b"; charset=IDNA", b"1"),
    ):
        with pytest.raises(Refused):
            bodies.read(Asked(body, content_type=kind))
