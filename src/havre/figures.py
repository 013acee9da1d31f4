"""What every deployment is doing: its figures of now, from Monitoring's responses."""

from collections.abc import Mapping
from dataclasses import dataclass

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
    "held_percent": f"100 * PredictHeldBack[1m]{_BY}.sum() / PredictRequestCount[1m]{_BY}.sum()",
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


@dataclass(frozen=True, slots=True)
class CurrentFigures:
    """Of one deployment. None: no such figure, as it gets no requests or does not run."""

    id: str
    name: str
    state: str
    requests_per_s: float | None
    errors_percent: float | None
    held_percent: float | None
    p50_ms: float | None
    p99_ms: float | None
    copies_ready: float | None
    copies_busy: float | None
    waiting: float | None
    cpu_percent: float | None
    memory_percent: float | None


def current_figures(client: Client, now: float) -> list[CurrentFigures]:
    """Of every deployment, by name. ``now`` is seconds since the epoch. Raises ApiError."""
    begin = now // STEP_S * STEP_S - INTERVAL_S
    figures = {
        name: _figures(client, query, begin - SETTLED_S) for name, query in _REQUESTS.items()
    }
    figures |= {name: _figures(client, query, begin) for name, query in _NOW.items()}
    return [
        CurrentFigures(
            row["id"],
            row["displayName"],
            row["lifecycleState"],
            **{name: by_id.get(row["id"]) for name, by_id in figures.items()},
        )
        for row in sorted(client.deployments(), key=lambda row: row["displayName"])
    ]


def _figures(client: Client, query: str, begin: float) -> Mapping[str, float]:
    """The value of the interval that begins then, by deployment."""
    series: list[Resource] = client.summarize_metrics(
        query, start=begin, end=begin + STEP_S, resolution=f"{STEP_S}s"
    )
    return {row["dimensions"][RESOURCE]: row["aggregatedDatapoints"][0]["value"] for row in series}
