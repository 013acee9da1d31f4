"""What queries come to, over a few points that can be counted by hand."""

import pytest

from havre.domain.errors import InvalidParameter
from havre.queries.mql_eval import Point, Stream, Windows, evaluate, name_of, span
from havre.queries.mql_parser import parse, selections

MINUTE = 60_000
A1 = {"resourceId": "a", "instanceId": "1"}
A2 = {"resourceId": "a", "instanceId": "2"}
B1 = {"resourceId": "b", "instanceId": "1"}

METRICS = {
    "Cpu": [
        Stream(A1, [Point(0, 10.0), Point(30_000, 30.0), Point(MINUTE, 50.0)]),
        Stream(A2, [Point(0, 90.0), Point(MINUTE, 70.0)]),
        Stream(B1, [Point(10_000, 5.0)]),
    ],
    "Latency": [Stream({"resourceId": "a"}, [Point(0, 1.0, 98), Point(10_000, 100.0, 2)])],
    "Queue": [Stream({"resourceId": "a"}, [Point(0, 4.0), Point(MINUTE, 0.0)])],
}


def _values(text, *, end=2 * MINUTE, step=MINUTE, start=0, metrics=METRICS):
    def source(selection, from_ms, to_ms):
        return [
            Stream(
                stream.dimensions,
                [point for point in stream.points if from_ms <= point.time_ms < to_ms],
            )
            for stream in metrics.get(selection.metric, ())
        ]

    found = evaluate(parse(text), Windows(start, end, step), source)
    return {
        ",".join(f"{key}={value}" for key, value in sorted(each.dimensions.items())): [
            each.values.get(at) for at in Windows(start, end, step).starts()
        ]
        for each in found
    }


@pytest.mark.parametrize(
    ("statistic", "values"),
    [
        ("mean()", [20.0, 50.0]),
        ("sum()", [40.0, 50.0]),
        ("count()", [2.0, 1.0]),
        ("min()", [10.0, 50.0]),
        ("max()", [30.0, 50.0]),
        ("first()", [10.0, 50.0]),
        ("last()", [30.0, 50.0]),
        ("percentile(0.5)", [10.0, 50.0]),
        ("percentile(0.51)", [30.0, 50.0]),
        ("increment()", [20.0, 20.0]),  # since the last point before, where there is one
        ("rate()", [20 / 30, 20 / 30]),
        ("absent()", [0.0, 0.0]),
    ],
)
def test_statistics(statistic, values):
    found = _values(f'Cpu[1m]{{resourceId = "a", instanceId = "1"}}.{statistic}')
    assert found == {"instanceId=1,resourceId=a": pytest.approx(values)}


def test_a_latency_is_weighed_by_how_often_it_was_seen():
    assert _values("Latency[1m].count()") == {"resourceId=a": [100.0, None]}
    assert _values("Latency[1m].mean()") == {"resourceId=a": [pytest.approx(2.98), None]}
    assert _values("Latency[1m].sum()") == {"resourceId=a": [298.0, None]}
    assert _values("Latency[1m].percentile(0.98)") == {"resourceId=a": [1.0, None]}
    assert _values("Latency[1m].percentile(0.99)") == {"resourceId=a": [100.0, None]}


def test_streams_are_put_together_before_the_statistic():
    by_deployment = _values("Cpu[1m].groupBy(resourceId).max()")
    assert by_deployment == {"resourceId=a": [90.0, 70.0], "resourceId=b": [5.0, None]}
    assert _values("Cpu[1m].grouping().count()") == {"": [4.0, 2.0]}


def test_windows_may_overlap_and_begin_at_multiples_of_the_resolution():
    found = _values('Cpu[2m]{instanceId = "2"}.sum()', start=-90_000)
    assert found == {"instanceId=2,resourceId=a": [90.0, 160.0, 70.0]}


def test_comparisons_are_one_or_zero_and_can_be_counted():
    assert _values("Cpu[1m].mean() > 20")["instanceId=1,resourceId=a"] == [0.0, 1.0]
    assert _values("Cpu[1m].mean() in (20, 50)")["instanceId=1,resourceId=a"] == [1.0, 1.0]
    assert _values("Cpu[1m].mean() not in (20, 49)")["instanceId=1,resourceId=a"] == [0.0, 1.0]
    assert _values("(Cpu[1m].mean() >= 20).groupBy(resourceId).sum()") == {
        "resourceId=a": [2.0, 2.0],
        "resourceId=b": [0.0, None],
    }
    assert _values("(Cpu[1m].mean()).grouping().percentile(1)") == {"": [90.0, 70.0]}


def test_arithmetic_and_what_is_no_number():
    assert _values("Queue[1m].max() * 2 + 1") == {"resourceId=a": [9.0, 1.0]}
    assert _values("8 / Queue[1m].max()") == {"resourceId=a": [2.0, None]}
    assert _values("Queue[1m].max() % 3 - 1") == {"resourceId=a": [0.0, -1.0]}


def test_joins_by_the_dimensions_that_both_have():
    assert _values("Cpu[1m].mean() > 20 && Queue[1m].max() > 0") == {
        "instanceId=1,resourceId=a": [0.0, 0.0],
        "instanceId=2,resourceId=a": [1.0, 0.0],
    }
    assert _values("Cpu[1m].groupBy(resourceId).max() > 80 || Queue[1m].max() > 3") == {
        "resourceId=a": [1.0, 0.0],
        "resourceId=b": [0.0, None],  # a side alone decides
    }
    assert _values("Queue[1m].max() > 100 || Cpu[1m].groupBy(resourceId).max() > 4") == {
        "resourceId=a": [1.0, 1.0],
        "resourceId=b": [1.0, None],
    }
    assert _values("Cpu[1m].groupBy(resourceId).mean() / Cpu[1m].grouping().sum()") == {
        "resourceId=a": [pytest.approx(130 / 3 / 135), pytest.approx(60 / 120)],
        "resourceId=b": [pytest.approx(5 / 135), None],
    }


def test_streams_that_have_nothing_in_common_are_not_joined():
    with pytest.raises(InvalidParameter, match="same groupBy"):
        _values("Cpu[1m].groupBy(instanceId).max() && Queue[1m].max()")


def test_absence():
    one_point = {"M": [Stream({"resourceId": "a"}, [Point(0, 1.0)])]}
    found = _values("M[1m].absent(2m)", end=5 * MINUTE, metrics=one_point)
    assert found == {"resourceId=a": [0.0, 1.0, 1.0, None, None]}
    never = _values('M[1m]{resourceId = "z", x =~ "y*"}.groupBy(resourceId).absent()', metrics={})
    assert never == {"resourceId=z": [1.0, 1.0]}
    assert _values("M[1m].absent() || M[1m].sum() < 2", metrics={}) == {"": [1.0, 1.0]}
    assert _values("M[1m].sum()", metrics={}) == {}


def test_how_far_back_points_are_needed():
    def needed(text):
        (selection,) = selections(parse(text))
        return span(selection, Windows(600_000, 660_000, MINUTE))

    assert needed("M[1m].sum()") == (600_000, 660_000)
    assert needed("M[5m].sum()") == (600_000, 900_000)
    assert needed("M[1m].rate()") == (540_000, 660_000)
    assert needed("M[1m].absent(5m)") == (300_000, 660_000)


def test_too_many_moments_are_refused():
    with pytest.raises(InvalidParameter, match="coarser resolution"):
        _values("Cpu[1m].sum()", end=14 * 24 * 60 * MINUTE, step=10_000)
    many = {"M": [Stream({"resourceId": str(n)}, [Point(0, 1.0)]) for n in range(51)]}
    with pytest.raises(InvalidParameter, match="20000 moments of 51 streams"):
        _values("M[1m].sum()", end=20_000 * MINUTE, metrics=many)
    with pytest.raises(InvalidParameter, match="50001 moments"):
        _values("Cpu[1m].sum()", end=50_001 * MINUTE)


def test_what_a_result_is_called():
    assert name_of(parse("5 < (B[1m].sum() + A[1m].sum()).sum()")) == "B"
