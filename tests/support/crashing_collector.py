"""A collector that is killed before and after every step it takes; run as a process of its own.

``python crashing_collector.py FOLDER EVERY`` tries every so manieth instant, and prints how many
there were, or what was wrong at one. It forks for each, before DuckDB has started a thread.
"""

import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from havre.domain.logs import Category
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.telemetry.counters import Counters
from havre.telemetry.files import compaction, converter
from havre.telemetry.files.compaction import Compaction
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.logs.access_log import AccessLog

DEPLOYMENTS = tuple(new_ocid(Kind.DEPLOYMENT) for _ in range(2))
ROUNDS = 3
BATCH = 20
DAY_MS = 86_400_000
STEPS = ("rename", "unlink", "fsync", "mkdir")
_rename, _replace = os.rename, os.replace


class Writer:
    """Stands for Envoy: it opens another file when it is asked to, and goes on writing there."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._count = home.root / "batches"

    def reopen_logs(self) -> None:
        if self._home.access_log.exists():
            return
        number = self.batches()
        lines = "".join(json.dumps(entry(number, each)) + "\n" for each in range(BATCH))
        beside = self._home.root / "beside"
        beside.write_text(lines + '{"id":"to')
        _rename(beside, self._home.access_log)
        beside.write_text(str(number + 1))
        _replace(beside, self._count)

    def failed_writes(self) -> int:
        return 0

    def batches(self) -> int:
        return int(self._count.read_text()) if self._count.exists() else 0


def entry(batch: int, number: int) -> dict[str, Any]:
    deployment = DEPLOYMENTS[number % 2]
    return {
        "id": f"{batch}-{number}",
        "time": f"2026-11-25T10:{batch % 60:02d}:{number:02d}.000Z",
        "path": f"/{deployment}/predict",
        # Every fifth found no route.
        **({"deployment": deployment} if number % 5 else {}),
    }


def collect(home: Home, rounds: int) -> None:
    """So many closed files, converted and merged."""
    counters = Counters()
    converter = Converter(home, counters)
    writer = Writer(home)
    access = AccessLog(home, writer, converter, counters, max_bytes=10**9, close_after_s=0.0)
    keeper = Compaction(home, converter, retention_days=10**4, max_bytes=10**9)
    writer.reopen_logs()
    for now_ms in range(rounds + 1):
        access.collect(now_ms)
        keeper.collect(now_ms * compaction.INTERVAL_MS)


def check(home: Home, *, is_settled: bool) -> None:
    store = LogReader(home)
    answer = store.query(
        "SELECT id FROM entries",
        category=Category.ACCESS,
        deployments=DEPLOYMENTS,
        time_from_ms=0,
        time_to_ms=2**53,
        time_limit_s=200,
    )
    found = Counter(row[0] for row in answer.rows)
    wanted = {f"{batch}-{each}" for batch in range(Writer(home).batches()) for each in range(BATCH)}
    assert not wanted - set(found), f"lost: {sorted(wanted - set(found))[:5]}"
    assert max(found.values(), default=1) == 1, f"doubled: {found.most_common(3)}"
    if is_settled:
        names = [path.name for path in home.telemetry.rglob("*") if path.is_file()]
        assert not [name for name in names if name.startswith(".")], names


def main(folder: Path, every: int) -> None:
    compaction.MERGE_COUNT = 2
    instant = 1 - every
    while True:
        instant += every
        home = Home(Path(tempfile.mkdtemp(dir=folder)))
        home.make()
        status = in_child(be_killed, home, instant)
        is_done = status == 0
        if not is_done and status != -signal.SIGKILL:
            sys.exit(f"instant {instant}: it failed by itself")
        if in_child(go_on, home) != 0:
            sys.exit(f"instant {instant}: wrong")
        if is_done:
            print(instant - every)
            return


def go_on(home: Home) -> None:
    """What was killed left nothing wrong, and its successor leaves nothing over."""
    check(home, is_settled=False)
    collect(home, ROUNDS)
    check(home, is_settled=True)


def be_killed(home: Home, instant: int) -> None:
    kill_at(instant)
    collect(home, ROUNDS)


def kill_at(instant: int) -> None:
    """Every step has two instants: before and after it."""
    passed = 0

    def pass_one() -> None:
        nonlocal passed
        passed += 1
        if passed == instant:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            pass_one()
            result = function(*arguments, **named)
            pass_one()
            return result

        return step

    for name in STEPS:
        setattr(os, name, deadly(getattr(os, name)))

    class Deadly:
        """DuckDB's connection: the steps are the files it writes."""

        def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
            self._connection = connection

        def execute(self, sql: str, *arguments: Any) -> Any:
            execute = self._connection.execute
            return (deadly(execute) if sql.startswith("COPY") else execute)(sql, *arguments)

    connect = converter.connect
    converter.connect = lambda **named: Deadly(connect(**named))  # type: ignore


def in_child(act: Callable[..., object], *arguments: object) -> int:
    """Exit status of a child that did it; negative: the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act(*arguments)
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
