import pytest

from havre.domain.policy import Replay
from havre.domain.replay import Answer, compare


def answer(body: bytes, status: int = 200, took_s: float = 0.01) -> Answer:
    return Answer(status, body, took_s)


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
    ],
)
def test_json_is_compared_as_values_and_all_else_as_bytes(old, new, equal):
    assert compare([old], [new]).equal == equal


def test_the_figures_are_told():
    old = [answer(b"1", took_s=took_s) for took_s in (0.001, 0.002, 9.0)]
    new = [answer(body, took_s=0.02) for body in (b"1", b"2", b"3")]
    assert str(compare(old, new)) == (
        "1 of 3 answers are equal, 2 differ (the first is request 2); median 20 ms, was 2.00 ms"
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
    reason = compare(old, new).exceeded(Replay(2, **limits))
    assert bool(reason) is stopped
    if stopped:
        assert str(compare(old, new)) in reason
