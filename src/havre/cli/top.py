"""`havre top`: what every deployment is doing, from Monitoring's answers."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.live import Live

from havre.cli import output
from havre.cli.connection import HomeOption, connect, home_of
from havre.cli.output import JsonOption
from havre.client import Client, Resource
from havre.domain.metrics import RESOURCE

INTERVAL_S = 60
STEP_S = 10
SETTLED_S = 30
"""By then all requests of a moment are counted."""

_BY = f".groupBy({RESOURCE})"
_REQUESTS = {
    "requests_per_s": f"PredictRequestCount[1m]{_BY}.sum() / {INTERVAL_S}",
    "errors_percent": f'100 * PredictResponse[1m]{{result = "Failure"}}{_BY}.sum() '
    f"/ PredictRequestCount[1m]{_BY}.sum()",
    "p50_ms": f"PredictLatency[1m]{_BY}.percentile(0.5)",
    "p99_ms": f"PredictLatency[1m]{_BY}.percentile(0.99)",
}
_NOW = {
    "copies_ready": f"CopiesReady[1m]{_BY}.last()",
    "copies_busy": f"CopiesBusy[1m]{_BY}.last()",
    "waiting": f"QueueDepth[1m]{_BY}.last()",
    "cpu_percent": f"CpuUtilization[1m]{_BY}.mean()",
    "memory_percent": f"MemoryUtilization[1m]{_BY}.mean()",
}
COLUMNS = (
    *("name", "state", "requests/s", "errors", "p50", "p99"),
    *("copies", "busy", "waiting", "cpu", "memory"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """None: there is no such figure, of a deployment that nobody asks or that does not run."""

    id: str
    name: str
    state: str
    requests_per_s: float | None
    errors_percent: float | None
    p50_ms: float | None
    p99_ms: float | None
    copies_ready: float | None
    copies_busy: float | None
    waiting: float | None
    cpu_percent: float | None
    memory_percent: float | None

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            self.state,
            _shown(self.requests_per_s, "{:.1f}"),
            _shown(self.errors_percent, "{:.1f} %"),
            _shown(self.p50_ms, "{:.1f} ms"),
            _shown(self.p99_ms, "{:.1f} ms"),
            _shown(self.copies_ready, "{:.0f}"),
            _shown(self.copies_busy, "{:.0f}"),
            _shown(self.waiting, "{:.0f}"),
            _shown(self.cpu_percent, "{:.1f} %"),
            _shown(self.memory_percent, "{:.1f} %"),
        )


def register(app: typer.Typer) -> None:
    app.command()(top)


def top(
    once: Annotated[bool, typer.Option("--once", help="Print the table and end.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 5.0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what every deployment is doing, again and again, until Ctrl-C.

    Requests, errors and times are those of a minute, which ended half a minute ago; CPU and memory
    are of what the shapes have. Once if the output is no terminal.
    """
    client = connect(home_of(home))
    if as_json:
        output.print_json([asdict(row) for row in look(client, time.time())])
    elif once or not output.console.is_terminal:
        rows = [row.cells() for row in look(client, time.time())]
        output.print_table(COLUMNS, rows, fold=False)
    else:
        try:
            _watch(client, every)
        except KeyboardInterrupt:
            pass


def look(client: Client, now: float) -> list[Row]:
    """``now`` is seconds since the epoch. Raises ApiError."""
    began = now // STEP_S * STEP_S - INTERVAL_S
    figures = {
        name: _figures(client, query, began - SETTLED_S) for name, query in _REQUESTS.items()
    }
    figures |= {name: _figures(client, query, began) for name, query in _NOW.items()}
    return [
        Row(
            row["id"],
            row["displayName"],
            row["lifecycleState"],
            **{name: of_all.get(row["id"]) for name, of_all in figures.items()},
        )
        for row in sorted(client.deployments(), key=lambda row: row["displayName"])
    ]


def _watch(client: Client, every_s: float) -> None:
    with Live(console=output.console, auto_refresh=False, screen=True) as live:
        while True:
            rows = [row.cells() for row in look(client, time.time())]
            live.update(output.make_table(COLUMNS, rows), refresh=True)
            time.sleep(every_s)


def _figures(client: Client, query: str, began: float) -> Mapping[str, float]:
    """The value of the one interval that begins then, by deployment."""
    series: list[Resource] = client.summarize_metrics(
        query, start=began, end=began + STEP_S, resolution=f"{STEP_S}s"
    )
    return {
        each["dimensions"][RESOURCE]: each["aggregatedDatapoints"][0]["value"] for each in series
    }


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
