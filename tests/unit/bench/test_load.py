"""Plans, schedules, and what records come to."""

import struct

import pytest
from bench.load.plan import Due, Exchange, arrivals, encode, every, http_request, mask_of, merged
from bench.load.records import RECORD, Record, Verdict, outcome, read

MS = 1_000_000


def test_a_request_is_whole_and_says_how_long_it_is() -> None:
    head, _, body = http_request("/predict", b'{"data":[[1]]}').partition(b"\r\n\r\n")
    assert head.startswith(b"POST /predict HTTP/1.1\r\n")
    assert b"Content-Length: 14" in head
    assert body == b'{"data":[[1]]}'


def test_the_mask_leaves_out_what_differs_between_right_answers() -> None:
    assert mask_of([b"id=7 x", b"id=8 x"]) == bytes([255, 255, 255, 0, 255, 255])
    assert mask_of([b"same", b"same"]) == bytes([255] * 4)
    assert mask_of([b"9", b"10"]) is None


def test_a_plan_has_the_layout_that_the_generator_reads() -> None:
    plan = encode([Exchange(b"ask", b"ok", b"\xff\x00")], [Due(0.25, 0)])
    assert plan == (
        struct.pack("<I", 1)
        + struct.pack("<I", 3)
        + b"ask"
        + struct.pack("<I", 2)
        + b"ok\xff\x00"
        + struct.pack("<QQII", 1, 250_000_000, 0, 0)
    )


def test_arrivals_are_the_same_for_every_server_and_come_at_the_rate_asked_for() -> None:
    first = arrivals(150, 100, seed=7)
    assert first == arrivals(150, 100, seed=7)
    assert first != arrivals(150, 100, seed=8)
    assert len(first) == pytest.approx(15_000, rel=0.05)
    assert all(0 < due.at_s < 100 for due in first)


def test_slow_requests_come_once_a_period_among_the_others() -> None:
    slow = every(1.0, 3, exchange=1)
    assert [due.at_s for due in slow] == [0.5, 1.5, 2.5]
    mixed = merged(arrivals(10, 3, seed=1), slow)
    assert [due.at_s for due in mixed] == sorted(due.at_s for due in mixed)
    assert sum(due.exchange for due in mixed) == 3


def record(due: int, done: int, verdict: Verdict, *, status: int = 200, late: int = 0) -> Record:
    return Record(due * MS, (due + late) * MS, done * MS, 0, status, verdict)


def test_time_counts_from_when_a_request_was_due_not_from_when_it_was_sent() -> None:
    came_to = outcome([record(0, 30, Verdict.CORRECT, late=20)])
    assert (came_to.p50_ms, came_to.late_p99_ms) == (30, 20)


def test_every_request_is_counted_once_as_what_it_was() -> None:
    records = [
        record(0, 10, Verdict.CORRECT),
        record(0, 20, Verdict.CORRECT),
        record(0, 1, Verdict.STATUS, status=429),
        record(0, 3, Verdict.STATUS, status=503),
        record(0, 5, Verdict.STATUS, status=500),
        record(0, 5, Verdict.WRONG),
        record(0, 5, Verdict.BROKEN, status=0),
        record(0, 500, Verdict.UNANSWERED, status=0),
    ]
    came_to = outcome(records)
    assert (came_to.correct, came_to.refused, came_to.wrong, came_to.failed) == (2, 2, 1, 3)
    assert came_to.answered == len(records)
    assert came_to.per_second == pytest.approx(2 / 0.5)
    assert (came_to.p50_ms, came_to.most_ms, came_to.refused_p99_ms) == (10, 20, 3)


def test_nothing_recorded_is_no_error() -> None:
    assert outcome([]).per_second == 0


def test_records_are_read_as_the_generator_writes_them(tmp_path) -> None:
    file = tmp_path / "records"
    file.write_bytes(RECORD.pack(1, 2, 3, 4, 429, 1) + RECORD.pack(5, 6, 7, 8, 0, 3))
    assert RECORD.size == 32
    assert read(file) == [
        Record(1, 2, 3, 4, 429, Verdict.STATUS),
        Record(5, 6, 7, 8, 0, Verdict.BROKEN),
    ]
