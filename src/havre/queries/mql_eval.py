"""Evaluates a query of Monitoring's language over given points. Pure.

A *point* is a value observed so many times at a moment; a *stream* is the points of one metric with
the same dimensions. A *window* begins at each multiple of the resolution and is as long as the
query's interval: a value at a moment is that of the window that begins there.
"""

import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from havre.domain.errors import InvalidParameter
from havre.queries.mql_parser import (
    Between,
    BinaryOperation,
    Number,
    Query,
    Regrouping,
    Selection,
    Statistic,
    selections,
)

MAX_WINDOWS = 50_000
MAX_VALUES = 1_000_000
"""Windows of all streams of a metric together."""


class Point(NamedTuple):
    """A latency is stored as a point per bucket, observed so many ``times``; all else once."""

    time_ms: int
    value: float
    times: int = 1


@dataclass(frozen=True, slots=True)
class Stream:
    """``points`` are ordered by time."""

    dimensions: Mapping[str, str]
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Series:
    """A value for each window that has one, by the moment (ms) at which the window begins."""

    dimensions: Mapping[str, str]
    values: Mapping[int, float]


StreamSource = Callable[[Selection, int, int], Iterable[Stream]]
"""The streams of a metric that satisfy its conditions, from a moment on, before another (ms)."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Those that begin from ``start_ms`` on, before ``end_ms``; ``step_ms`` is the resolution."""

    start_ms: int
    end_ms: int
    step_ms: int

    def starts(self) -> range:
        first = -(-self.start_ms // self.step_ms) * self.step_ms
        return range(first, self.end_ms, self.step_ms)


def evaluate(query: Query, windows: Windows, source: StreamSource) -> list[Series]:
    """Raises InvalidParameter for a query that exceeds a limit, or joins incompatible streams."""
    if len(windows.starts()) > MAX_WINDOWS:
        raise InvalidParameter(
            f"the query asks for {len(windows.starts())} moments, {MAX_WINDOWS} are the most: "
            "choose a shorter time or a coarser resolution"
        )
    return [series for series in _evaluate(query, windows, source) if series.values]


def span(selection: Selection, windows: Windows) -> tuple[int, int]:
    """The period (ms) whose points are needed: some statistics look back."""
    interval_ms = selection.interval_s * 1000
    back_ms = interval_ms if selection.statistic.name in ("rate", "increment") else 0
    if selection.statistic.name == "absent":
        back_ms = int(selection.statistic.argument * 1000)
    return windows.start_ms - back_ms, windows.end_ms + interval_ms - windows.step_ms


def name_of(query: Query) -> str:
    """The first metric that a query reads: the name of its result."""
    return selections(query)[0].metric


def _evaluate(query: Query, windows: Windows, source: StreamSource) -> list[Series]:
    if isinstance(query, Selection):
        return _selected(query, windows, source)
    if isinstance(query, Regrouping):
        return _regrouped(query, _evaluate(query.inner, windows, source))
    if isinstance(query, Number):
        return [Series({}, dict.fromkeys(windows.starts(), query.value))]
    if isinstance(query, Between):
        return [
            Series(
                series.dimensions,
                {
                    at: float((query.low <= value <= query.high) is not query.is_negated)
                    for at, value in series.values.items()
                },
            )
            for series in _evaluate(query.inner, windows, source)
        ]
    left, right = (_evaluate(side, windows, source) for side in (query.left, query.right))
    return _joined(query, left, right)


# A metric's own points.


def _selected(selection: Selection, windows: Windows, source: StreamSource) -> list[Series]:
    groups: dict[tuple[tuple[str, str], ...], list[Point]] = {}
    from_ms, to_ms = span(selection, windows)
    for stream in source(selection, from_ms, to_ms):
        if all(condition.holds(stream.dimensions) for condition in selection.conditions):
            groups.setdefault(_key(stream.dimensions, selection.group), []).extend(stream.points)
    if not groups and selection.statistic.name == "absent":
        groups[_stated(selection)] = []
    if len(groups) * len(windows.starts()) > MAX_VALUES:
        raise InvalidParameter(
            f"the query asks for {len(windows.starts())} moments of {len(groups)} streams: "
            "choose a shorter time or a coarser resolution, or name the deployment"
        )
    result = []
    for key, points in groups.items():
        points.sort()
        times = [point.time_ms for point in points]
        values: dict[int, float] = {}
        for start in windows.starts():
            first = bisect_left(times, start)
            last = bisect_left(times, start + selection.interval_s * 1000, first)
            value = _statistic(selection.statistic, points, first, last, start)
            if value is not None:
                values[start] = value
        result.append(Series(dict(key), values))
    return result


def _key(
    dimensions: Mapping[str, str], group: tuple[str, ...] | None
) -> tuple[tuple[str, str], ...]:
    if group is None:
        return tuple(sorted(dimensions.items()))
    return tuple((name, dimensions.get(name, "")) for name in group)


def _stated(selection: Selection) -> tuple[tuple[str, str], ...]:
    """The dimensions of a stream without points: those that the query states."""
    return tuple(
        (condition.dimension, condition.values[0])
        for condition in selection.conditions
        if len(condition.values) == 1 and not condition.is_pattern and not condition.is_negated
        if selection.group is None or condition.dimension in selection.group
    )


def _statistic(
    statistic: Statistic, points: Sequence[Point], first: int, last: int, start_ms: int
) -> float | None:
    """Of ``points[first:last]``; None if it is undefined there."""
    if statistic.name == "absent":
        if first < last:
            return 0.0
        has_ended = first > 0 and points[first - 1].time_ms < start_ms - statistic.argument * 1000
        return None if has_ended else 1.0
    if first == last:
        return None
    if statistic.name in ("rate", "increment"):
        before = points[max(0, first - 1)]
        latest = points[last - 1]
        change = latest.value - before.value
        if statistic.name == "increment":
            return change
        took_ms = latest.time_ms - before.time_ms
        return change * 1000 / took_ms if took_ms else None
    return _of_points(statistic, points[first:last])


def _of_points(statistic: Statistic, points: Sequence[Point]) -> float:
    match statistic.name:
        case "count":
            return float(sum(point.times for point in points))
        case "sum":
            return sum(point.value * point.times for point in points)
        case "mean":
            return sum(point.value * point.times for point in points) / sum(
                point.times for point in points
            )
        case "min":
            return min(point.value for point in points)
        case "max":
            return max(point.value for point in points)
        case "first":
            return points[0].value
        case "last":
            return points[-1].value
    return _percentile(points, statistic.argument)


def _percentile(points: Sequence[Point], share: float) -> float:
    """The least value that this share of the observations does not exceed."""
    rank = share * sum(point.times for point in points)
    passed = 0
    ordered = sorted((point.value, point.times) for point in points)
    for value, count in ordered:
        passed += count
        if passed >= rank:
            return value
    return ordered[-1][0]


# Several streams at the same moment.


def _regrouped(query: Regrouping, inner: Iterable[Series]) -> list[Series]:
    groups: dict[tuple[tuple[str, str], ...], dict[int, list[Point]]] = {}
    for series in inner:
        moments = groups.setdefault(_key(series.dimensions, query.group), {})
        for at, value in series.values.items():
            moments.setdefault(at, []).append(Point(at, value))
    return [
        Series(
            dict(key),
            {at: _of_points(query.statistic, points) for at, points in sorted(moments.items())},
        )
        for key, moments in groups.items()
    ]


def _joined(query: BinaryOperation, left: list[Series], right: list[Series]) -> list[Series]:
    """By dimension: two series match if they agree in every dimension that both have.

    For ``||`` a series without a partner stays as it is; for the others it has no result.
    """
    result, matched = [], set()
    for series in left:
        partners = [other for other in right if _agree(series, other)]
        matched |= {id(other) for other in partners}
        result += [_combined(query.operator, series, other) for other in partners]
        if not partners and query.operator == "||":
            result.append(_combined("||", series, Series({}, {})))
    if query.operator == "||":
        alone = (other for other in right if id(other) not in matched)
        result += [_combined("||", Series({}, {}), other) for other in alone]
    return result


def _agree(left: Series, right: Series) -> bool:
    """Raises InvalidParameter if each has a dimension that the other lacks."""
    if left.dimensions.keys() - right.dimensions.keys() and (
        right.dimensions.keys() - left.dimensions.keys()
    ):
        names = " and ".join(f"({', '.join(sorted(side.dimensions))})" for side in (left, right))
        raise InvalidParameter(
            f"the query joins streams with the dimensions {names}: "
            "give both sides the same groupBy(), or one of them grouping()"
        )
    shared = left.dimensions.keys() & right.dimensions.keys()
    return all(left.dimensions[name] == right.dimensions[name] for name in shared)


def _combined(sign: str, left: Series, right: Series) -> Series:
    dimensions = {**left.dimensions, **right.dimensions}
    if sign == "||":
        moments = sorted({*left.values, *right.values})
        values = {
            at: float(bool(left.values.get(at, 0.0) or right.values.get(at, 0.0))) for at in moments
        }
        return Series(dimensions, values)
    values = {}
    for at, value in left.values.items():
        if at not in right.values:
            continue
        result = _compute(sign, value, right.values[at])
        if result is not None:
            values[at] = result
    return Series(dimensions, values)


_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


def _compute(sign: str, left: float, right: float) -> float | None:
    """Comparisons and ``&&`` are 1 or 0. None if the result is no number."""
    if sign == "&&":
        return float(bool(left and right))
    if sign in _COMPARISONS:
        return float(_COMPARISONS[sign](left, right))
    try:
        result = float(_ARITHMETIC[sign](left, right))
    except ZeroDivisionError:
        return None
    return result if abs(result) < float("inf") else None
