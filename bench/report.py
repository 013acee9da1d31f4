"""Tables in Markdown from a run's results: medians, and ratios within the run."""

import math
from collections.abc import Sequence

from bench.results import Results

BASELINES = ("granian", "fastapi")
"""Servers that the others are compared with, if they took part."""
MOST = 64
CLOSED = ("echo", "iris", "wide")
OPEN = ("steady", "flood", "slow")
LIMIT = "in-process-"
OPEN_COLUMNS = {
    "answered/s": ("per_second", 1),
    "p50 ms": ("p50_ms", 1),
    "p90 ms": ("p90_ms", 1),
    "p99 ms": ("p99_ms", 1),
    "most ms": ("most_ms", 1),
    "refused": ("refused", 0),
    "refusal p99 ms": ("refused_p99_ms", 1),
    "sent late p99 ms": ("late_p99_ms", 2),
}
"""Of open loops: heading to field of a result, and its decimals."""


def report(results: Results, titles: dict[str, str]) -> str:
    """The whole page. ``titles``: of servers and workloads, by name."""
    parts = ["# Results", _machine(results)]
    done = results.workloads()
    closed = [one for one in CLOSED if one in done]
    if closed:
        parts += ["## Throughput and cost", _overview(results, closed, titles)]
    parts += [f"## {titles[one]}\n\n{_closed(results, one, titles)}" for one in closed]
    parts += [f"## {titles[one]}\n\n{_open(results, one, titles)}" for one in OPEN if one in done]
    parts.append(_errors(results, titles))
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others figures."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, marks, *rows))


def figure(value: float, digits: int = 0) -> str:
    """With thousands set apart; empty for what was not measured."""
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def _machine(results: Results) -> str:
    first = results.lines[0]
    rounds = 1 + max((one.get("round", 0) for one in results.lines), default=0)
    return (
        f"{first['date']}; {first['cores']} cores ({first['processor']}), "
        f"{first['memory_gb']} GB, Linux {first['kernel']}; load generator on the same cores; "
        f"medians of {rounds} interleaved rounds of {first['seconds']} s; two workers each."
    )


def _overview(results: Results, workloads: Sequence[str], titles: dict[str, str]) -> str:
    """Requests a second at the most connections, and ratios to the baselines."""
    bases = [base for base in BASELINES if base in results.servers()]
    header = ["server", *(f"{titles[one]} req/s" for one in workloads)]
    header += [f"{one} × {titles[base]}" for one in workloads for base in bases]
    rows = []
    for server in _servers(results, workloads):
        at = {"connections": 0 if server.startswith(LIMIT) else MOST}
        row = [titles.get(server, server)]
        row += [figure(results.median(server, one, "per_second", **at)) for one in workloads]
        row += [
            figure(results.ratio(server, base, one, "per_second", **at), 2)
            for one in workloads
            for base in bases
        ]
        rows.append(row)
    return table(header, rows)


def _closed(results: Results, workload: str, titles: dict[str, str]) -> str:
    counts = results.connections(workload)
    header = ["server"]
    header += [f"{count} conn. req/s" for count in counts]
    header += [f"{count} conn. p50 ms" for count in counts]
    header += [f"{count} conn. p99 ms" for count in counts]
    header += ["CPU-s per 1,000", "PSS MB", "processes", "not correct"]
    rows = []
    for server in _servers(results, [workload]):

        def at(count: int, field: str, server: str = server) -> float:
            return results.median(server, workload, field, connections=count)

        row = [titles.get(server, server)]
        if server.startswith(LIMIT):
            blank = [""] * (3 * len(counts) - 1)
            row += [figure(at(0, "per_second")), *blank, figure(at(0, "cpu_per_1000"), 3)]
            rows.append([*row, "", "", ""])
            continue
        row += [figure(at(count, "per_second")) for count in counts]
        row += [figure(at(count, "p50_ms"), 2) for count in counts]
        row += [figure(at(count, "p99_ms"), 2) for count in counts]
        most = counts[-1]
        row += [
            figure(at(most, "cpu_per_1000"), 3),
            figure(at(most, "pss_mb")),
            figure(at(most, "processes")),
            _not_correct(results, server, workload),
        ]
        rows.append(row)
    return table(header, rows)


def _open(results: Results, workload: str, titles: dict[str, str]) -> str:
    header = ["server", *OPEN_COLUMNS, "not correct"]
    rows = [
        [
            titles.get(server, server),
            *(
                figure(results.median(server, workload, field), digits)
                for field, digits in OPEN_COLUMNS.values()
            ),
            _not_correct(results, server, workload),
        ]
        for server in _servers(results, [workload])
    ]
    return table(header, rows)


def _not_correct(results: Results, server: str, workload: str) -> str:
    """Wrong and failed answers over all rounds: what must be nothing."""
    counts = [
        sum(one.get(field) or 0 for one in results.lines if _is(one, server, workload))
        for field in ("wrong", "failed")
    ]
    return "0" if counts == [0, 0] else f"{counts[0]:,} wrong, {counts[1]:,} failed"


def _is(line: dict[str, object], server: str, workload: str) -> bool:
    return line.get("server") == server and line.get("workload") == workload


def _servers(results: Results, workloads: Sequence[str]) -> list[str]:
    """Those that have figures for one of these workloads."""
    return [
        server
        for server in results.servers()
        if any(results.values(server, one, "per_second") for one in workloads)
    ]


def _errors(results: Results, titles: dict[str, str]) -> str:
    parts = []
    for server, told in results.errors().items():
        parts += [f"### {titles.get(server, server)}", *(f"```text\n{one}\n```" for one in told)]
    return "\n\n".join(["## Not measured", *parts]) if parts else ""
