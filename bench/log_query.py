"""How long questions to the logs take, and what keeping them costs.

    python -m bench.log_query [--entries 1000000] [--deployments 3] [--repeats 5]

Writes lines as the load balancer does, over one day, has them converted and merged as the telemetry
process does, then asks what people ask. Prints medians of milliseconds; the first question of all,
which loads the library, is told apart.
"""

import argparse
import json
import random
import resource
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from havre.domain.logs import Category
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.telemetry import layout
from havre.telemetry.collecting import Tally
from havre.telemetry.conversion import Converter
from havre.telemetry.store import LogStore
from havre.telemetry.upkeep import LOOK_MS, Upkeep

DAY_MS = 86_400_000
BEGAN_MS = 1_795_564_800_000
AT_ONCE = 20_000
"""Entries in a closed file: ten seconds of two thousand requests a second."""
SMALL = 200
"""The last entries came slowly: so many in each of the files that are not merged yet."""

QUESTIONS = {
    "the latest hundred": "SELECT * FROM entries ORDER BY time DESC LIMIT 100",
    "failures, the latest hundred": "SELECT * FROM entries WHERE status >= 500 "
    "ORDER BY time DESC LIMIT 100",
    "one request by its id": "SELECT * FROM entries WHERE request = ?",
    "a word in the message": "SELECT count(*) FROM entries WHERE contains(message, 'predictW')",
    "requests and p99 per minute": "SELECT time // 60000 AS minute, count(*), "
    "quantile_cont(total_ms, 0.99) FROM entries GROUP BY minute ORDER BY minute",
    "requests per status and revision": "SELECT status, revision, count(*) FROM entries "
    "GROUP BY ALL ORDER BY ALL",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--deployments", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.make()
        deployments = [new_ocid(Kind.DEPLOYMENT) for _ in range(options.deployments)]
        fill(home, deployments, options.entries)
        measure(home, deployments, options.repeats)


def fill(home: Home, deployments: list[str], entries: int) -> None:
    converter = Converter(home, Tally())
    keeper = Upkeep(home, converter, retention_days=10**5, most_bytes=10**10)
    place = layout.closed_folder(home, Category.ACCESS, "")
    place.mkdir()
    written, number, spent, size = 0, BEGAN_MS, 0.0, 0
    step_ms = DAY_MS / entries
    while written < entries:
        count = min(AT_ONCE if written < entries - 60 * SMALL else SMALL, entries - written)
        number += 1
        closed = place / layout.closed_name(number)
        closed.write_text("".join(lines(deployments, written, count, step_ms)))
        size += closed.stat().st_size
        began = time.process_time()
        converter.convert(Category.ACCESS, closed, number)
        keeper.collect(BEGAN_MS + (number - BEGAN_MS) * LOOK_MS)
        spent += time.process_time() - began
        written += count
    files = list(place.rglob("*.parquet"))
    kept = sum(path.stat().st_size for path in files)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{entries:,} entries: {size / 1e6:,.0f} MB of lines, {kept / 1e6:,.1f} MB kept")
    print(f"in {len(files)} files; {spent / entries * 1e6:.2f} µs of CPU an entry to keep them")
    print(f"this process had {memory:.0f} MB at most")
    converter.close()


def lines(deployments: list[str], first: int, count: int, step_ms: float) -> Iterator[str]:
    chance = random.Random(first)
    for each in range(first, first + count):
        at = datetime.fromtimestamp((BEGAN_MS + each * step_ms) / 1000, UTC)
        deployment = deployments[each % len(deployments)]
        took_us = int(chance.lognormvariate(6, 0.5))
        verb = "predict" if each % 50 else "predictWithResponseStream"
        yield (
            json.dumps(
                {
                    "id": str(uuid.UUID(int=chance.getrandbits(128))),
                    "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "deployment": deployment,
                    "request": f"{chance.getrandbits(128):032X}",
                    "method": "POST",
                    "path": f"/{deployment}/{verb}",
                    "protocol": "HTTP/1.1",
                    "status": 500 if chance.random() < 0.001 else 200,
                    "flags": "-",
                    "total_ms": took_us // 1000 + 1,
                    "copy_us": took_us + 150,
                    "bytes_in": 60,
                    "bytes_out": chance.randrange(40, 60),
                    "copy": f"8b1f0c7a55d2/{each % 4}/3c9d02e1aa70/{took_us}",
                },
                separators=(",", ":"),
            )
            + "\n"
        )


def measure(home: Home, deployments: list[str], repeats: int) -> None:
    store = LogStore(home)

    def ask(sql: str, *parameters: str, wanted: list[str] | None) -> float:
        began = time.perf_counter()
        store.query(
            sql,
            parameters,
            category=Category.ACCESS,
            deployments=wanted,
            time_from_ms=BEGAN_MS,
            time_to_ms=BEGAN_MS + DAY_MS,
        )
        return (time.perf_counter() - began) * 1000

    print(f"first question: {ask('SELECT count(*) FROM entries', wanted=None):.0f} ms")
    [request] = store.query(
        "SELECT request FROM entries LIMIT 1 OFFSET 1000",
        category=Category.ACCESS,
        deployments=deployments[:1],
        time_from_ms=BEGAN_MS,
        time_to_ms=BEGAN_MS + DAY_MS,
    ).rows
    for wanted, whose in ((None, "all deployments"), (deployments[:1], "one deployment")):
        for what, sql in QUESTIONS.items():
            parameters = list(request) if "?" in sql else []
            times = [ask(sql, *parameters, wanted=wanted) for _ in range(repeats)]
            print(f"{what}, {whose}: {median(times):.0f} ms")


if __name__ == "__main__":
    main()
