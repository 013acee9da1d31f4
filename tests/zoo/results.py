"""What predict() may return, each with the JSON that it becomes, or the words of its refusal.

``VALUES`` become the second of each pair; ``REFUSED`` raise NotEncodable whose text has the second.
"""

import collections
import dataclasses
import enum
import ipaddress
import math
import types
import uuid
from array import array
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import attr
import numpy as np
import pandas as pd
import pydantic

NAN = math.nan
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)


class Grams(float):
    """A float that says more of itself."""

    def __repr__(self) -> str:
        return f"{float(self)} g"


class Count(int):
    def __repr__(self) -> str:
        return f"{int(self)} pieces"


class Label(str):
    def __repr__(self) -> str:
        return f"<{self}>"


class Row(list[Any]):
    pass


class Table(dict[Any, Any]):
    pass


class Pair(tuple[Any, ...]):
    pass


Named = collections.namedtuple("Named", "left right")


class Color(enum.Enum):
    RED = "red"
    NONE = None


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    A = "a"


class Weight(float, enum.Enum):
    HALF = 0.5
    UNKNOWN = NAN


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Shape(enum.Enum):
    SQUARE = (1, 1)
    WHEN = date(2026, 1, 2)


@dataclasses.dataclass
class Point:
    x: float
    more: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int = 1


@attr.s(auto_attribs=True)
class Attrs:
    x: float
    when: Any = None


@attr.define
class Defined:
    x: int = 1


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    value: Any = 1


class Site(pydantic.BaseModel):
    url: pydantic.AnyUrl
    key: pydantic.SecretStr
    address: pydantic.IPvAnyAddress
    raw: bytes
    inner: Model = Model()


class Numbers(pydantic.RootModel[list[int]]):
    pass


class ReadOnly(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return {"k": 1}[key]

    def __iter__(self) -> Any:
        return iter(["k"])

    def __len__(self) -> int:
        return 1


class Sized(collections.UserList[Any]):
    pass


PIVOT = pd.DataFrame({"k": ["a", "a", "b"], "c": ["x", "y", "x"], "v": [1, 2, 3]})

SCALARS: list[tuple[Any, Any]] = [
    (None, None), (True, True), (False, False), (0, 0), (-1, -1), (2**63, 2**63), (-(2**63) - 1, -(2**63) - 1),
    (2**64, 2**64), (10**40, 10**40), (10**4299, 10**4299), (0.0, 0.0), (-0.0, -0.0), (0.1, 0.1), (1e16, 1e16), (1e-7, 1e-7),
    (5e-324, 5e-324), (1.7976931348623157e308, 1.7976931348623157e308), (NAN, None), (math.inf, None), (-math.inf, None),
    ("", ""), ("text", "text"), ("é€😀", "é€😀"), ("\ud800", "\ud800"), ("a\x00b\n\"\\", "a\x00b\n\"\\"), ("\u2028", "\u2028"),
    (Grams(0.5), 0.5), (Grams("nan"), None), (Grams("inf"), None), (Count(3), 3), (Count(2**70), 2**70), (Label("l"), "l"),
    (Label("\ud800"), "\ud800"),
    (Color.RED, "red"), (Color.NONE, None), (Level.LOW, 1), (Name.A, "a"), (Weight.HALF, 0.5), (Weight.UNKNOWN, None),
    (Right.READ, 1), (Right.READ | Right.WRITE, 3), (Shape.SQUARE, [1, 1]), (Shape.WHEN, "2026-01-02"),
    (MOMENT, "2026-01-02T03:04:05.678900+00:00"), (datetime(2026, 1, 2), "2026-01-02T00:00:00"),
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3))), "2026-01-02T00:00:00-03:00"),
    (date(2026, 1, 2), "2026-01-02"), (time(3, 4), "03:04:00"), (timedelta(minutes=1), 60.0), (timedelta(microseconds=-1), -1e-06),
    (Decimal("1.50"), 1.5), (Decimal("3"), 3), (Decimal("nan"), None), (Decimal("-inf"), None), (Decimal("1E+3"), 1000),
    (Decimal("1E-400"), 0.0), (Decimal("0E+9999999"), 0), (Decimal("1E+400"), 10**400), (Decimal("123456789012345678901"), 123456789012345678901),
    (Fraction(1, 4), 0.25), (Fraction(6, 3), 2), (Fraction(2**70), 2**70),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"), (PurePosixPath("/a/b"), "/a/b"),
    (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"), (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    (ipaddress.ip_interface("::1/64"), "::1/64"), (collections.UserString("u"), "u"),
    (b"", ""), (b"text", "text"), ("ü".encode(), "ü"), (bytearray(b"b"), "b"),
    (np.bool_(True), True), (np.int8(-3), -3), (np.uint64(2**64 - 1), 2**64 - 1), (np.float16(0.5), 0.5), (np.float32(0.25), 0.25),
    (np.float32("nan"), None), (np.float64(2), 2.0), (np.float64("inf"), None), (np.longdouble("0.5"), 0.5), (np.longdouble("nan"), None),
    (np.str_("s"), "s"), (np.bytes_(b"s"), "s"), (np.datetime64("2026-01-02"), "2026-01-02"), (np.datetime64("NaT"), None),
    (np.datetime64("2026-01-02T03:04", "ns"), "2026-01-02T03:04:00.000000000"), (np.timedelta64(90, "m"), 5400.0),
    (np.timedelta64("NaT"), None), (np.timedelta64(3, "M"), "3 months"), (np.void(b"v"), "v"),
    (pd.NaT, None), (pd.NA, None), (pd.Timestamp("2026-01-02", tz="UTC"), "2026-01-02T00:00:00+00:00"), (pd.Timedelta("1min"), 60.0),
    (pd.Period("2026-01", "M"), "2026-01"), (pd.Interval(0, 1), "(0, 1]"), (pd.Interval(0.5, 1.5, closed="left"), "[0.5, 1.5)"),
    (pydantic.AnyUrl("https://example.org/a"), "https://example.org/a"), (pydantic.SecretStr("secret"), "**********"),
]  # fmt: skip

CONTAINERS: list[tuple[Any, Any]] = [
    ([], []), ({}, {}), ((), []), ((1, (2,)), [1, [2]]), (Row([1, NAN]), [1, None]), (Pair((1, 2)), [1, 2]), (Named(1, NAN), [1, None]),
    (Table(a=1), {"a": 1}), (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}), (collections.defaultdict(int, a=1), {"a": 1}),
    (collections.Counter("aab"), {"a": 2, "b": 1}), (collections.ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}),
    (collections.UserDict(a=1), {"a": 1}), (types.MappingProxyType({"a": 1}), {"a": 1}), (ReadOnly(), {"k": 1}),
    ({1}, [1]), (frozenset({2}), [2]), (collections.deque([3, NAN]), [3, None]), (range(3), [0, 1, 2]),
    (collections.UserList([1, [2]]), [1, [2]]), (Sized([NAN]), [None]), (array("d", [0.5]), [0.5]), (array("i"), []),
    ({"k": 4}.values(), [4]), ({"k": 4}.keys(), ["k"]), ({"k": 4}.items(), [["k", 4]]),
    ({1: "a", 2.5: 0, None: 1, False: 2}, {"1": "a", "2.5": 0, "null": 1, "false": 2}), ({NAN: 1, math.inf: 2}, {"NaN": 1, "inf": 2}),
    ({Color.RED: 1}, {"red": 1}), ({Level.LOW: 1}, {"1": 1}), ({Name.A: 1}, {"a": 1}), ({Label("l"): 1}, {"l": 1}),
    ({np.int64(3): 1, np.str_("s"): 2, np.float32(0.5): 3, np.bool_(True): 4}, {"3": 1, "s": 2, "0.5": 3, "true": 4}),
    ({MOMENT: 1}, {"2026-01-02T03:04:05.678900+00:00": 1}), ({date(2026, 1, 2): 1}, {"2026-01-02": 1}), ({uuid.UUID(int=0): 1}, {str(uuid.UUID(int=0)): 1}),
    ({b"k": 1}, {"k": 1}), ({2**70: 1}, {str(2**70): 1}), ({pd.Interval(0, 1): 1}, {"(0, 1]": 1}), ({pd.Period("2026", "Y"): 1}, {"2026": 1}),
    ({"a": {1: {2: 3}}}, {"a": {"1": {"2": 3}}}), ([{1: [{2: NAN}]}], [{"1": [{"2": None}]}]),
    (Point(1.5, {"t"}), {"x": 1.5, "more": ["t"]}), (Point(NAN, Point(1.0)), {"x": None, "more": {"x": 1.0, "more": None}}), (Slotted(), {"x": 1}),
    (Attrs(NAN, date(2026, 1, 2)), {"x": None, "when": "2026-01-02"}), (Attrs(1.0, Defined()), {"x": 1.0, "when": {"x": 1}}),
    (Model(), {"value": 1}), (Model(value=NAN), {"value": None}), (Model(value={1: 2}), {"value": {"1": 2}}),
    (Model(value=np.array([1.5, NAN])), {"value": [1.5, None]}), (Model(value=pd.DataFrame({"a": [1]})), {"value": {"a": {"0": 1}}}),
    (Model(value=b"b"), {"value": "b"}), (Model(value=Model(value=MOMENT)), {"value": {"value": "2026-01-02T03:04:05.678900Z"}}),
    (Numbers([1, 2]), [1, 2]),
    (Site(url="https://example.org", key="k", address="::1", raw=b"r"),
     {"url": "https://example.org/", "key": "**********", "address": "::1", "raw": "r", "inner": {"value": 1}}),
    (np.array(1), 1), (np.array([]), []), (np.zeros((2, 0)), [[], []]), (np.array([[1, 2], [3, 4]], order="F"), [[1, 2], [3, 4]]),
    (np.array([1.0, NAN]), [1.0, None]), (np.array([0.5, NAN], dtype=np.longdouble), [0.5, None]), (np.array([1, 2], dtype=">i4"), [1, 2]),
    (np.array([b"a", b"bc"]), ["a", "bc"]), (np.array(["a", "bc"]), ["a", "bc"]), (np.array([b"a", "b", None, 1.5], dtype=object), ["a", "b", None, 1.5]),
    (np.array([True]), [True]), (np.array(["2026-01-02", "NaT"], dtype="datetime64[D]"), ["2026-01-02", None]),
    (np.array([1500, "NaT"], dtype="timedelta64[ms]"), [1.5, None]), (np.ma.array([1, 2], mask=[0, 1]), [1, None]),
    (np.array([(1, "2026-01-02")], dtype=[("a", "i4"), ("d", "datetime64[D]")]), [[1, "2026-01-02"]]),
    (np.array([(1, [2.0, NAN])], dtype=[("a", "i4"), ("v", "f4", 2)]), [[1, [2.0, None]]]),
    (np.array([(1, (2, "NaT"))], dtype=[("a", "i4"), ("in", [("b", "i4"), ("d", "datetime64[D]")])]), [[1, [2, None]]]),
    (np.array([(1, b"t")], dtype=[("a", "i4"), ("b", "S3")])[0], [1, "t"]), (np.array([], dtype=[("a", "i4")]), []),
    (pd.Series([1, 2]), [1, 2]), (pd.Series([1, 2], index=["a", "a"]), [1, 2]), (pd.Series([1.5, None]), [1.5, None]),
    (pd.Series(["a", None, b"b"]), ["a", None, "b"]), (pd.Series([1, None], dtype="Int64"), [1, None]), (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
    (pd.Series(["a", None], dtype="string"), ["a", None]), (pd.Series(pd.to_datetime(["2026-01-02", None])), ["2026-01-02T00:00:00", None]),
    (pd.Series(pd.to_timedelta([1.5, None], "s")), [1.5, None]), (pd.Series(pd.period_range("2026-01", periods=2, freq="M")), ["2026-01", "2026-02"]),
    (pd.Series(pd.interval_range(0, 2)), ["(0, 1]", "(1, 2]"]), (pd.Index([1, 2]), [1, 2]), (pd.RangeIndex(2), [0, 1]),
    (pd.MultiIndex.from_tuples([("a", 1)]), [["a", 1]]), (pd.Categorical(["x"]), ["x"]), (pd.array([1, None]), [1, None]),
    (pd.DataFrame(), {}), (pd.DataFrame([[1, "x"]], columns=["a", "b"]), {"a": {"0": 1}, "b": {"0": "x"}}),
    (pd.DataFrame({"a": [1, 2]}, index=["i", "j"]), {"a": {"i": 1, "j": 2}}), (pd.DataFrame({"a": [NAN]}, index=[MOMENT]), {"a": {"2026-01-02T03:04:05.678900+00:00": None}}),
    (pd.DataFrame({0: [1], 1: [2]}), {"0": {"0": 1}, "1": {"0": 2}}), (pd.DataFrame({"a": [b"b"], "p": [pd.Period("2026", "Y")]}), {"a": {"0": "b"}, "p": {"0": "2026"}}),
    (pd.DataFrame({"a": pd.to_datetime(["2026-01-02"], utc=True)}), {"a": {"0": "2026-01-02T00:00:00+00:00"}}),
    (pd.DataFrame({"a": [1]}).rename_axis("row"), {"a": {"0": 1}}), (pd.DataFrame({"a": [[1, NAN]]}), {"a": {"0": [1, None]}}),
    (PIVOT.pivot_table(index="k", columns=["c"], values="v"), {"x": {"a": 1.0, "b": 3.0}, "y": {"a": 2.0, "b": None}}),
    (PIVOT.pivot_table(index="k", columns="c", values=["v"]), {"('v', 'x')": {"a": 1.0, "b": 3.0}, "('v', 'y')": {"a": 2.0, "b": None}}),
    (PIVOT.groupby("k").agg({"v": ["min", "max"]}), {"('v', 'min')": {"a": 1, "b": 3}, "('v', 'max')": {"a": 2, "b": 3}}),
    (PIVOT.groupby(["k", "c"]).sum(), {"v": {"('a', 'x')": 1, "('a', 'y')": 2, "('b', 'x')": 3}}),
    (PIVOT.groupby(pd.cut(PIVOT["v"], [0, 1, 3]), observed=True)[["v"]].sum(), {"v": {"(0, 1]": 1, "(1, 3]": 5}}),
    (pd.DataFrame({"d": pd.to_datetime(["2026-01-02"])}).to_records(), [[0, "2026-01-02T00:00:00.000000000"]]),
    (pd.DataFrame({"a": [1.5]}).to_records(index=False), [[1.5]]), (PIVOT.to_dict("records")[:1], [{"k": "a", "c": "x", "v": 1}]),
    (PIVOT.head(1).to_dict("split"), {"index": [0], "columns": ["k", "c", "v"], "data": [["a", "x", 1]]}),
]  # fmt: skip

VALUES: list[tuple[Any, Any]] = [
    *SCALARS,
    *(([value], [expected]) for value, expected in SCALARS),
    *(({"p": value, "n": NAN}, {"p": expected, "n": None}) for value, expected in SCALARS),
    *((Point(value), {"x": expected, "more": None}) for value, expected in SCALARS),
    *CONTAINERS,
    *(({"p": [value]}, {"p": [expected]}) for value, expected in CONTAINERS),
    *(([{1: value}], [{"1": expected}]) for value, expected in CONTAINERS),
]


class Opaque:
    pass


class Breaks:
    def tolist(self) -> None:
        raise RuntimeError("no")


REFUSED: list[tuple[Any, str]] = [
    (Opaque(), "Opaque, which has no JSON form"), (Opaque, "type type"), (1 + 2j, "complex"), (np.array([1 + 2j]), "complex"), (map(abs, [1]), "map"),
    (b"\xff", "no UTF-8 text"), (bytearray(b"\xff"), "no UTF-8 text"), (np.array([b"\xff"]), "no UTF-8 text"), (memoryview(b"m"), "memoryview"),
    (Breaks(), "tolist() raised no"), (len, "builtin_function"), (Model(value=Opaque()), "Opaque, which has no JSON form"), (Model(value=b"\xff"), "no UTF-8 text"),
    ({(1, 2): 3}, "key of type tuple"), ({Opaque: 1}, "type type"), ({b"\xff": 1}, "no UTF-8 text"),
    ({1: "a", "1": "b"}, "keys 1 and '1'"), ({True: "a", "true": "b"}, "keys True and 'true'"), ({None: "a", "null": "b"}, "keys None and 'null'"),
    ({"p": {1.5: "a", "1.5": "b"}}, "would be lost"), (Point(1, {2: "a", "2": "b"}), "would be lost"), (collections.UserDict({1: 1, "1": 2}), "would be lost"),
    ({date(2026, 1, 2): 1, "2026-01-02": 2}, "would be lost"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "column label 'a' more than once"), (pd.DataFrame({"a": [1, 2]}, index=["i", "i"]), "row label 'i' more than once"),
    (pd.DataFrame({"a": [1, 2]}, index=[1, "1"]), "row label '1' more than once"), ({"p": pd.DataFrame([[1, 2]], columns=["a", "a"])}, "column label"),
    (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 1)])), "more than once"),
    (pd.concat([PIVOT, PIVOT]), "reset_index(drop=True)"), (pd.concat([PIVOT, PIVOT], axis=1), "rename its columns"),
    (10**4300, "more than 4300 digits"), (Decimal("1E+1000000000"), "more than 4300 digits"), (Decimal("-1E+4300"), "more than 4300 digits"),
    (Fraction(10**5000), "more than 4300 digits"), (Fraction(10**5000, 3), "more than 4300 digits"), ({10**4300: 1}, "more than 4300 digits"),
]  # fmt: skip
