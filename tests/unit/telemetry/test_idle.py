"""What deployments that were deleted have left costs nothing while nothing happens there."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from havre.domain.logs import Category
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.telemetry.counters import Counters
from havre.telemetry.files import layout
from havre.telemetry.files.compaction import INTERVAL_MS, QUIET_MS, Compaction
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.layout import CAPTURE, KINDS, Segment
from havre.telemetry.files.listing import Listing
from havre.telemetry.logs.access_log import AccessLog
from havre.telemetry.logs.instance_collector import InstanceCollector
from havre.telemetry.loop import Collector

NOW_MS = 1_800_000_000_000
_counting: list[Counter[str]] = []


class Balancer:
    def reopen_logs(self) -> None: ...

    def failed_writes(self) -> int:
        return 0


def delete_some(home: Home, number: int) -> None:
    """Leave what deployments leave that have served, and were deleted."""
    for _ in range(number):
        deployment = new_ocid(Kind.DEPLOYMENT)
        for kind in KINDS:
            folder = layout.segments_folder(home, kind, deployment)
            folder.mkdir(parents=True)
            name = Segment.name(from_ms=NOW_MS - 10, to_ms=NOW_MS, first=1, last=1)
            (folder / name).write_bytes(b"PAR1")
        (home.instance_logs / f"{deployment[-12:]}.log").write_text("loaded\n")
    for folder in (*home.telemetry.iterdir(), home.instance_logs):
        os.utime(folder, (1, 1))  # long ago


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often the system is asked about files."""
    counts: Counter[str] = Counter()
    with monkeypatch.context() as patched:
        for name in ("stat", "lstat", "listdir", "scandir", "open"):
            real = getattr(os, name)

            def ask(*arguments: object, real: object = real, name: str = name, **more: object):  # type: ignore[no-untyped-def]
                counts[name] += 1
                return real(*arguments, **more)  # type: ignore[operator]

            patched.setattr(os, name, ask)
        yield counts


def collectors(home: Home) -> list[Collector]:
    counters = Counters()
    converter = Converter(home, counters)
    return [
        AccessLog(home, Balancer(), converter, counters, max_bytes=10**9),
        InstanceCollector(
            home,
            converter,
            counters,
            lines_per_second=1000,
            retention_days=30,
            max_bytes=10**9,
            interval_s=0.0,
        ),
        Compaction(home, converter, retention_days=30, max_bytes=10**9),
    ]


def idle(home: Home, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    every = collectors(home)
    for look in range(3):
        for collector in every:
            collector.collect(NOW_MS + look * INTERVAL_MS)
    with counted(monkeypatch) as counts:
        for collector in every:
            collector.collect(NOW_MS + 3 * INTERVAL_MS)
    return counts


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Home, Home]:
    pair = Home(tmp_path / "few"), Home(tmp_path / "many")
    for home, dead in zip(pair, (2, 60), strict=True):
        home.make()
        home.instance_logs.mkdir(exist_ok=True)
        delete_some(home, dead)
    return pair


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib asks the system otherwise there")
def test_a_look_costs_the_same_however_many_are_dead(
    homes: tuple[Home, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (idle(home, monkeypatch) for home in homes)
    assert few == many
    assert few["scandir"] == few["listdir"] == 0
    assert 0 < sum(few.values()) < 30


def test_what_is_written_there_again_is_looked_at(homes: tuple[Home, Home]) -> None:
    home = homes[0]
    converter = Converter(home, Counters())
    upkeep = Compaction(home, converter, retention_days=30, max_bytes=10**9)
    [deployment, _] = layout.deployments(home, Category.ACCESS)
    place = layout.segments_folder(home, Category.ACCESS, deployment)
    for look in range(2):
        upkeep.collect(NOW_MS + look * INTERVAL_MS)
    (place / ".new-half-written").touch()
    upkeep.collect(NOW_MS + 2 * INTERVAL_MS)
    assert (place / ".new-half-written").exists(), "nobody has told that anything is new"
    converter._written.add(place)
    upkeep.collect(NOW_MS + 3 * INTERVAL_MS)
    assert not (place / ".new-half-written").exists()


def test_the_old_go_from_folders_that_nothing_comes_to(homes: tuple[Home, Home]) -> None:
    home = homes[0]
    upkeep = Compaction(home, Converter(home, Counters()), retention_days=1, max_bytes=10**9)
    upkeep.collect(NOW_MS)
    assert len(layout.deployments(home, Category.ACCESS)) == 2
    upkeep.collect(NOW_MS + 86_400_000 + QUIET_MS)
    assert layout.deployments(home, Category.ACCESS) == []
    for kind in (Category.PREDICT, CAPTURE):
        assert all(
            layout.segments(layout.segments_folder(home, kind, each)) == []
            for each in layout.deployments(home, kind)
        )


def test_one_damaged_folder_does_not_keep_the_others_from_upkeep(
    homes: tuple[Home, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = homes[1]
    upkeep = Compaction(home, Converter(home, Counters()), retention_days=30, max_bytes=10**9)
    looked: list[Path] = []
    act = upkeep._act

    def fail_at_first(
        category: layout.EntryKind, place: Path, *more: object, **options: object
    ) -> bool:
        looked.append(place)
        if len(looked) == 1:
            raise OSError("damaged")
        return act(category, place, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(upkeep, "_act", fail_at_first)
    with pytest.raises(OSError, match="damaged"):
        upkeep.collect(NOW_MS)
    assert len(looked) == 3 * 60


def test_a_listing_follows_what_comes_and_goes(tmp_path: Path) -> None:
    listing = Listing(tmp_path / "a")
    assert (listing.files(), listing.folders()) == ([], [])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").touch()
    (tmp_path / "a" / "inner").mkdir()
    assert (listing.files(), listing.folders()) == (["one"], ["inner"])
    (tmp_path / "a" / "one").rename(tmp_path / "a" / "two")
    assert listing.files() == ["two"]
    os.utime(tmp_path / "a", (1, 1))
    assert listing.files() == ["two"]
    (tmp_path / "a" / "three").touch()
    assert listing.files() == ["three", "two"]
    (tmp_path / "a" / "three").unlink()
    assert listing.files() == ["two"], "within one tick of the clock"
