"""What is told of a captured request: the share, redaction, bounds, and how copies learn of it."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from havre_copy import capture, slots
from havre_copy.capture import (
    MAX_BODY_BYTES,
    REDACTED,
    CaptureControl,
    CaptureWriter,
    body_fields,
    redacted,
)

NAMES = frozenset({"name", "email"})


def request(body: bytes = b"{}", **changed: Any) -> SimpleNamespace:
    stated = {"id": b"R1", "body": body, "content_type": b"application/json", "stream": False}
    return SimpleNamespace(predict_ns=1_234_567, **{**stated, **changed})


class Pair:
    """A keeper's side and the side of one copy."""

    def __init__(self, folder: Path) -> None:
        self.table = slots.SlotTable(2)
        self.keeper = CaptureControl(self.table)
        self.path = folder / "copy-0.1764100000000.captured"
        self.copy = CaptureWriter(str(self.path), self.keeper.memory)

    def add(self, body: bytes = b"{}", answer: bytes | None = b"1", status: int = 200) -> None:
        version = self.table.slots[0].words[slots.RETAIN_FLAGS] >> 1
        if version:
            self.copy.add(version, request(body), status, b"application/json", answer)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines() if line]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ({"name": "x", "age": 1}, {"name": REDACTED, "age": 1}),
        ([{"a": [{"email": {"deep": 1}}]}], [{"a": [{"email": REDACTED}]}]),
        ({"Name": "x", "names": ["name"]}, {"Name": "x", "names": ["name"]}),
        ("name", "name"),
        ({"data": '{"name": {"0": "x"}}'}, {"data": '{"name": "[redacted]"}'}),
        ({"data": ' [{"b": "{\\"email\\": 7}"}]'}, None),
        ({"data": "{not json"}, {"data": "{not json"}),
        (7, 7),
    ],
)
def test_named_fields_are_blotted_out_at_any_depth(value: Any, left: Any) -> None:
    found = redacted(value, NAMES)
    if left is None:
        inner = json.loads(json.loads(found["data"])[0]["b"])
        assert inner == {"email": REDACTED}
    else:
        assert found == left


@pytest.mark.parametrize(
    "body",
    [
        b"name=secret",
        b'{"name": "secret"',
        b"\x93NUMPY secret",
        b"[" * 50_000 + b'"secret"' + b"]" * 50_000,
        b'{"n\\u0061me": "secret"}',
        '{"name": "secret"}'.encode("utf-16"),
        b'{"name": 1, "name": "secret"}',
        b'"{\\"name\\": \\"secret\\"}"',
    ],
)
def test_no_way_of_writing_a_field_brings_it_out(body: bytes) -> None:
    fields = body_fields(body, NAMES)
    assert fields["bytes"] == len(body)
    assert "secret" not in json.dumps(fields)
    assert "base64" not in fields


def test_a_body_is_captured_whole_or_by_its_length() -> None:
    assert body_fields("ä".encode(), frozenset()) == {"bytes": 2, "text": "ä"}
    assert body_fields(b"\xff", frozenset()) == {"bytes": 1, "base64": "/w=="}
    assert body_fields(b"x" * (MAX_BODY_BYTES + 1), frozenset()) == {"bytes": MAX_BODY_BYTES + 1}
    many = json.dumps([{"name": 1}] * 6000).encode()
    assert len(many) < MAX_BODY_BYTES * 2
    grown = json.dumps([{"name": 1}] * 4000).encode()
    assert len(grown) <= MAX_BODY_BYTES
    assert body_fields(grown, NAMES) == {"bytes": len(grown)}, "redacted it would be too long"


def test_copies_follow_each_change_of_the_policy(pair: Pair) -> None:
    pair.add(b'"before"')
    assert not pair.path.exists()
    pair.keeper.set(100, [])
    assert [slot.words[slots.RETAIN_FLAGS] >> 1 for slot in pair.table.slots] == [1, 1]
    pair.add(b'{"name": "Ada"}')
    pair.keeper.set(100, ["name"])
    pair.add(b'{"name": "Bob"}', b'{"name": "Bob", "p": 1}')
    pair.add(b'{"name": "Eve"}', b'{"message": "KeyError: Eve"}', status=500)
    pair.add(b"[]", None)
    pair.keeper.set(0, [])
    pair.add(b'"after"')
    first, second, third, stream = pair.lines()
    assert first["request"] == {"bytes": 15, "text": '{"name": "Ada"}'}
    assert (first["request_id"], first["status"], first["model_us"], first["lost_before"]) == (
        "R1",
        200,
        1234,
        0,
    )
    assert json.loads(second["response"]["text"]) == {"name": REDACTED, "p": 1}
    assert third["response"] == {"bytes": 28}, "who knows what an error repeats"
    assert "response" not in stream
    assert os.stat(pair.path).st_mode & 0o777 == 0o600


def test_other_requests_in_memory_are_kept_whatever_is_captured(pair: Pair) -> None:
    words = pair.table.slots[1].words
    words[slots.RETAIN_FLAGS] = slots.RECORD_BIT
    pair.keeper.set(5, ["name"])
    assert words[slots.RETAIN_FLAGS] & slots.RECORD_BIT
    pair.keeper.set(0, [])
    assert words[slots.RETAIN_FLAGS] == slots.RECORD_BIT


def test_the_share_is_kept(pair: Pair) -> None:
    pair.keeper.set(10, [])
    for _ in range(5000):
        pair.add()
    assert 350 < len(pair.lines()) < 650  # seven standard deviations


def test_half_a_change_captures_nothing(pair: Pair) -> None:
    pair.keeper.set(100, ["name"])
    pair.keeper.memory[30] ^= 1
    pair.add()
    assert not pair.path.exists()


def test_what_waits_for_its_answer_is_written_later(pair: Pair) -> None:
    pair.keeper.set(100, [])
    pair.copy.hold()
    pair.add(b"1")
    assert not pair.path.exists()
    pair.copy.release()
    assert [line["request"]["text"] for line in pair.lines()] == ["1"]


def test_what_cannot_be_written_is_counted(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.keeper.set(100, [])
    pair.add(b"1")
    monkeypatch.setattr(capture, "MAX_UNCOLLECTED_BYTES", 0)
    pair.add(b"2")
    monkeypatch.undo()
    write = os.write
    monkeypatch.setattr(capture.os, "write", lambda file, data: write(file, data[:9]))
    pair.add(b"3")
    monkeypatch.undo()
    pair.add(b"4")
    kept = [line for line in pair.path.read_bytes().splitlines() if line.endswith(b"}")]
    lines = [json.loads(line) for line in kept]
    assert [(line["request"]["text"], line["lost_before"]) for line in lines] == [
        ("1", 0),
        ("4", 2),
    ]


def test_a_copy_without_a_place_serves_on(tmp_path: Path) -> None:
    pair = Pair(tmp_path / "is" / "not")
    pair.keeper.set(100, [])
    pair.add()
    assert not pair.path.exists()


@pytest.mark.parametrize(
    ("percent", "redact"),
    [
        (-1, []), (101, []), ("5", []), (None, []), (True, []),
        (5, "name"), (5, [7]), (5, ["x" * 5000]),
    ],
)  # fmt: skip
def test_what_is_no_way_to_capture_is_refused(pair: Pair, percent: Any, redact: Any) -> None:
    pair.keeper.set(50, ["a"])
    with pytest.raises(ValueError, match=r"percent|redact"):
        pair.keeper.set(percent, redact)
    assert (pair.keeper.percent, pair.keeper.redact) == (50, ["a"])
