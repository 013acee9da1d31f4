"""Logs that say how long they are kept are kept so long."""

from pathlib import Path

import pytest

from havre.domain.errors import StateUnavailable, SystemFault
from havre.domain.logs import Category
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.telemetry.counters import Counters
from havre.telemetry.files import layout, retention
from havre.telemetry.files.compaction import DAY_MS, Compaction
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.layout import Segment

LONGER, USUAL = new_ocid(Kind.DEPLOYMENT), new_ocid(Kind.DEPLOYMENT)
NOW_MS = 200 * DAY_MS


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    return home


def test_what_is_told_is_what_is_read(home: Home) -> None:
    days = {(LONGER, Category.ACCESS): 90, (USUAL, Category.PREDICT): 60}
    publisher = retention.RetentionPublisher(home, lambda: days)
    assert retention.read(home) == {}
    publisher.publish()
    assert retention.read(home) == days
    file = home.telemetry / retention.FILE
    written = file.stat().st_ino
    publisher.publish()
    assert file.stat().st_ino == written
    days[USUAL, Category.PREDICT] = 30
    publisher.publish()
    assert retention.read(home) == days
    file.write_text("[{}]")
    with pytest.raises(SystemFault, match="damaged"):
        retention.read(home)
    publisher.publish()
    assert retention.read(home) == days


def test_a_database_that_is_away_changes_nothing(home: Home) -> None:
    def away() -> retention.Days:
        raise StateUnavailable("gone")

    retention.write(home, {(LONGER, Category.ACCESS): 90})
    publisher = retention.RetentionPublisher(home, away)
    publisher.start()
    publisher.stop()
    assert retention.read(home) == {(LONGER, Category.ACCESS): 90}


def test_segments_stay_as_long_as_their_log_says(home: Home) -> None:
    retention.write(home, {(LONGER, Category.ACCESS): 90})
    upkeep = Compaction(home, Converter(home, Counters()), retention_days=30, max_bytes=10**9)
    kept = {LONGER: [20, 60], USUAL: [20]}
    for deployment in kept:
        folder = layout.segments_folder(home, Category.ACCESS, deployment)
        folder.mkdir(parents=True)
        for number, age in enumerate((20, 60, 100)):
            moment = NOW_MS - age * DAY_MS
            name = Segment.name(from_ms=moment, to_ms=moment, first=number, last=number)
            (folder / name).write_bytes(b"segment")
    upkeep.collect(NOW_MS)
    for deployment, ages in kept.items():
        found = layout.segments(layout.segments_folder(home, Category.ACCESS, deployment))
        assert sorted((NOW_MS - each.to_ms) // DAY_MS for each in found) == ages
