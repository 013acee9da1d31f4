"""Draw a run's results: ``python -m bench.plots FOLDER``, in the suite's own environment.

Reads results.jsonl and titles.json there; writes throughput.png, cost.png, memory.png, tail.png.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.measure import CURVE
from bench.report import CLOSED, LIMIT, MOST, OPEN
from bench.results import Lines, Results

OURS, OTHERS, UNREACHABLE = "#0b6e99", "#9aa5ad", "#d9c27e"
DPI = 130


def main() -> None:
    folder = Path(sys.argv[1])
    results = Results(Lines(folder / "results.jsonl").all())
    titles = json.loads((folder / "titles.json").read_text(encoding="utf-8"))
    closed = [one for one in CLOSED if one in results.workloads()]
    bars = (
        ("throughput", "per_second", "requests a second, 64 connections (more is better)"),
        ("cost", "cpu_per_1000", "CPU seconds per 1,000 requests (less is better)"),
        ("memory", "pss_mb", "memory of all processes, PSS in MB (less is better)"),
    )
    if closed:
        for name, field, label in bars:
            _bars(results, titles, closed, field, label, folder / f"{name}.png")
    tails = [one for one in OPEN if one in results.workloads()]
    if tails:
        _tails(results, titles, tails, folder / "tail.png")


def _bars(
    results: Results,
    titles: dict[str, str],
    workloads: list[str],
    field: str,
    label: str,
    file: Path,
) -> None:
    count = len(results.servers())
    size = (5.2 * len(workloads), 1.2 + 0.32 * count)
    figure, panels = plt.subplots(1, len(workloads), figsize=size, squeeze=False)
    for axes, workload in zip(panels[0], workloads, strict=True):
        _bar_panel(axes, results, titles, workload, field)
    figure.suptitle(label)
    figure.tight_layout()
    figure.savefig(file, dpi=DPI)
    plt.close(figure)


def _bar_panel(
    axes: Axes, results: Results, titles: dict[str, str], workload: str, field: str
) -> None:
    found: list[tuple[str, float]] = []
    for server in results.servers():
        connections = 0 if server.startswith(LIMIT) else MOST
        value = results.median(server, workload, field, connections=connections)
        if value == value:
            found.append((server, value))
    found.sort(key=lambda pair: pair[1], reverse=field != "per_second")
    colours = [_colour(server) for server, _ in found]
    drawn = axes.barh(
        [titles.get(server, server) for server, _ in found],
        [value for _, value in found],
        color=colours,
    )
    axes.bar_label(drawn, fmt="{:,.3g}" if field == "cpu_per_1000" else "{:,.0f}", padding=3)
    axes.margins(x=0.18)
    axes.set_title(titles[workload], fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _tails(results: Results, titles: dict[str, str], workloads: list[str], file: Path) -> None:
    size = (6.0 * len(workloads), 4.6)
    figure, panels = plt.subplots(1, len(workloads), figsize=size, squeeze=False)
    for axes, workload in zip(panels[0], workloads, strict=True):
        for server in results.servers():
            curve = results.curve(server, workload)
            if curve:
                is_ours = server.startswith("havre")
                axes.plot(
                    curve,
                    CURVE[: len(curve)],
                    label=titles.get(server, server),
                    linewidth=2.4 if is_ours else 1.1,
                )
        axes.set_xscale("log")
        axes.set_xlabel("milliseconds from when a request was due")
        axes.set_ylabel("% of right answers within it")
        axes.set_title(titles[workload], fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=DPI)
    plt.close(figure)


def _colour(server: str) -> str:
    if server.startswith("havre"):
        return OURS
    return UNREACHABLE if server.startswith(LIMIT) else OTHERS


if __name__ == "__main__":
    main()
