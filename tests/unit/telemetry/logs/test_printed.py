import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from havre.telemetry.logs.printed import MAX_LINE_BYTES, MAX_TRACEBACK_BYTES, Printed, read

NOW = 1_764_100_000_000
RAISED = """Traceback (most recent call last):
  File "score.py", line 3, in predict
    raise ValueError(1)
ValueError: 1

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "score.py", line 5, in predict
    raise KeyError("k")
KeyError: 'k'
"""
CRASH = """Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "score.py", line 3 in predict

Extension modules: numpy (total: 1)
"""


class File:
    """What a copy writes, mark for mark."""

    def __init__(self) -> None:
        self.data = b""

    def prints(self, text: str) -> int:
        begins = len(self.data)
        self.data += text.encode()
        return begins

    def request(self, text: str, *names: str, ended: int = NOW - 1000, **more: int) -> None:
        begins = self.prints(text)
        self.mark(names, begins, len(self.data), ended=ended, **more)

    def mark(self, names: tuple[str, ...], begins: int, ends: int, *, ended: int, **more: int):
        told = {"requests": names, "from": begins, "to": ends, "began": ended - 5, "ended": ended}
        self.data += b"\x1e" + json.dumps({**told, **more}).encode() + b"\n"

    def read(self, settled_until: int = 0, at: int = 0) -> tuple[list[Printed], int]:
        return read(self.data[at:], at, settled_until=settled_until, now_ms=NOW)


def told(entries: list[Printed]) -> list[tuple[str, tuple[str, ...]]]:
    return [(entry.message, entry.requests) for entry in entries]


def test_lines_are_of_the_request_whose_mark_covers_them():
    file = File()
    file.prints("a thread's\n")
    file.request("one\ntwo\n", "R1")
    file.request("both\n", "R2", "R3", ended=NOW - 10)
    file.prints("perhaps of one that goes on\n")
    entries, end = file.read()
    assert told(entries) == [
        ("a thread's", ()),
        ("one", ("R1",)),
        ("two", ("R1",)),
        ("both", ("R2", "R3")),
    ]
    assert [entry.time_ms - NOW for entry in entries] == [-1005, -1000, -1000, -10]
    assert file.data[end:] == b"perhaps of one that goes on\n"
    entries, end = file.read(settled_until=len(file.data), at=end)
    assert told(entries) == [("perhaps of one that goes on", ())]
    assert end == len(file.data)


def test_a_mark_in_mid_line_ends_the_line_and_a_later_one_goes_on():
    file = File()
    begins = file.prints("it be")
    file.mark(("LONG",), begins, begins + 5, ended=NOW - 900)
    file.prints("gins\n")
    file.mark(("LONG",), begins, len(file.data), ended=NOW - 300)
    entries, end = file.read()
    assert told(entries) == [("it be", ("LONG",)), ("gins", ("LONG",))]
    assert end == len(file.data)


def test_a_line_without_its_end_is_waited_for():
    file = File()
    file.prints("half a")
    assert file.read(settled_until=5) == ([], 0)
    file.prints(" line\n")
    assert file.read(settled_until=6) == ([], 0)
    assert told(file.read(settled_until=12)[0]) == [("half a line", ())]


@pytest.mark.parametrize("text", [RAISED, CRASH], ids=["chained", "crash"])
def test_a_traceback_is_one_entry(text: str):
    file = File()
    file.request("before\n" + text + "after\n", "R1")
    entries, _ = file.read()
    assert [entry.message for entry in entries] == ["before", text.rstrip(), "after"]
    assert entries[1].lines == text.count("\n")


def test_our_own_line_goes_with_its_traceback_and_says_when_and_whose():
    file = File()
    own = "2025-11-25T19:46:39.500Z [copy 1] request R9: predict() raised KeyError: 'k'\n"
    file.prints("printed before\n" + own + RAISED)
    entries, _ = file.read(settled_until=len(file.data))
    assert told(entries) == [("printed before", ()), ((own + RAISED).rstrip(), ("R9",))]
    assert [entry.time_ms for entry in entries] == [NOW - 500, NOW - 500]


def test_two_tracebacks_of_different_requests_are_two():
    file = File()
    file.request(RAISED, "R1")
    file.request(RAISED, "R2")
    assert [entry.requests for entry in file.read()[0]] == [("R1",), ("R2",)]


def test_what_is_endless_comes_in_pieces():
    file = File()
    file.request("x" * (MAX_LINE_BYTES * 2 + 5) + "\n", "R1")
    file.request("Traceback (most recent call last):\n" + "  deep\n" * 20_000, "R1")
    entries, end = file.read()
    assert end == len(file.data)
    assert [len(entry.message) for entry in entries[:3]] == [MAX_LINE_BYTES, MAX_LINE_BYTES, 5]
    assert max(entry.end - entry.at for entry in entries) <= MAX_TRACEBACK_BYTES
    assert sum(entry.lines for entry in entries) == 3 + 20_001


def test_lost_output_is_told():
    file = File()
    file.request("a\n", "R1", lost=1234)
    assert told(file.read()[0])[1] == (
        "1234 bytes printed by then were lost: the disk was full",
        (),
    )


FAKES = [
    {"requests": "R", "from": 0, "to": 5, "began": 1, "ended": 2},
    {"requests": ["R"], "from": -1, "to": 5, "began": 1, "ended": 2},
    {"requests": ["R"], "from": 0, "to": 1 << 70, "began": 1, "ended": 2},
    {"requests": ["R"], "from": 0, "to": 5.5, "began": True, "ended": 2},
    {"requests": [{"a": 1}], "from": 0, "to": 5, "began": 1, "ended": 9**15},
    {"requests": ["R" * 9999] * 500, "from": 99, "to": 5, "began": 1, "ended": 2, "lost": -1},
    [],
]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([b"\n", b"\x1e", b"\x1e{", b"}\n", RAISED.encode(), b"\x1e{}\n"]),
            st.sampled_from([b"\x1e" + json.dumps(fake).encode() + b"\n" for fake in FAKES]),
        ),
        max_size=30,
    ),
    st.integers(0, 3000),
)
def test_anything_may_lie_there(parts: list[bytes], settled_until: int):
    data = b"".join(parts)
    at = 100
    entries, end = read(data, at, settled_until=at + settled_until, now_ms=NOW)
    assert at <= end <= at + len(data)
    here = at
    for entry in entries:
        assert here <= entry.at < entry.end <= end
        here = entry.end
        assert 0 < entry.time_ms <= NOW
        assert len(entry.requests) <= 64
        assert all(len(request) <= 200 for request in entry.requests)
        assert len(entry.message) <= 4 * MAX_TRACEBACK_BYTES
    # Whoever waits long enough comes to the end, and what was read in two parts is read once.
    rest, last = read(data[end - at :], end, settled_until=at + len(data), now_ms=NOW)
    assert last == at + len(data)
    assert len({entry.at for entry in entries + rest}) == len(entries + rest)
