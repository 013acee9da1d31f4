"""Where a sample request comes from, and that none is made up."""

import json

import pytest

from havre_copy.samples import Sample, read_sample

ADS = {"schema": [{"dtype": "float64", "name": "a", "domain": {"values": "Continuous"}}]}


@pytest.mark.parametrize(
    ("files", "body"),
    [
        ({}, None),
        ({"test_input.json": b" [1]\n"}, b" [1]\n"),
        ({"test_input.json": b"[1]", "input_schema.json": {"example": 2}}, b"[1]"),
        ({"test_input.json": b"", "input_schema.json": {"example": 2}}, b"2"),
        ({"input_schema.json": {"examples": [{"x": "ü"}, 3], "example": 2}}, b'{"x": "\\u00fc"}'),
        ({"input_schema.json": {"examples": {"a": {"value": [1]}, "b": {"value": 2}}}}, b"[1]"),
        ({"input_schema.json": {"examples": {"a": {"externalValue": "x"}}, "example": 2}}, b"2"),
        ({"input_schema.json": {"examples": [], "example": None}}, b"null"),
        ({"input_schema.json": {"examples": []}}, None),
        ({"input_schema.json": {"properties": {"x": {"type": "number"}}}}, None),
        ({"input_schema.json": ADS}, None),
        ({"input_schema.json": [{"example": 1}]}, None),
        ({"input_schema.json": b"\xff{"}, None),
        ({"input_schema.json": b"[" * 100_000}, None),
        ({"test_input.json": b"1" * 200_001}, None),
        # As PowerShell's > and Notepad write them.
        ({"test_input.json": '{"x": "ü"}'.encode("utf-16")}, '{"x": "ü"}'.encode()),
        ({"test_input.json": "[1]".encode("utf-8-sig")}, b"[1]"),
        ({"input_schema.json": '{"example": "ü"}'.encode("utf-16")}, b'"\\u00fc"'),
        ({"test_input.json": b"\xff\xfe1"}, b"\xff\xfe1"),
    ],
)
def test_sample(tmp_path, files, body):
    for name, content in files.items():
        written = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / name).write_bytes(written)
    assert read_sample(str(tmp_path), 200_000) == (body and Sample(body))
