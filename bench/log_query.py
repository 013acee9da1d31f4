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
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from havre.domain.logs import Category, LogAddress, LogStream
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.queries.log_parser import parse_query
from havre.telemetry.counters import Counters
from havre.telemetry.files import layout
from havre.telemetry.files.compaction import INTERVAL_MS, Compaction
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.search.log_search import LogSearch, SearchResult

TENANCY = new_ocid(Kind.TENANCY)
DAY_MS = 86_400_000
BEGAN_MS = 1_795_564_800_000
AT_ONCE = 20_000
"""Entries in a closed file: ten seconds of two thousand requests a second."""
SMALL = 200
"""The last entries came slowly: so many in each of the files that are not merged yet."""

SEARCHES = {
    "the latest thousand": "| sort by datetime desc",
    "failures": "| where data.status >= 500 | sort by datetime desc",
    "one request by its id": "| where data.opcRequestId = '{request}'",
    "a word in the message": "| where data.message = '*predictWith*' | summarize count()",
    "a word in any field": "| where logContent = '*no such word*'",
    "the slowest thousand": "| sort by data.totalLatency desc",
    "requests and their times a minute": "| summarize count(), avg(data.totalLatency), "
    "max(data.totalLatency) by rounddown(datetime, '1m') as minute | sort by minute",
    "requests per status and revision": "| summarize count() by data.status, data.revision",
}
"""As they come to ``POST /20190909/search``, with its limit of a thousand."""


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
    converter = Converter(home, Counters())
    keeper = Compaction(home, converter, retention_days=10**5, max_bytes=10**10)
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
        keeper.collect(BEGAN_MS + (number - BEGAN_MS) * INTERVAL_MS)
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
    search = LogSearch(LogReader(home), tenancy=TENANCY)
    address = LogAddress(TENANCY, new_ocid(Kind.LOG_GROUP), "group", new_ocid(Kind.LOG), "log")
    streams = [LogStream(each, Category.ACCESS, address, TENANCY) for each in deployments]

    def ask(stages: str, wanted: Sequence[LogStream]) -> tuple[float, SearchResult]:
        query = parse_query(f'search "{TENANCY}" {stages}')
        began = time.perf_counter()
        answer = search.search(
            query, wanted, from_ms=BEGAN_MS, to_ms=BEGAN_MS + DAY_MS, limit=1000, offset=0
        )
        return (time.perf_counter() - began) * 1000, answer

    first, answer = ask("", streams)
    request = answer.rows[0]["logContent"]["data"]["opcRequestId"]
    print(f"first question: {first:.0f} ms")
    for whose, wanted in (("all deployments", streams), ("one deployment", streams[:1])):
        for what, stages in SEARCHES.items():
            asked = stages.format(request=request)
            times = [ask(asked, wanted)[0] for _ in range(repeats)]
            print(f"{what}, {whose}: {median(times):.0f} ms")


if __name__ == "__main__":
    main()
