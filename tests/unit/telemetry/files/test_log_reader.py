"""Entries are found in live files, closed ones and segments, each once."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from havre.domain.logs import Category
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.telemetry.counters import Counters
from havre.telemetry.files import layout
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.duck import connect
from havre.telemetry.files.layout import Segment
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.files.query import QueryTooLong, Rows
from havre.telemetry.files.schema import select_json

DEPLOYMENT = new_ocid(Kind.DEPLOYMENT)
LONG_AGO, FAR_AHEAD = 0, 2**53


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    return home


def line(number: int, **more: Any) -> dict[str, Any]:
    """As Envoy writes them."""
    return {
        "id": f"id-{number}",
        "time": f"2026-11-25T10:00:{number:02d}.500Z",
        "deployment": DEPLOYMENT,
        "request": f"request-{number}",
        "method": "POST",
        "path": f"/{DEPLOYMENT}/predict",
        "protocol": "HTTP/1.1",
        "status": 200,
        "flags": "-",
        "total_ms": 12,
        "copy_us": 9500,
        "bytes_in": 50,
        "bytes_out": 70,
        "copy": "8b1f0c7a55d2/1/abc123/9100",
        **more,
    }


def test_an_entry_says_what_the_load_balancer_wrote(home: Home) -> None:
    home.access_log.write_text(json.dumps(line(1)) + '\n{"id":"torn","ti')
    answer = LogReader(home).query(
        "SELECT * FROM entries",
        category=Category.ACCESS,
        deployments=[DEPLOYMENT],
        time_from_ms=LONG_AGO,
        time_to_ms=FAR_AHEAD,
    )
    assert [dict(zip(answer.columns, row, strict=True)) for row in answer.rows] == [
        {
            "category": "access",
            "deployment": DEPLOYMENT,
            "id": "id-1",
            "time": 1795600801500,
            "position": None,
            "ingested": 1795600801512,
            "message": "POST /predict 1.1",
            "request": "request-1",
            "instance": "8b1f0c7a55d2",
            "copy": 1,
            "revision": "abc123",
            "method": "POST",
            "path": f"/{DEPLOYMENT}/predict",
            "protocol": "HTTP/1.1",
            "status": 200,
            "flags": None,
            "total_ms": 12.0,
            "copy_ms": 9.5,
            "model_ms": 9.1,
            "bytes_in": 50,
            "bytes_out": 70,
            "held_ms": None,
        }
    ]


def test_segments_of_an_earlier_version_are_read_beside_new_ones(home: Home) -> None:
    place = layout.segments_folder(home, Category.ACCESS, DEPLOYMENT)
    place.mkdir(parents=True)
    began = 1795600801500
    for number, leave_out in ((1, "EXCLUDE (held_ms)"), (2, "")):
        source = write(home.telemetry / "source.jsonl", line(number, held_ms=40 * number))
        content = select_json(Category.ACCESS, [source])
        name = Segment.name(from_ms=began, to_ms=began + 9000, first=number, last=number)
        connect().execute(
            f"COPY (SELECT * {leave_out} FROM ({content})) TO '{place / name}' (FORMAT parquet)"
        )
    for deployments in (None, [DEPLOYMENT]):
        found = ask(home, "SELECT held_ms FROM entries ORDER BY id", deployments=deployments)
        assert found == [None, 80.0]
    oldest = sorted(place.iterdir())[0]
    for other in set(place.iterdir()) - {oldest}:
        other.unlink()
    assert ask(home, "SELECT held_ms FROM entries", deployments=None) == [None]


def ask(home: Home, sql: str, *, deployments: list[str] | None, **more: Any) -> list[Any]:
    answer = LogReader(home).query(
        sql,
        category=more.pop("category", Category.ACCESS),
        deployments=deployments,
        **{"time_from_ms": LONG_AGO, "time_to_ms": FAR_AHEAD, **more},
    )
    return [row[0] for row in answer.rows]


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


def closed(home: Home, number: int, *lines: dict[str, Any]) -> Path:
    return write(home.telemetry / "access" / layout.closed_name(number), *lines)


def test_nothing_is_there_at_first(home: Home) -> None:
    assert ask(home, "SELECT id FROM entries", deployments=None) == []
    assert ask(home, "SELECT count(*) FROM entries", deployments=[]) == [0]
    for deployments in (None, [DEPLOYMENT]):
        found = ask(
            home, "SELECT id FROM entries", deployments=deployments, category=Category.PREDICT
        )
        assert found == []


def test_entries_are_found_wherever_they_are_and_only_those_asked_for(home: Home) -> None:
    other = new_ocid(Kind.DEPLOYMENT)
    converter = Converter(home, Counters())
    lost = {**line(4), "path": f"/{DEPLOYMENT}/predict", "status": 404}
    del lost["deployment"]
    converter.convert(Category.ACCESS, closed(home, 1, line(1), line(2, deployment=other), lost), 1)
    closed(home, 2, line(3))
    write(home.access_log, line(5), line(6, deployment=other))
    by_id = "SELECT id FROM entries ORDER BY id"
    assert ask(home, by_id, deployments=None) == [f"id-{each}" for each in range(1, 7)]
    assert ask(home, by_id, deployments=[DEPLOYMENT]) == ["id-1", "id-3", "id-4", "id-5"]
    assert ask(home, by_id, deployments=[other]) == ["id-2", "id-6"]
    assert ask(
        home, by_id, deployments=None, time_from_ms=1795600802500, time_to_ms=1795600804500
    ) == ["id-2", "id-3", "id-4"]


def test_a_predict_log_is_read_from_its_own_files(home: Home) -> None:
    def said(number: int, message: str) -> dict[str, Any]:
        return {"deployment": DEPLOYMENT, "id": f"p{number}", "time": number, "message": message}

    live = layout.live_file(home, Category.PREDICT, DEPLOYMENT)
    one = write(live.with_name(layout.closed_name(1)), said(1, "it's"), said(2, "line\nbreak"))
    Converter(home, Counters()).convert(Category.PREDICT, one, 1)
    write(live.with_name(layout.closed_name(2)), said(3, ""))
    write(live, said(4, "now"))
    messages = "SELECT message FROM entries ORDER BY time"
    assert ask(home, messages, deployments=[DEPLOYMENT], category=Category.PREDICT) == [
        "it's",
        "line\nbreak",
        "",
        "now",
    ]
    assert ask(home, messages, deployments=[DEPLOYMENT]) == []


def test_lines_that_are_not_whole_are_no_entries(home: Home) -> None:
    write(home.access_log, line(1))
    with home.access_log.open("ab") as file:
        file.write(b'{"id":"torn","ti{"id":"x","time":"2026-11-25T10:00:00.000Z"}\n\0\0\n[1]\n\n')
        file.write(b'{"id":"no time"}\n{"id":"y","time":"yesterday"}\n\xff\xfe\n')
        file.write(json.dumps(line(2, status="many")).encode() + b"\n{")
    assert ask(home, "SELECT id FROM entries ORDER BY id", deployments=None) == ["id-1", "id-2"]


def test_rows_and_time_are_bounded(home: Home) -> None:
    write(home.access_log, *(line(each) for each in range(10)))
    store = LogReader(home)

    def query(sql: str, **bounds: Any) -> Rows:
        return store.query(
            sql,
            category=Category.ACCESS,
            deployments=None,
            time_from_ms=LONG_AGO,
            time_to_ms=FAR_AHEAD,
            **bounds,
        )

    few = query("SELECT id FROM entries ORDER BY id", limit=9)
    assert (len(few.rows), few.is_cut) == (9, True)
    assert query("SELECT id FROM entries", limit=10).is_cut is False
    with pytest.raises(QueryTooLong, match="ask for less"):
        query("SELECT count(*) FROM range(1000000000000)", time_limit_s=0.05)
    assert query("SELECT count(*) FROM entries WHERE id = ?", parameters=["id-3"]).rows == [(1,)]
    store.close()


def test_a_segment_counts_only_while_its_entries_are_nowhere_else() -> None:
    def segment(first: int, last: int) -> Segment:
        return Segment(0, 1, first, last, Path(f"{first}-{last}"))

    apart = [segment(1, 1), segment(2, 2), segment(3, 3)]
    merged = segment(1, 2)
    assert layout.current_segments(apart, []) == apart
    assert layout.current_segments([*apart, merged], []) == [segment(3, 3), merged]
    assert layout.current_segments([*apart, merged, segment(1, 3)], []) == [segment(1, 3)]
    assert layout.current_segments(apart, [2]) == [segment(1, 1), segment(3, 3)]
    assert layout.current_segments([*apart, merged], [2]) == [segment(3, 3)]


def test_observers_see_a_closed_file_before_it_goes(home: Home) -> None:
    seen: list[tuple[Any, ...]] = []

    class Counting:
        def observe(self, connection: Any, **about: Any) -> None:
            found = connection.execute("SELECT count(*), sum(bytes_in) FROM batch").fetchall()
            seen.append((*found, about))

    converter = Converter(home, Counters(), [Counting()])
    converter.convert(Category.ACCESS, closed(home, 7, line(1), line(2)), 7)
    assert seen == [((2, 100), {"category": "access", "number": 7})]


def test_segments_of_an_earlier_version_are_read_beside_newer_ones(home: Home) -> None:
    """Those had no positions."""
    folder = layout.segments_folder(home, Category.PREDICT, DEPLOYMENT)
    folder.mkdir(parents=True)
    made = duckdb.connect()
    for number, position in ((1, ""), (2, ", 7000::BIGINT AS position")):
        name = Segment.name(from_ms=5, to_ms=7, first=number, last=number)
        made.execute(
            f"COPY (SELECT 'predict' AS category, '{DEPLOYMENT}' AS deployment, 'id-{number}' "
            f"AS id, 7::BIGINT AS time, 7::BIGINT AS ingested, 'm' AS message, NULL::VARCHAR AS "
            f"request{position}) TO '{folder / name}' (FORMAT parquet)"
        )
        found = LogReader(home).query(
            "SELECT id, position, message, status FROM entries ORDER BY id",
            category=Category.PREDICT,
            deployments=[DEPLOYMENT],
            time_from_ms=LONG_AGO,
            time_to_ms=FAR_AHEAD,
        )
        told = [("id-1", None, "m", None), ("id-2", 7000, "m", None)]
        assert found.rows == told[:number]
