"""`havre top`: what every deployment is doing."""

import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.live import Live

from havre.cli import output, role
from havre.cli.home_option import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.client import Client
from havre.figures import CurrentFigures, current_figures
from havre.operate.connection import connect

COLUMNS = (
    *("name", "state", "requests/s", "errors", "held back", "p50", "p99"),
    *("copies", "busy", "waiting", "cpu", "memory"),
)


def register(app: typer.Typer) -> None:
    app.command()(top)


def top(
    once: Annotated[bool, typer.Option("--once", help="Print the table once and exit.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Refresh interval in seconds.")] = 5.0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what every deployment is doing, refreshed until Ctrl-C.

    Requests, errors and latencies cover the minute that ended 30 seconds ago. Requests count as
    held back when the deployment's bandwidth limit slowed them down or refused them (--bandwidth).
    CPU and memory are shares of the shape. Prints once when the output is not a terminal.
    """
    client = connect(home_of(home))
    role.warn_if_standby(client, "figures of requests, copies and processors")
    if as_json:
        output.print_json([asdict(row) for row in current_figures(client, time.time())])
    elif once or not output.console.is_terminal:
        rows = [_cells(row) for row in current_figures(client, time.time())]
        output.print_table(COLUMNS, rows, fold=False)
    else:
        try:
            _watch(client, every)
        except KeyboardInterrupt:
            pass


def _watch(client: Client, every_s: float) -> None:
    with Live(console=output.console, auto_refresh=False, screen=True) as live:
        while True:
            rows = [_cells(row) for row in current_figures(client, time.time())]
            live.update(output.make_table(COLUMNS, rows), refresh=True)
            time.sleep(every_s)


def _cells(row: CurrentFigures) -> tuple[str, ...]:
    return (
        row.name,
        row.state,
        _shown(row.requests_per_s, "{:.1f}"),
        _shown(row.errors_percent, "{:.1f} %"),
        _shown(row.held_percent, "{:.1f} %"),
        _shown(row.p50_ms, "{:.1f} ms"),
        _shown(row.p99_ms, "{:.1f} ms"),
        _shown(row.copies_ready, "{:.0f}"),
        _shown(row.copies_busy, "{:.0f}"),
        _shown(row.waiting, "{:.0f}"),
        _shown(row.cpu_percent, "{:.1f} %"),
        _shown(row.memory_percent, "{:.1f} %"),
    )


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
