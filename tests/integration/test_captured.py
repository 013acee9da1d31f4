"""Captured requests: a real keeper writes them, and they are collected, kept and read."""

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.support.copy_instance import Instance, wait_until

from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.telemetry.counters import Counter, Counters
from havre.telemetry.files import layout
from havre.telemetry.files.compaction import Compaction
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.layout import CAPTURE
from havre.telemetry.logs.captures import Captures
from havre.telemetry.logs.instance_collector import InstanceCollector

INSTANCE = "8b1f0c7a55d2"
NAME = "copy-0.1764100000000.captured"
SCORE = """
def predict(data):
    if isinstance(data, dict) and data.get("stream"):
        return iter(["a", "b"])
    if isinstance(data, dict) and "fail" in data:
        raise ValueError("cannot use " + data["name"])
    return len(data) if isinstance(data, str) else data
"""


class Place:
    """A home with one instance of one deployment, and a collector that looks when it is told."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.make()
        self.home.instance_logs.mkdir()
        self.home.telemetry.mkdir(exist_ok=True)
        self.deployment = new_ocid(Kind.DEPLOYMENT)
        self.output = self.home.instances / INSTANCE / "output"
        self.output.mkdir(parents=True)
        about = {"deployment": self.deployment, "revision": "r7", "begins": 0}
        (self.home.instance_logs / f"{INSTANCE}.json").write_text(json.dumps(about))
        (self.home.instance_logs / f"{INSTANCE}.log").touch()
        self.counters = Counters()
        self.captures = Captures(self.home)
        self.begin()

    @property
    def folder(self) -> Path:
        return layout.segments_folder(self.home, CAPTURE, self.deployment)

    def begin(self, **changed: Any) -> None:
        stated = {"lines_per_second": 1000, "retention_days": 30, "max_bytes": 10**9}
        self.converter = Converter(self.home, self.counters)
        self.collector = InstanceCollector(
            self.home, self.converter, self.counters, interval_s=0.0, **{**stated, **changed}
        )

    def look(self) -> None:
        self.collector.collect(int(time.time() * 1000))

    def rows(self, most: int = 10_000) -> list[dict[str, Any]]:
        return self.captures.last(self.deployment, from_ms=0, to_ms=2**53, limit=most)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr("havre.telemetry.logs.tailer.HOLD_S", 0.0)
    # A look goes to the end of a file, however long that takes.
    monkeypatch.setattr("havre.telemetry.logs.instance_collector.BUDGET_S", 600.0)
    place = Place(tmp_path / "h")
    yield place
    place.captures.close()


def line(number: int, body: str = "{}", **changed: Any) -> bytes:
    told = {
        "time": int(time.time() * 1000), "request_id": f"R{number}", "status": 200, "model_us": 10,
        "is_stream": False, "lost_before": 0,
        "request_type": "application/json", "response_type": "application/json",
        "request": {"bytes": len(body), "text": body}, "response": {"bytes": 1, "text": "1"},
    }  # fmt: skip
    return json.dumps({**told, **changed}).encode() + b"\n"


def ask(
    instance: Instance, identity: str, body: Any, *, kind: str = "application/json", **more: str
) -> None:
    instance.post(body, headers={"opc-request-id": identity, "content-type": kind}, **more)


def files(instance: Instance) -> list[Path]:
    return sorted((instance.folder / "output").glob("*.captured"))


def written(instance: Instance, count: int) -> list[dict[str, Any]]:
    """A copy writes when it has answered: a moment later."""

    def look() -> list[dict[str, Any]] | None:
        found = [
            json.loads(line)
            for path in files(instance)
            for line in path.read_bytes().split(b"\n")[:-1]  # the last may be half there
        ]
        return found if len(found) == count else None

    return wait_until(look)


def test_a_keepers_copies_capture_what_they_are_told_to_and_it_is_collected(
    launch: Any, place: Place
) -> None:
    instance = launch(SCORE, copies=1, output="output").ready()
    assert instance.ask("status")["capturing"] == {"percent": 0, "redact": []}
    instance.post({"name": "Zoe"})
    # It has its answer; whether it is captured is looked up after that.
    wait_until(lambda: instance.ask("status")["busy"] == 0)
    assert not files(instance), "off by default"
    assert "error" in instance.ask("capture", percent=101)
    assert instance.ask("capture", percent=100)["capturing"]["percent"] == 100
    ask(instance, "plain", {"name": "Ada"})
    ask(instance, "binary", b"\xff\xfe", kind="application/octet-stream")
    written(instance, 2)
    said = instance.ask("capture", percent=100, redact=["name", "card"])
    assert said["capturing"] == {"percent": 100, "redact": ["name", "card"]}
    ask(instance, "redacted", {"rows": [{"name": "Bob", "age": 7, "card": {"no": 1}}]})
    ask(instance, "failed", {"fail": 1, "name": "Eve"})
    ask(instance, "text", b"Bob's text", kind="text/plain")
    ask(instance, "big", {"big": "Bob" * 30_000})
    stream = {"stream": True, "name": "Bob"}
    ask(instance, "stream", stream, path="/ocid1.test/predictWithResponseStream")
    written(instance, 7)
    assert instance.ask("capture", percent=0)["capturing"]["percent"] == 0
    instance.post({"name": "after"})
    [file] = files(instance)
    told = file.read_text()
    assert len(told.splitlines()) == 7
    assert not [secret for secret in ("Bob", "Eve", "after", "Zoe") if secret in told]

    (place.output / file.name).write_bytes(file.read_bytes())
    place.look()
    found = {row["request_id"]: row for row in place.rows()}
    assert len(found) == 7
    plain, redacted = found["plain"], found["redacted"]
    failed, text, big, streamed = (found[each] for each in ("failed", "text", "big", "stream"))
    assert (plain["status"], plain["instance"]) == (200, INSTANCE)
    assert (plain["copy"], plain["revision"], plain["lost_before"]) == (0, "r7", 0)
    assert json.loads(plain["request"]) == json.loads(plain["response"]) == {"name": "Ada"}
    assert plain["model_us"] > 0
    assert base64.b64decode(found["binary"]["request_base64"]) == b"\xff\xfe"
    rows = {"rows": [{"name": "[redacted]", "age": 7, "card": "[redacted]"}]}
    assert json.loads(redacted["request"]) == json.loads(redacted["response"]) == rows
    assert (failed["status"], failed["response"]) == (500, None)
    assert (text["request"], text["request_base64"], text["request_bytes"]) == (None, None, 10)
    assert (big["request"], big["request_bytes"]) == (None, 90_011)
    assert json.loads(streamed["request"]) == {"stream": True, "name": "[redacted]"}
    assert (streamed["is_stream"], streamed["response_bytes"]) == (True, None)


def test_a_captured_request_is_stored_once_exported_and_expires(place: Place) -> None:
    path = place.output / NAME
    path.write_bytes(b"".join(line(number) for number in range(3)))
    place.look()
    before = place.rows()
    assert {row["request_id"] for row in before} == {"R0", "R1", "R2"}
    place.begin(close_after_s=0.0)
    place.look()
    wait_until(lambda: layout.segments(place.folder))
    place.look()
    assert sorted(map(str, place.rows())) == sorted(map(str, before))
    with path.open("ab") as file:
        file.write(line(3))
    place.look()
    place.look()
    assert len(layout.segments(place.folder)) == 2
    to = place.home.root / "it's.parquet"
    assert place.captures.export(place.deployment, to, from_ms=0, to_ms=2**53) == 4
    found = duckdb.sql(f"SELECT request_id FROM '{str(to).replace(chr(39), chr(39) * 2)}'")
    assert {row[0] for row in found.fetchall()} == {"R0", "R1", "R2", "R3"}
    assert not list(place.home.root.glob("*.new"))
    later = int(time.time() * 1000) + 3 * 86_400_000
    Compaction(place.home, place.converter, retention_days=2, max_bytes=10**9).collect(later)
    assert place.rows() == []


def test_many_segments_become_one(place: Place) -> None:
    place.begin(close_after_s=0.0)
    path = place.output / NAME
    for number in range(16):
        with path.open("ab") as file:
            file.write(line(number, "x" * 60_000))
        place.look()
        wait_until(lambda number=number: len(layout.segments(place.folder)) == number + 1)
    upkeep = Compaction(place.home, place.converter, retention_days=2, max_bytes=10**9)
    upkeep.collect(int(time.time() * 1000))
    assert len(layout.segments(place.folder)) == 1
    assert len(place.rows()) == 16


def test_files_of_a_hostile_model_spoil_its_own_captures_only(place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(line(1, "a secret"))
    (place.output / "copy-1.1764100000000.captured").symlink_to(secret)
    os.mkfifo(place.output / "copy-2.1764100000000.captured")
    (place.output / "copy-3.1764100000000.captured").mkdir()
    with (place.output / "copy-4.1764100000000.captured").open("wb") as sparse:
        sparse.truncate(1 << 40)
        sparse.seek(1 << 39)
        sparse.write(b"in the middle of nothing\n")
    endless = b"{" * 3_000_000 + b"\n"
    (place.output / "copy-5.1764100000000.captured").write_bytes(endless + line(5))
    copy = place.output / "copy-6.1764100000000.captured"
    half = line(7)[:-9]
    copy.write_bytes(b'\n{}\n[1]\n{"time": "x"}\n' + line(6, deployment="other") + half)
    for _ in range(12):
        place.look()
    found = place.rows()
    assert {row["request_id"] for row in found} == {"R5", "R6"}
    assert {row["deployment"] for row in found} == {place.deployment}
    os.truncate(copy, 0)
    copy.write_bytes(line(8))
    place.look()
    place.look()
    assert {row["request_id"] for row in place.rows()} == {"R5", "R6", "R8"}


def test_a_flood_is_bounded_counted_and_its_space_comes_free(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.begin(lines_per_second=10)
    path = place.output / NAME
    path.write_bytes(b"".join(line(number, "x" * 900) for number in range(8000)))
    for _ in range(10):
        place.look()
    kept = len(place.rows())
    assert 0 < kept < 200
    assert place.counters[Counter.DROPPED, CAPTURE] >= 8000 - kept - 1
    assert "lines were dropped" in caplog.text
    assert path.stat().st_blocks * 512 < 3_000_000 < path.stat().st_size
    newer = place.output / "copy-0.1764100000001.captured"
    newer.write_bytes(line(1))
    wait_until(lambda: place.look() or not path.exists())
    assert newer.exists(), "a copy writes there still"


def test_those_of_one_millisecond_are_shown_as_they_were_answered(place: Place) -> None:
    now = int(time.time() * 1000)
    file = place.output / NAME
    file.write_bytes(b"".join(line(number, time=now) for number in range(40)))
    place.look()
    wanted = [f"R{number}" for number in range(40)]
    assert [row["request_id"] for row in place.rows()] == wanted
    assert [row["request_id"] for row in place.rows(5)] == wanted[-5:]
