"""The predict log, collected from files as copies write them: each line once, whatever happens."""

import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.copy_instance import wait_until

from havre.domain.logs import Category
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.telemetry.counters import Counter, Counters
from havre.telemetry.files import layout
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.listing import Listing
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.logs import output_files
from havre.telemetry.logs.instance_collector import InstanceCollector

INSTANCE = "8b1f0c7a55d2"
TRACEBACK = 'Traceback (most recent call last):\n  File "score.py", line 1\nValueError: x\n'


class Writer:
    """A copy, as far as its file goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._begins = 0

    def prints(self, text: str) -> None:
        os.write(self._file, text.encode())

    def ends_request(self, *names: str) -> None:
        ends, now = os.fstat(self._file).st_size, int(time.time() * 1000)
        mark = {"requests": names, "from": self._begins, "to": ends, "began": now, "ended": now}
        self.prints(f"\x1e{json.dumps(mark)}\n")
        self._begins = os.fstat(self._file).st_size

    def close(self) -> None:
        os.close(self._file)


class Place:
    """A home with one instance of one deployment, and a collector that looks when it is told."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.make()
        self.home.instance_logs.mkdir()
        self.home.telemetry.mkdir(exist_ok=True)
        self.deployment = new_ocid(Kind.DEPLOYMENT)
        self.folder = self.home.instances / INSTANCE
        self.output = self.folder / "output"
        self.output.mkdir(parents=True)
        about = {"deployment": self.deployment, "revision": "r7", "begins": 0}
        self.about = self.home.instance_logs / f"{INSTANCE}.json"
        self.about.write_text(json.dumps(about))
        self.keepers = self.home.instance_logs / f"{INSTANCE}.log"
        self.keepers.touch()
        self.store = LogReader(self.home)
        self.counters = Counters()
        self.collector = self.begin()

    @property
    def log(self) -> Path:
        return layout.segments_folder(self.home, Category.PREDICT, self.deployment)

    def begin(self, **changed: Any) -> InstanceCollector:
        stated = {"lines_per_second": 1000, "retention_days": 30, "max_bytes": 10**9}
        converter = Converter(self.home, self.counters)
        self.collector = InstanceCollector(
            self.home, converter, self.counters, interval_s=0.0, **{**stated, **changed}
        )
        return self.collector

    def look(self, after_s: float = 0.0) -> None:
        self.collector.collect(int((time.time() + after_s) * 1000))

    def copy(self, number: int = 0, since: int = 1764100000000) -> Writer:
        return Writer(self.output / f"copy-{number}.{since}.log")

    def entries(self) -> list[dict[str, Any]]:
        answer = self.store.query(
            "SELECT * FROM entries ORDER BY time, position",
            category=Category.PREDICT,
            deployments=[self.deployment],
            time_from_ms=0,
            time_to_ms=2**53,
            limit=10**6,
            time_limit_s=60,
        )
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def messages(self) -> list[str]:
        return [entry["message"] for entry in self.entries()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    # Nobody is to be waited for here: what no mark has followed at the second look is no request's.
    for name in ("HOLD_S", "KEEPER_HOLD_S"):
        monkeypatch.setattr(f"havre.telemetry.logs.tailer.{name}", 0.0)
    # And a look goes to the end of a file, however long that takes.
    monkeypatch.setattr("havre.telemetry.logs.instance_collector.BUDGET_S", 600.0)
    place = Place(tmp_path / "h")
    yield place
    place.store.close()


def test_an_entry_says_what_was_printed_by_whom_for_which_request(place: Place) -> None:
    copy = place.copy(3)
    copy.prints("hello\n")
    copy.ends_request("R1")
    copy.prints(TRACEBACK)
    copy.ends_request("R2", "R3")
    copy.prints("a thread\n")
    place.keepers.write_text("2025-11-25T19:46:40.000Z [keeper] loading\nprinted while loading\n")
    place.look()
    place.look()
    found = {entry["message"].partition("\n")[0]: entry for entry in place.entries()}
    assert len(found) == 5
    hello, failed = found["hello"], found["Traceback (most recent call last):"]
    assert (hello["request"], hello["copy"], hello["instance"]) == ("R1", 3, INSTANCE)
    assert (hello["revision"], hello["deployment"]) == ("r7", place.deployment)
    assert failed["message"] == TRACEBACK.rstrip()
    assert failed["request"] == "R2,R3"
    assert found["a thread"]["request"] is None
    loading = found["2025-11-25T19:46:40.000Z [keeper] loading"]
    assert (loading["copy"], loading["instance"]) == (None, INSTANCE)
    assert found["printed while loading"]["copy"] is None
    # The same in a segment.
    before = place.entries()
    place.begin(close_after_s=0.0)
    place.look()
    wait_until(lambda: layout.segments(place.log))
    assert place.entries() == before
    assert not (place.log / layout.LIVE).exists()
    place.look()
    assert place.entries() == before, "nothing is read twice"


def test_what_is_left_of_an_instance_is_read_and_removed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("havre.telemetry.logs.instance_collector.FORGET_AFTER_S", 0.0)
    died, lives = place.copy(0, since=1764100000000), place.copy(0, since=1764100000001)
    died.prints("last words without an end")
    lives.prints("first\n")
    lives.ends_request("R1")
    place.look()
    assert sorted(place.messages()) == ["first", "last words without an end"]
    assert not died.path.exists(), "another copy has followed it"
    lives.prints("crash output\n")
    lives.path.rename(place.home.instance_logs / f"{INSTANCE}.{lives.path.name}")
    place.keepers.write_text("2025-11-25T19:46:40.000Z [keeper] stopped\n")
    place.output.rmdir()
    place.folder.rmdir()
    place.begin()
    for _ in range(3):
        place.look()
    assert "crash output" in place.messages()
    assert len(place.messages()) == 4
    assert [path.name for path in place.home.instance_logs.iterdir()] == [place.keepers.name]


def test_a_flood_is_bounded_counted_and_fills_no_disk(place: Place) -> None:
    place.begin(lines_per_second=100)
    began = time.time()
    copy = place.copy()
    line = "x" * 99 + "\n"
    for number in range(60):
        copy.prints(f"{number} {line}" + line * 9999)  # 60 MB in all
    copy.ends_request("R1")
    quiet = place.copy(1)
    place.look()
    place.look(after_s=30)
    quiet.prints("not drowned\n")
    quiet.ends_request("R2")
    place.look(after_s=60)
    wait_until(lambda: place.look(after_s=60) or "not drowned" in place.messages())
    kept = [message for message in place.messages() if "x" * 99 in message]
    told = [message for message in place.messages() if "lines were dropped" in message]
    # Those of ten quiet seconds, and of the time until the last look, which was 60 s ahead.
    assert 100 <= len(kept) <= 100 * (10 + 60 + time.time() - began + 1)
    counted = sum(int(message.split()[0]) for message in told)
    untold = json.loads((place.log / "positions.json").read_text())["dropped_lines"]
    assert len(kept) + counted + untold == 60 * 10_000
    assert place.counters[Counter.DROPPED, "predict"] == counted + untold
    used = copy.path.stat().st_blocks * 512
    assert used < 4 * 2**20, "what was read has been given back to the disk"
    assert copy.path.stat().st_size > 60 * 10**6
    assert sum(path.stat().st_size for path in place.log.iterdir()) < 10 * 2**20


def test_files_of_a_hostile_model_spoil_its_own_log_only(place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret\n")
    os.symlink(secret, place.output / "copy-1.1764100000000.log")
    os.mkfifo(place.output / "copy-2.1764100000000.log")
    (place.output / "copy-3.1764100000000.log").mkdir()
    (place.output / "copy-x.log").write_text("not ours\n")
    with (place.output / "copy-4.1764100000000.log").open("wb") as sparse:
        sparse.truncate(1 << 40)
        sparse.seek(1 << 39)
        sparse.write(b"in the middle of nothing\n")
    binary = place.copy(5)
    os.write(binary._file, random.Random(1).randbytes(300_000) + b"\n" + b"\x1e{" * 100_000 + b"\n")
    binary.ends_request("R5")
    copy = place.copy(6)
    copy.prints("kept\n" * 10)
    copy.ends_request("R6")
    place.look()
    os.truncate(copy.path, 0)
    copy.prints("after it was truncated\n")
    copy.prints("\x1e" + json.dumps({"requests": ["FAKE"], "from": 0, "to": 99}) + "\n")
    place.look()
    place.look()
    copy.path.unlink()
    again = place.copy(6)
    again.prints("in another of its name\n")
    place.look()
    place.look()
    messages = place.messages()
    assert "a secret" not in str(messages)
    assert "not ours" not in str(messages)
    assert messages.count("kept") == 10
    assert messages.count("after it was truncated") == 1
    assert messages.count("in another of its name") == 1
    identities = [entry["id"] for entry in place.entries()]
    assert len(identities) == len(set(identities))
    place.begin(close_after_s=0.0)
    place.look()
    assert len(place.messages()) == len(messages), "binary lines go into segments, too"


def test_a_full_disk_loses_nothing_but_a_flood_and_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    few, many = place.copy(0), place.copy(1)
    few.prints("a few\n")
    few.ends_request("R1")
    many.prints("many\n" * 5000 + ("y" * 999 + "\n") * 7000)
    many.ends_request("R2")
    with monkeypatch.context() as patch:
        patch.setattr("havre.telemetry.files.live_file.os.fdatasync", full)
        wait_until(lambda: place.look() or many.path.stat().st_blocks * 512 < 3.2 * 2**20)
        assert place.messages() == []
        lost = place.counters[Counter.LOST, "predict"]
        assert lost >= 5000
    wait_until(lambda: place.look(after_s=60) or "a few" in place.messages())
    place.look(after_s=60)
    assert place.messages().count("a few") == 1
    told = [message for message in place.messages() if "the disk was full" in message]
    assert len(told) == 1
    assert f"{lost} lines were lost: the disk was full" in told[0]


def test_lines_come_as_they_were_printed_over_looks_restarts_and_segments(place: Place) -> None:
    printed = [f"loaded {number}" for number in range(200)]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    said = f"{stamp} [keeper] score.py loaded in 0.01 s"
    place.keepers.write_text("\n".join([*printed, said]) + "\n")
    place.look()
    place.look()
    assert place.messages() == [*printed, said]
    place.keepers.write_text("")
    begun = time.time()
    copy = place.copy()
    wanted = []
    for number in range(40):
        lines = [f"{number}.{each}" for each in range(30)]
        copy.prints("\n".join(lines) + "\n")
        copy.ends_request(f"R{number}")
        wanted += lines
        if number % 10 == 3:
            place.look()
        if number % 10 == 6:
            place.begin(close_after_s=0.0)
    place.begin(close_after_s=0.0)
    place.look()
    place.look()
    assert layout.segments(place.log)
    found = [each for each in place.entries() if each["copy"] == 0]
    assert [each["message"] for each in found] == wanted
    positions = [each["position"] for each in found]
    assert positions == sorted(set(positions))
    assert all(each["position"] // 1000 == each["time"] for each in found)
    assert found[-1]["time"] < (begun + 60) * 1000


def test_lines_of_a_file_read_in_parts_are_no_later_than_what_follows_them(place: Place) -> None:
    """What no mark tells of is as old as the file; a part's end is followed by what is older."""
    copy = place.copy()
    text = "".join(f"{number} {'x' * 90}\n" for number in range(9000))
    copy.prints(text)
    began = int(time.time() * 1000) - 60_000
    mark = {"requests": ["R1"], "from": len(text), "to": len(text) + 5, "began": began}
    copy.prints("last\n\x1e" + json.dumps({**mark, "ended": began + 1}) + "\n")
    place.begin(lines_per_second=10**6)
    place.look()
    place.look()
    found = place.entries()
    assert [each["message"].split()[0] for each in found] == [*map(str, range(9000)), "last"]
    assert found[-1]["time"] < began + 100


def test_killed_at_any_moment_it_loses_and_doubles_no_line(place: Place) -> None:
    settings = {"HAVRE_LOG_RATE_LIMIT": "1000000"}
    command = [sys.executable, "-c", _COLLECT_FAST, str(place.home.root)]
    ending = threading.Event()
    printed = 0

    def run() -> None:
        nonlocal printed
        copy = place.copy()
        while not ending.is_set():
            copy.prints("".join(f"line {printed + more}\n" for more in range(10)))
            printed += 10
            if printed % 30 == 0:
                copy.ends_request(f"R{printed}")
            time.sleep(0.002)
        copy.ends_request("LAST")
        copy.close()

    writer = threading.Thread(target=run)
    writer.start()
    dice = random.Random(7)
    try:
        for number in range(100):
            before = collected(place)
            with subprocess.Popen(command, env={**os.environ, **settings}) as process:
                try:
                    wait_until(lambda: collected(place) != before)  # noqa: B023
                    time.sleep(0.3 + dice.random() / 3)  # the moment is what is tried here
                finally:
                    process.kill()
            # On a slow machine more are needed until one of them has come so far.
            if number >= 7 and layout.segments(place.log):
                break
    finally:
        ending.set()
        writer.join()
    place.begin(lines_per_second=10**6)
    wait_until(lambda: place.look() or f"line {printed - 1}" in place.messages())
    assert sorted(place.messages()) == sorted(f"line {number}" for number in range(printed))
    entries = place.entries()
    assert len({entry["id"] for entry in entries}) == len(entries)
    assert all(entry["request"] for entry in entries)
    assert layout.segments(place.log), "some of it was converted meanwhile"
    assert output_files.find(place.home, Listing(place.home.instance_logs))[0].is_alive


def collected(place: Place) -> int:
    """Changes with each step of a collector."""
    positions = place.log / "positions.json"
    return positions.stat().st_mtime_ns if positions.exists() else 0


_COLLECT_FAST = """
import sys, time
from pathlib import Path
from havre.home import Home
from havre.telemetry.counters import Counter, Counters
from havre.telemetry.files.converter import Converter
from havre.telemetry.logs import tailer
from havre.telemetry.logs.instance_collector import InstanceCollector
tailer.HOLD_S = 600.0  # marks come, however long the one who writes them stands still
home, counters = Home(Path(sys.argv[1])), Counters()
log = InstanceCollector(home, Converter(home, counters), counters, lines_per_second=10**6,
                    retention_days=30, max_bytes=10**9, interval_s=0.0, close_after_s=0.05)
while True:
    log.collect(time.time_ns() // 10**6)
    time.sleep(0.001)
"""
