import pytest

from havre.domain.rollout.policy import Replay
from havre.domain.rollout.replay import Response, compare


def answer(body: bytes, status: int = 200, took_s: float = 0.01) -> Response:
    return Response(status, body, took_s)


@pytest.mark.parametrize(
    ("old", "new", "equal"),
    [
        (answer(b'{"a": 1, "b": [2.50]}'), answer(b'{"b":[2.5],"a":1}'), True),
        (answer(b'{"a": 1}'), answer(b'{"a": 2}'), False),
        (answer(b"[1, 2]"), answer(b"[2, 1]"), False),
        (answer(b"\xff\x00"), answer(b"\xff\x00"), True),
        (answer(b"not json"), answer(b"no json"), False),
        (answer(b"[NaN]"), answer(b"[NaN]"), True),
        (answer(b"{}"), answer(b"{}", status=500), False),
        (answer(b"{}", status=500), answer(b"{}", status=500), True),
        (answer(b""), answer(b"", status=0), False),
        (answer(b"[0.1, NaN]"), answer(b"[0.10000000000000002, NaN]"), True),
        (answer(b"[0.1]"), answer(b"[0.1000001]"), False),
        (answer(b"[1e300]"), answer(b"[1.0000000001e300]"), True),
        (answer(b"[1]"), answer(b"[1.0]"), True),
        (answer(b"[1]"), answer(b"[true]"), False),
        (answer(b"[10000000000]"), answer(b"[10000000001]"), False),
        (answer(b"[%d]" % 10**400), answer(b"[1.5]"), False),
        (answer(b'{"a": 1.5}'), answer(b'{"a": "1.5"}'), False),
        (answer(b'{"a": 1}'), answer(b'{"a": 1, "b": null}'), False),
        (answer(b"[[1.5], []]"), answer(b"[[1.5000000001], []]"), True),
        (answer(b"[" * 100_000), answer(b"[" * 99_999), False),
    ],
)
def test_json_is_compared_as_values_and_all_else_as_bytes(old, new, equal):
    assert compare([old], [new]).equal == equal


def test_the_figures_are_told():
    old = [answer(b"1", took_s=took_s) for took_s in (0.001, 0.002, 9.0)]
    new = [answer(body, took_s=0.02) for body in (b"1", b"2", b"3")]
    assert str(compare(old, new)) == (
        "1 of 3 responses are equal, 2 differ (the first is request 2); median 20 ms, was 2.00 ms"
    )


@pytest.mark.parametrize(
    ("limits", "stopped"),
    [
        ({}, False),
        ({"equal": 0.5}, False),
        ({"equal": 0.51}, True),
        ({"slowdown": 2.0}, False),
        ({"slowdown": 1.9}, True),
    ],
)
def test_limits_stop_when_they_are_exceeded(limits, stopped):
    old = [answer(b"1"), answer(b"1")]
    new = [answer(b"1", took_s=0.0199), answer(b"2", took_s=0.0199)]
    reason = compare(old, new).violated_limit(Replay(2, **limits))
    assert bool(reason) is stopped
    if stopped:
        assert str(compare(old, new)) in reason


def test_the_tolerance_is_settable():
    old, new = [answer(b"[0.1]")], [answer(b"[0.1000001]")]
    assert compare(old, new, tolerance=1e-5).equal == 1
    assert compare([answer(b"[0.1]")], [answer(b"[0.10000000000000002]")], tolerance=0).equal == 0


def test_a_request_that_hangs_stops_the_rollout_whatever_the_limits():
    old = [answer(b"1") for _ in range(7)]
    new = [*old[:6], answer(b"", status=0, took_s=0.0)]
    comparison = compare(old, new)
    assert comparison.new_median_s == 0.01  # of those that were answered
    assert "1 of them got no response" in comparison.violated_limit(Replay(7))
    assert compare(new, new).violated_limit(Replay(7)) == ""  # the old one did no better
