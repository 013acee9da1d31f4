"""JSON in and out: what users return becomes what clients can read."""

import json
import math
import re
import sys
from collections import OrderedDict, deque, namedtuple
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from time import process_time
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pandas as pd
import pydantic
import pytest
from tests.zoo import results

from havre_copy.encoding import Codec, fastest_codec
from havre_copy.plain import NotEncodable


@dataclass
class Point:
    x: float
    tags: set[str]


class Color(Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    a: int = 1


Pair = namedtuple("Pair", "left right")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAN = float("nan")


@pytest.fixture(params=["standard", "orjson"])
def codec(request) -> Codec:
    if request.param == "standard":
        return Codec()
    return Codec(pytest.importorskip("orjson"))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"p": [1, 2.5, None, True, "é€😀"]}, {"p": [1, 2.5, None, True, "é€😀"]}),
        ("text", "text"),
        (None, None),
        ([NAN, math.inf, -math.inf, 1.0], [None, None, None, 1.0]),
        (NAN, None),
        (2**70, 2**70),
        ({1: "a", 2.5: 0, None: 1, False: 2}, {"1": "a", "2.5": 0, "null": 1, "false": 2}),
        ({np.int64(3): 1, MOMENT: 2}, {"3": 1, "2026-01-02T03:04:05+00:00": 2}),
        ("\ud800", "\ud800"),
        ((1, (2,)), [1, [2]]),
        (Pair(1, NAN), [1, None]),
        ([{1}, frozenset({2}), deque([3]), range(2)], [[1], [2], [3], [0, 1]]),
        ({"k": 4}.values(), [4]),
        (Point(1.5, {"t"}), {"x": 1.5, "tags": ["t"]}),
        (Model(), {"a": 1}),
        ({"c": Color.RED}, {"c": "red"}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ([MOMENT, date(2026, 1, 2)], ["2026-01-02T03:04:05+00:00", "2026-01-02"]),
        (timedelta(minutes=1), 60.0),
        ([Decimal("1.50"), Decimal("3"), Decimal("nan")], [1.5, 3, None]),
        ([UUID(int=1), PurePosixPath("/a")], ["00000000-0000-0000-0000-000000000001", "/a"]),
        ([np.float32(0.5), np.float64(2), np.int8(3), np.bool_(True)], [0.5, 2.0, 3, True]),
        (np.float64("nan"), None),
        ({"p": np.array([[1.0, NAN]])}, {"p": [[1.0, None]]}),
        (np.array(["2026-01-02"], dtype="datetime64[ns]"), ["2026-01-02T00:00:00.000000000"]),
        (np.array([["2026-01-02", "NaT"]], dtype="datetime64[D]"), [["2026-01-02", None]]),
        (np.datetime64("NaT"), None),
        (np.array([1500, "NaT"], dtype="timedelta64[ms]"), [1.5, None]),
        (np.timedelta64(90, "m"), 5400.0),
        (np.timedelta64(3, "M"), "3 months"),
        (pd.Series(pd.to_datetime(["2026-01-02 03:04", None])), ["2026-01-02T03:04:00", None]),
        (pd.to_datetime(["2026-01-02"], utc=True), ["2026-01-02T00:00:00+00:00"]),
        (pd.Series(pd.to_timedelta([1.5, None], "s")), [1.5, None]),
        (pd.Series([1, 2]), [1, 2]),
        ([pd.NaT, pd.NA, pd.Timestamp("2026-01-02")], [None, None, "2026-01-02T00:00:00"]),
        (pd.DataFrame({"a": [1, 2]}), {"a": {"0": 1, "1": 2}}),
        (pd.DataFrame({"a": [NAN]}, index=[MOMENT]), {"a": {"2026-01-02T03:04:05+00:00": None}}),
    ],
    ids=repr,
)  # fmt: skip
def test_results_become_json(codec, result, expected):
    assert json.loads(codec.dumps(result), parse_constant=pytest.fail) == expected


def test_every_result_of_the_zoo_becomes_its_json(codec):
    assert len(results.VALUES) >= 300
    wrong = []
    for result, expected in results.VALUES:
        found = json.loads(codec.dumps(result), parse_constant=pytest.fail)
        if repr(found) != repr(expected):  # 1 is not True, nor 1.0
            wrong.append((result, found, expected))
    assert not wrong


def test_what_the_zoo_says_is_refused(codec):
    for result, words in results.REFUSED:
        for whole in (result, [{"a": result, "b": NAN}]):
            with pytest.raises(NotEncodable, match=re.escape(words)):
                codec.dumps(whole)


def test_the_time_of_a_number_is_bounded(codec):
    began = process_time()
    for result in (Decimal("1E+999999999999"), Decimal("1E-999999999999"), 1 << 10_000_000):
        with suppress(NotEncodable):
            codec.dumps([result])
    assert process_time() - began < 1.0


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1.5, NAN], "b": ["x", "y"]}, index=["i", "j"]),
        results.PIVOT.pivot_table(index="k", columns="c", values=["v"]),
        results.PIVOT.groupby(["k", "c"]).sum(),
    ],
)
def test_frames_read_as_pandas_writes_them(codec, frame):
    assert json.loads(codec.dumps(frame)) == json.loads(frame.to_json())


def _cycle():
    around = []
    around.append(around)
    return around


class Opaque:
    pass


class Breaks:
    def tolist(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("result", "named"),
    [
        (Opaque(), "Opaque"),
        ({"a": [Opaque()]}, "Opaque"),
        ({"a": [NAN, Opaque()]}, "Opaque"),
        ([1 + 2j], "complex"),
        ({"a": b"\xff"}, "bytes"),
        ({(1, 2): 3}, "tuple"),
        (_cycle(), "itself"),
        (Breaks(), "tolist"),
        (Opaque, "type"),
        (np.array([1 + 2j]), "complex"),
        ({"a": map(abs, [-1]), "b": NAN}, "map"),  # reading it twice would lose it
    ],
)
def test_what_has_no_json_is_named(codec, result, named):
    with pytest.raises(NotEncodable, match=named):
        codec.dumps(result)


@pytest.mark.parametrize(
    "text",
    [
        b"[1, 2.5e3, -0, -0.0, null, true]",
        b"[NaN, Infinity, -Infinity]",
        b"18446744073709551616",
        b"[-9223372036854775809, 1234567890123456789.5]",
        b'{"a": 1, "a": 2}',
        b'"\\ud800"',
        b'"\xc3\xa9"',
        "[1]".encode("utf-16"),
        b" [1] ",
    ],
)
def test_reads_what_the_standard_library_reads(codec, text):
    expected = json.loads(text)
    assert repr(codec.loads(text)) == repr(expected)


def test_reads_past_a_byte_order_mark(codec):
    assert codec.loads(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize("text", [b"", b"{", b"[1,]", b"nul", b'"\xff"', b"[1]x", b"01"])
def test_refuses_what_is_not_json(codec, text):
    with pytest.raises(ValueError):  # noqa: PT011  the standard library's own
        codec.loads(text)


def test_a_deep_document_does_not_end_the_process(codec):
    with pytest.raises((ValueError, RecursionError)):
        codec.loads(b"[" * 200_000)


@pytest.mark.parametrize("loads", [lambda body: [2], json.loads])
def test_the_first_library_that_works_is_taken(monkeypatch, loads):
    import orjson

    fake = SimpleNamespace(
        loads=loads,
        dumps=lambda *_: b'{"a":[1,null]}',
        OPT_PASSTHROUGH_DATACLASS=1,
        OPT_PASSTHROUGH_DATETIME=2,
    )
    monkeypatch.setitem(sys.modules, "named_alike", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "fake_json", fake)
    codec = fastest_codec(("absent_json", "named_alike", "fake_json", "orjson"))
    works = loads is json.loads
    assert codec.dumps([1]) == (b'{"a":[1,null]}' if works else b"[1]")
    assert codec._fast_loads is (fake if works else orjson).loads


def test_without_any_the_standard_library_does_it():
    assert fastest_codec(("absent_json",)).loads(b"[1, 1e400]") == [1, math.inf]
