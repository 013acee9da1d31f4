import json

from havre.telemetry.logs.captured import read

NOW = 1764100000000
LINE = {
    "time": NOW - 5, "request_id": "R1", "status": 200, "model_us": 12,
    "is_stream": False, "lost_before": 0,
    "request_type": "application/json", "response_type": "application/json",
    "request": {"bytes": 2, "text": "{}"}, "response": {"bytes": 1, "base64": "/w=="},
}  # fmt: skip


def lines(*changed: dict) -> bytes:
    return b"".join(json.dumps({**LINE, **each}).encode() + b"\n" for each in changed)


def test_a_line_is_a_request() -> None:
    data = lines({}, {"request_id": "R2", "response": None})
    found, end = read(data, 100, settled_until=0, now_ms=NOW)
    assert end == 100 + len(data)
    assert [each.at for each in found] == [100, 100 + data.index(b"\n") + 1]
    assert {each.time_ms for each in found} == {NOW - 5}
    assert found[0].fields["request"] == "{}"
    assert found[0].fields["response_base64"] == "/w=="
    assert "response_bytes" not in found[1].fields


def test_a_line_that_has_not_ended_is_waited_for() -> None:
    whole = lines({})
    found, end = read(whole + whole[:40], 0, settled_until=10**9, now_ms=NOW)
    assert (len(found), end) == (1, len(whole))
    assert read(whole[:40], 0, settled_until=39, now_ms=NOW) == ([], 0)
    assert read(whole[:40], 0, settled_until=40, now_ms=NOW) == ([], 40), "it never will"


def test_what_is_no_line_of_a_copys_is_left_out() -> None:
    wrong = [
        {"time": "now"}, {"status": 1 << 20}, {"model_us": -1}, {"model_us": True},
        {"request_id": 7}, {"lost_before": 1 << 40}, {"request": []},
        {"request": {"bytes": 1, "text": 7}}, {"response": {"base64": "§"}}, {"request_type": None},
    ]  # fmt: skip
    data = b"\n{}\n[]\nnull\n" + b"[" * 9999 + b"\n" + b"{\xff}\n" + lines(*wrong) + lines({})
    found, end = read(data, 0, settled_until=0, now_ms=NOW)
    assert end == len(data)
    assert len(found) == 1


def test_what_is_told_is_bounded_and_text() -> None:
    [entry], _ = read(
        lines({
            "request_id": "x" * 9999, "request": {"bytes": 1, "text": "\ud800" * 10**6}, "time": 1,
        }),
        0, settled_until=0, now_ms=NOW,
    )  # fmt: skip
    assert len(entry.fields["request_id"]) == 200
    assert entry.fields["request"] == "?" * 256 * 1024
    assert entry.time_ms == NOW, "a time that is not believed"
