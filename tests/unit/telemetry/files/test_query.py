"""Queries at once: who waits, who is refused, and who was alone with all the memory."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from havre.domain.errors import TooBusy, Unavailable
from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry.files import layout, query
from havre.telemetry.files.duck import connect
from havre.telemetry.files.layout import Segment
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.files.query import Queries, QueryTooLarge, QueryTooLong, Rows
from havre.telemetry.files.schema import columns_of
from havre.telemetry.files.turns import Turns

DEADLINE_S = 30.0


class Room:
    """Counts who is inside; ``leave`` lets all out."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self._lock = threading.Condition()
        self._is_open = False

    def stay(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._lock.notify_all()
            assert self._lock.wait_for(lambda: self._is_open, DEADLINE_S)
            self.inside -= 1

    def wait_for(self, number: int) -> None:
        with self._lock:
            assert self._lock.wait_for(lambda: self.inside == number, DEADLINE_S)

    def leave(self) -> None:
        with self._lock:
            self._is_open = True
            self._lock.notify_all()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def test_a_few_have_turns_at_once_and_the_others_after_them(pool: ThreadPoolExecutor) -> None:
    turns, room = Turns(max_concurrent=3, max_waiting=21), Room()

    def take() -> bool:
        with turns.take() as turn:
            room.stay()
            return turn.was_alone

    asked = [pool.submit(take) for _ in range(24)]
    room.wait_for(3)
    room.leave()
    assert len([each.result(DEADLINE_S) for each in asked]) == 24
    assert room.most == 3


def test_more_than_may_wait_are_refused_at_once(pool: ThreadPoolExecutor) -> None:
    turns, room = Turns(max_concurrent=1, max_waiting=1), Room()

    def take() -> None:
        with turns.take():
            room.stay()

    first = pool.submit(take)
    room.wait_for(1)
    second = pool.submit(take)
    deadline = time.monotonic() + DEADLINE_S
    while not turns._waiting:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    with pytest.raises(TooBusy, match="too many"), turns.take():
        pass
    room.leave()
    first.result(DEADLINE_S)
    second.result(DEADLINE_S)


def test_a_query_that_waits_too_long_is_refused(pool: ThreadPoolExecutor) -> None:
    turns, room = Turns(max_concurrent=1, wait_s=0.01), Room()

    def take() -> None:
        with turns.take():
            room.stay()

    first = pool.submit(take)
    room.wait_for(1)
    with pytest.raises(TooBusy, match="longer than"), turns.take():
        pass
    room.leave()
    first.result(DEADLINE_S)
    with turns.take() as turn:  # nothing is left of who gave up
        assert turn.was_alone


def test_a_turn_alone_is_beside_nobody(pool: ThreadPoolExecutor) -> None:
    turns, room = Turns(max_concurrent=3), Room()

    def take() -> bool:
        with turns.take() as turn:
            room.stay()
            return turn.was_alone

    def take_alone() -> tuple[bool, int]:
        with turns.take_alone() as turn:
            return turn.was_alone, room.inside

    beside = [pool.submit(take) for _ in range(2)]
    room.wait_for(2)
    alone = pool.submit(take_alone)
    room.leave()
    assert alone.result(DEADLINE_S) == (True, 0)
    assert [each.result(DEADLINE_S) for each in beside] == [False, False]


class Everything:
    sql = "SELECT i FROM range(10) t(i)"
    files: Sequence[Path] = ()

    def is_there(self) -> bool:
        return True

    def is_current(self) -> bool:
        return True


@pytest.mark.parametrize("fault", [QueryTooLarge, QueryTooLong])
def test_what_had_to_share_is_asked_once_more_alone(
    monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor, fault: type[Unavailable]
) -> None:
    """What it then says is about the query itself."""
    queries = Queries("entries", Turns(max_concurrent=3))
    room, tries = Room(), []
    answer = queries._run_once

    def fail_beside_others(*arguments: object, **more: object) -> Rows:
        tries.append(threading.get_ident())
        if len(tries) <= 2:
            room.stay()
            raise fault("it had to share")
        return answer(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(queries, "_run_once", fail_beside_others)
    ask: Callable[[], Rows] = lambda: queries.run(  # noqa: E731
        Everything, "SELECT sum(i) FROM entries", limit=5
    )
    asked = [pool.submit(ask) for _ in range(2)]
    room.wait_for(2)
    room.leave()
    assert [each.result(DEADLINE_S).rows for each in asked] == [[(45,)], [(45,)]]
    assert len(tries) == 4
    queries.close()


def test_what_does_not_fit_into_all_the_memory_is_too_large(
    monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> None:
    """Many at once: all of them fit one after the other, and the one that does not is told so."""
    monkeypatch.setattr(query, "connect", lambda *, threads: connect(memory_mb=48, threads=threads))
    queries = Queries("entries")
    fits = "SELECT count(*) FROM (SELECT DISTINCT (a.i * 200000 + b.i) AS x FROM range({}) a(i), range(1000) b(i))"  # noqa: E501
    beside = [pool.submit(queries.run, Everything, fits.format(500), limit=1) for _ in range(12)]
    large = pool.submit(queries.run, Everything, fits.format(20_000), limit=1)
    assert [each.result(DEADLINE_S).rows for each in beside] == [[(500_000,)]] * 12
    with pytest.raises(QueryTooLarge):
        large.result(DEADLINE_S)
    queries.close()


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[: len(content) // 2],
            "zeros": bytes(len(content)),
            "middle": content[:500] + bytes(len(content) - 2500) + content[-2000:],
            "noise": os.urandom(len(content)),
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "cut", "zeros", "middle", "noise"])
def test_a_damaged_segment_is_a_sentence_with_its_name(tmp_path: Path, how: str) -> None:
    home = Home(tmp_path)
    home.make()
    place = layout.segments_folder(
        home, Category.ACCESS, "ocid1.datasciencemodeldeployment.oc1.iad.a"
    )
    place.mkdir(parents=True)
    path = place / Segment.name(from_ms=0, to_ms=10, first=1, last=1)
    told = {"time": "i", "message": "'m' || hash(i)"}
    columns = ", ".join(
        f"CAST({told.get(name, 'NULL')} AS {kind}) AS {name}"
        for name, kind in columns_of(Category.ACCESS).items()
    )
    with connect() as database:
        database.execute(
            f"COPY (SELECT {columns} FROM range(20000) t(i)) TO '{path}' "
            "(FORMAT parquet, COMPRESSION zstd)"
        )
    damage(path, how)
    with pytest.raises(Unavailable) as refused:
        LogReader(home).query(
            "SELECT max(md5(message)) FROM entries",
            category=Category.ACCESS,
            deployments=None,
            time_from_ms=0,
            time_to_ms=10**6,
        )
    assert path.name in refused.value.message
    assert "move it" in refused.value.message
    assert "\n" not in refused.value.message
