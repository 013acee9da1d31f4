"""Which segments are merged and which go, and that nothing else changes by it."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from havre.domain.logs import Category
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.telemetry.counters import Counters
from havre.telemetry.files import layout
from havre.telemetry.files.compaction import (
    DAY_MS,
    MERGE_COUNT,
    Compaction,
    Sized,
    expired,
    next_merge,
)
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.layout import Segment
from havre.telemetry.files.log_reader import LogReader

DEPLOYMENT = new_ocid(Kind.DEPLOYMENT)
KB, MB = 1000, 1_000_000


def sized(number: int, size: int = KB, *, at_ms: int = 0, last: int = 0) -> Sized:
    segment = Segment(at_ms + number, at_ms + number + 5, number, last or number, Path(str(number)))
    return Sized(segment, size)


def merged(found: list[Sized], *, now_ms: int = 0) -> list[int]:
    parts = next_merge(found, now_ms=now_ms, max_bytes=32 * MB)
    return [each.first for each in parts]


def test_neighbours_are_merged_when_there_are_enough() -> None:
    few = [sized(number) for number in range(1, MERGE_COUNT)]
    assert merged(few) == []
    assert merged([*few, sized(MERGE_COUNT)]) == list(range(1, MERGE_COUNT + 1))


def test_a_large_one_between_them_is_not_passed_over() -> None:
    """Its numbers would be within those of what is merged, and it would count for nothing."""
    found = [sized(number) for number in range(1, 30)]
    found[14] = sized(15, 40 * MB)
    assert merged(found) == []


def test_what_is_merged_is_merged_again_in_its_turn() -> None:
    of_the_next_level = [
        sized(number * 100, 300 * KB, last=number * 100 + 99) for number in range(20)
    ]
    small = [sized(2000 + number) for number in range(20)]
    assert merged(of_the_next_level + small) == [2000 + number for number in range(20)]
    assert merged(of_the_next_level) == [number * 100 for number in range(20)]


def test_days_stay_apart_and_a_day_that_is_over_becomes_one() -> None:
    first = [sized(number) for number in range(1, 10)]
    second = [sized(number, at_ms=DAY_MS) for number in range(10, 19)]
    assert merged(first + second, now_ms=DAY_MS) == []
    assert merged(first + second, now_ms=DAY_MS + 2 * 3_600_000) == list(range(1, 10))


@given(
    st.lists(st.integers(1, 40 * MB), max_size=60),
    st.integers(0, 3 * DAY_MS),
    st.integers(1, 64 * MB),
)
def test_whatever_is_merged_is_whole_and_bounded(
    sizes: list[int], now_ms: int, max_bytes: int
) -> None:
    found = [sized(number * 3_600_000, size) for number, size in enumerate(sizes)]
    parts = next_merge(found, now_ms=now_ms, max_bytes=max_bytes)
    chosen = [each for each in found if each.segment in parts]
    assert sum(each.size for each in chosen) <= max_bytes
    assert len({each.day for each in chosen}) <= 1
    assert len(chosen) != 1
    numbers = [each.segment.first for each in found]
    if chosen:
        start = numbers.index(chosen[0].segment.first)
        assert found[start : start + len(chosen)] == chosen


def test_the_old_go_and_the_oldest_of_too_many() -> None:
    found = [sized(number, 10 * MB, at_ms=number * DAY_MS) for number in range(10)]

    def gone(now_ms: int, days: int, most: int) -> list[int]:
        kept = expired(found, now_ms=now_ms, retention_days=days, max_bytes=most)
        return sorted(each.first for each in kept)

    assert gone(9 * DAY_MS, 30, 1000 * MB) == []
    assert gone(9 * DAY_MS + 100, 4, 1000 * MB) == [0, 1, 2, 3, 4, 5]
    assert gone(9 * DAY_MS, 30, 45 * MB) == [0, 1, 2, 3, 4, 5]


def test_merging_changes_no_entry_and_leaves_one_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    converter = Converter(home, Counters())
    place = home.telemetry / "access"
    place.mkdir()
    for number in range(1, MERGE_COUNT + 1):
        closed = place / layout.closed_name(number)
        closed.write_text(
            json.dumps(
                {
                    "id": f"id-{number}",
                    "time": f"2026-11-25T10:00:{number:02d}.000Z",
                    "deployment": DEPLOYMENT,
                    "path": f"/{DEPLOYMENT}/predict",
                }
            )
            + "\n"
        )
        assert converter.convert(Category.ACCESS, closed, number) == 1
    before = everything(home)
    assert len(before) == MERGE_COUNT
    keeper = Compaction(home, converter, retention_days=10**4, max_bytes=100 * MB)
    keeper.collect(0)
    [segment] = layout.segments(layout.segments_folder(home, Category.ACCESS, DEPLOYMENT))
    assert (segment.first, segment.last) == (1, MERGE_COUNT)
    assert everything(home) == before
    # And what is too old goes, with its folder.
    keeper = Compaction(home, converter, retention_days=1, max_bytes=100 * MB)
    keeper.collect(segment.to_ms + 2 * DAY_MS)
    assert everything(home) == []
    assert list(place.iterdir()) == []


def everything(home: Home) -> list[tuple[Any, ...]]:
    answer = LogReader(home).query(
        "SELECT * FROM entries ORDER BY id",
        category=Category.ACCESS,
        deployments=None,
        time_from_ms=0,
        time_to_ms=2**53,
    )
    return answer.rows
