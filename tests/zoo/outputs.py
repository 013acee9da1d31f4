"""What predict() may return to a client of the Open Inference Protocol, and the outputs it becomes.

``OUTPUTS`` become ``(name, datatype, shape, data)`` each, the data as JSON has them; ``DATES`` too,
and are marked as dates. ``REFUSED`` raise NotEncodable whose text has the second.
"""

import collections
import enum
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MIXED = pd.DataFrame(
    {
        "id": [7, 8],
        "score": [0.5, np.nan],
        "label": ["a", None],
        "sure": [True, False],
        "when": pd.to_datetime(["2026-01-02 03:04:05", None]),
        "kind": pd.Categorical(["x", "y"]),
    }
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


Output = tuple[str, str, list[int], list[Any]]


def only(datatype: str, shape: list[int], data: list[Any]) -> list[Output]:
    return [("output-0", datatype, shape, data)]


OUTPUTS: list[tuple[Any, list[Output]]] = [
    # frames: an output for each column
    (
        MIXED,
        [
            ("id", "INT64", [2], [7, 8]),
            ("score", "FP64", [2], [0.5, None]),
            ("label", "BYTES", [2], ["a", None]),
            ("sure", "BOOL", [2], [True, False]),
            ("when", "BYTES", [2], ["2026-01-02T03:04:05", None]),
            ("kind", "BYTES", [2], ["x", "y"]),
        ],
    ),
    (
        pd.DataFrame({"a": [1.5, 2.5], "b": [3.5, 4.5]}, index=["x", "y"]),
        [("a", "FP64", [2], [1.5, 2.5]), ("b", "FP64", [2], [3.5, 4.5])],
    ),
    (pd.DataFrame({0: [1], 1: [2]}), [("0", "INT64", [1], [1]), ("1", "INT64", [1], [2])]),
    (
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "min"), ("a", "max")])),
        [("('a', 'min')", "INT64", [1], [1]), ("('a', 'max')", "INT64", [1], [2])],
    ),
    (pd.DataFrame({"a": []}, dtype=object), [("a", "BYTES", [0], [])]),
    (pd.DataFrame({"a": [None, None]}), [("a", "FP64", [2], [None, None])]),
    (
        np.array([(1, 0.5)], dtype=[("n", "i4"), ("x", "f4")]),
        [("n", "INT32", [1], [1]), ("x", "FP32", [1], [0.5])],
    ),
    (
        MIXED[["id", "when"]].to_records(index=False),
        [
            ("id", "INT64", [2], [7, 8]),
            ("when", "BYTES", [2], ["2026-01-02T03:04:05.000000000", None]),
        ],
    ),
    (
        collections.OrderedDict(a=[1], b=["x"]),
        [("a", "INT64", [1], [1]), ("b", "BYTES", [1], ["x"])],
    ),
    (collections.UserDict(a=1.5), [("a", "FP64", [], [1.5])]),
    ({}, []),
    # series
    (pd.Series([1, 2], name="n"), only("INT64", [2], [1, 2])),
    (pd.Series([1, 2], dtype="Int64"), only("INT64", [2], [1, 2])),
    (pd.Series([1, None], dtype="Int64"), only("FP64", [2], [1.0, None])),
    (pd.Series([1.5, None], dtype="Float64"), only("FP64", [2], [1.5, None])),
    (pd.Series([True, False], dtype="boolean"), only("BOOL", [2], [True, False])),
    (pd.Series(["a", pd.NA], dtype="string"), only("BYTES", [2], ["a", None])),
    (pd.Series(["a", float("nan")], dtype=object), only("BYTES", [2], ["a", None])),
    (pd.Series([timedelta(seconds=90), None]), only("FP64", [2], [90.0, None])),
    # what stands in lists
    ([1, 2], only("INT64", [2], [1, 2])),
    ([[1, 2.5]], only("FP64", [1, 2], [1.0, 2.5])),
    ([0.5, None], only("FP64", [2], [0.5, None])),
    ([1, None], only("FP64", [2], [1.0, None])),
    ([[None, 1.5], [2, None]], only("FP64", [2, 2], [None, 1.5, 2.0, None])),
    (["a", None], only("BYTES", [2], ["a", None])),
    (["a", b"b"], only("BYTES", [2], ["a", "b"])),
    ([True, False], only("BOOL", [2], [True, False])),
    ([2**63, 1], only("UINT64", [2], [2**63, 1])),
    ([], only("FP64", [0], [])),
    ("text", only("BYTES", [1], ["text"])),
    (b"text", only("BYTES", [1], ["text"])),
    (1.5, only("FP64", [], [1.5])),
    ([Decimal("1"), Decimal("2.5")], only("FP64", [2], [1.0, 2.5])),
    ([Decimal("1"), Decimal("2")], only("FP64", [2], [1.0, 2.0])),
    ([Fraction(1, 2), Fraction(3)], only("FP64", [2], [0.5, 3.0])),
    ([Colour.RED, Colour.BLUE], only("BYTES", [2], ["red", "blue"])),
    ([Level.LOW, Level.LOW], only("INT64", [2], [1, 1])),
    ([uuid.UUID(int=1)], only("BYTES", [1], ["00000000-0000-0000-0000-000000000001"])),
    ([timedelta(seconds=1.5)], only("FP64", [1], [1.5])),
    ([np.float32(0.5), None], only("FP64", [2], [0.5, None])),
    # arrays
    (np.array(["a", "b"]), only("BYTES", [2], ["a", "b"])),
    (np.array([b"a", b"b"]), only("BYTES", [2], ["a", "b"])),
    (np.array(["a", None], dtype=object), only("BYTES", [2], ["a", None])),
    (np.array([1, 2.5, None], dtype=object), only("FP64", [3], [1.0, 2.5, None])),
    (np.array([1, 2], dtype=object), only("INT64", [2], [1, 2])),
    (np.array([90, "NaT"], "m8[s]"), only("FP64", [2], [90.0, None])),
    (np.longdouble([0.5]), only("FP64", [1], [0.5])),
    (np.array([1, 2], dtype=">i4"), only("INT32", [2], [1, 2])),
    (np.ma.array([1.5, 2.5], mask=[False, True]), only("FP64", [2], [1.5, None])),
    (np.ma.array([1, 2], mask=[False, True]), only("FP64", [2], [1.0, None])),
    (np.ma.array([[1, 2]], mask=False), only("INT64", [1, 2], [1, 2])),
    (["2026-01-02", MOMENT], only("BYTES", [2], ["2026-01-02", "2026-01-02T03:04:05+00:00"])),
    (np.array(["2026-01-02", "NaT"], "M8[D]"), only("BYTES", [2], ["2026-01-02", None])),
]

DATES: list[tuple[Any, list[Output]]] = [
    ([MOMENT], only("BYTES", [1], ["2026-01-02T03:04:05+00:00"])),
    ([date(2026, 1, 2)], only("BYTES", [1], ["2026-01-02"])),
    (pd.Series(pd.to_datetime(["2026-01-02"])), only("BYTES", [1], ["2026-01-02T00:00:00"])),
    (pd.Series([MOMENT, MOMENT]), only("BYTES", [2], ["2026-01-02T03:04:05+00:00"] * 2)),
    (pd.DatetimeIndex(["2026-01-02T03"]), only("BYTES", [1], ["2026-01-02T03:00:00"])),
    (np.array([["2026-01-02"]], "M8[D]"), only("BYTES", [1, 1], ["2026-01-02"])),
    (
        [MOMENT.astimezone(timezone(timedelta(hours=2)))],
        only("BYTES", [1], ["2026-01-02T05:04:05+02:00"]),
    ),
]

REFUSED: list[tuple[Any, str]] = [
    (None, "output-0 that has no value: it is None"),
    ({"a": [1], "b": None}, "output b that has no value: it is None"),
    (object(), "output-0 that has something that has no form"),
    ([1, "a"], "output-0 that has numbers and texts: a tensor holds one of these"),
    ([True, "a"], "output-0 that has booleans and texts"),
    (pd.DataFrame({"a": [1, "x"]}), "output a that has numbers and texts"),
    (pd.DataFrame({"a": [True, None]}), "output a that has booleans and missing values"),
    (pd.Series([True, None], dtype="boolean"), "booleans and missing values"),
    (
        pd.DataFrame({"a": [{"b": 1}]}),
        "output a that has values of type dict, which no tensor holds",
    ),
    (pd.DataFrame({"a": [[1], [2, 3]]}), "output a that has values of type list"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "output a that has the same name as another"),
    (pd.DataFrame([[1, 2]], columns=[1, "1"]), "output 1 that has the same name as another"),
    ({1: [1], "1": [2]}, "output 1 that has the same name as another"),
    ([[1], [2, 3]], "output-0 that is no tensor"),
    ([{"a": 1}, {"a": 2}], "values of type dict, which no tensor holds"),
    ([2**53 + 1, None], "integers of many digits beside fractions or missing values"),
    ([2**53 + 1, 0.5], "integers of many digits beside fractions or missing values"),
    (pd.Series([2**53 + 1, None], dtype="Int64"), "integers of many digits"),
    ([2**63, -1], "integers of many digits|integers that 64 bits cannot hold"),
    ([2**64, 1], "integers that 64 bits cannot hold"),
    ([1j], "the type complex128, which the protocol has no datatype for"),
    (np.array([3], "m8[M]"), "months or years"),
]
