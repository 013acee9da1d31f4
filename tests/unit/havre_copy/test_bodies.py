"""Which form an answer takes, and what happens where a library is missing."""

import gzip
import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from havre_copy.bodies import Bodies, choices
from havre_copy.encoding import Codec
from havre_copy.faults import HttpError
from havre_copy.plain import NotEncodable

NPY = b"application/x-npy"
STREAM = b"application/vnd.apache.arrow.stream"
FILE = b"application/vnd.apache.arrow.file"
JSON = b"application/json"
MOST = 1000


class Asked:
    """As much of a request as is looked at."""

    def __init__(self, body, **headers):
        self.body = body
        self.stream = False
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.content_type = self._headers.get("content-type", b"")
        self.accept = self._headers.get("accept", b"")
        self.target = self._headers.get("x-havre-path", b"")
        self.encoding = self._headers.get("content-encoding", b"")

    def header(self, name):
        return self._headers.get(name.decode(), b"")


def npy(array) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


def answered(result, *, kind=JSON, body=b"[1]", **headers):
    return Bodies(Codec(), MOST).read(Asked(body, content_type=kind, **headers))[1](result)


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
    data, form = Bodies(Codec(), MOST).read(Asked(npy(np.eye(2)), content_type=NPY))
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


def test_a_result_that_cannot_have_the_requested_type_is_refused():
    with pytest.raises(
        HttpError, match="type dict, which cannot be sent as application/x-npy"
    ) as no:
        answered({"prediction": [1]}, accept=NPY)
    assert no.value.status == 406
    assert answered({"prediction": [1]}, accept=NPY + b", */*;q=0.1")[0] == JSON
    with pytest.raises(NotEncodable, match="no array"):
        answered([[1], [2, 3]], accept=NPY)


def test_a_library_that_the_environment_lacks_is_named(monkeypatch):
    for name, kind in (("numpy", NPY), ("pyarrow", STREAM), ("pyarrow", FILE)):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(HttpError, match=f"needs {name}, which cannot be imported") as no:
                Bodies(Codec(), MOST).read(Asked(b"x", content_type=kind))
            assert no.value.status == 415


def test_an_arrow_library_that_unpickles_is_not_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace(__version__="14.0.0"))
    with pytest.raises(HttpError, match=r"14\.0\.1 or newer") as no:
        Bodies(Codec(), MOST).read(Asked(b"x", content_type=STREAM))
    assert no.value.status == 415


def test_an_inference_request_is_known_by_its_path_alone():
    one = {"name": "x", "shape": [1], "datatype": "INT32", "data": [7]}
    body = json.dumps({"inputs": [one]}).encode()
    path = b"/ocid1.d/predict/v2/models/m/infer"
    for kind in (b"", JSON, b"application/octet-stream"):
        asked = Asked(body, content_type=kind, x_havre_path=path)
        data, form = Bodies(Codec(), MOST).read(asked)
        assert data.dtype == "int32"
        assert json.loads(form(data)[1])["outputs"][0]["data"] == [7]


def test_a_compressed_body_is_read_as_if_it_were_not():
    one = {"name": "x", "shape": [1], "datatype": "INT32", "data": [7]}
    path = b"/ocid1.d/predict/v2/models/m/infer"
    for headers, body, data in (
        ({"content_type": JSON}, b"[1]", [1]),
        ({"content_type": b"application/ld+json; charset=latin-1"}, b'"\xe9"', "é"),
        ({"content_type": b"text/plain; charset=latin-1"}, b"\xe9", "é"),
        ({"content_type": NPY}, npy([7]), [7]),
        ({"x_havre_path": path}, json.dumps({"inputs": [one]}).encode(), [7]),
    ):
        asked = Asked(gzip.compress(body), content_encoding=b"gzip", **headers)
        found = Bodies(Codec(), MOST).read(asked)[0]
        assert (found.tolist() if hasattr(found, "tolist") else found) == data
        assert asked.body == body  # what is captured and replayed is what was read
    # The model may know what to do with it.
    packed = gzip.compress(b"x")
    for kind in (b"", b"application/octet-stream", b"image/png"):
        asked = Asked(packed, content_encoding=b"gzip", content_type=kind)
        assert Bodies(Codec(), MOST).read(asked)[0] == packed


def test_a_compressed_body_may_be_read_again():
    """As after a batch that failed, in which it was."""
    asked = Asked(gzip.compress(b"[1]"), content_encoding=b"gzip", content_type=JSON)
    bodies = Bodies(Codec(), MOST)
    assert bodies.read(asked)[0] == bodies.read(asked)[0] == [1]


def test_a_compressed_body_has_the_limit_of_any_other():
    asked = Asked(gzip.compress(b"1" * (MOST + 1)), content_encoding=b"gzip", content_type=JSON)
    with pytest.raises(HttpError, match="larger than 1000 bytes") as no:
        Bodies(Codec(), MOST).read(asked)
    assert no.value.status == 413


def test_json_text_and_bytes_are_as_ever():
    bodies = Bodies(Codec(), MOST)
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
        with pytest.raises(HttpError):
            bodies.read(Asked(body, content_type=kind))
