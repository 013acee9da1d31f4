"""The current values of the metrics: counts since the start, and the last samples.

The telemetry process keeps them in one file; the control plane reads it to show them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from havre.domain.latency import Latency
from havre.home import Home

FAMILIES = ("2xx", "3xx", "4xx", "5xx", "none")
"""Statuses by first digit; ``none``: the client closed the connection before there was one."""


@dataclass(slots=True)
class DeploymentFigures:
    """Counts only grow, those of instances that are gone included. ``observed_ms`` is when it last
    had a route or an instance; ``bandwidth_mbps`` is 0 without a route. Gauges are 0 without an
    instance.
    """

    observed_ms: int = 0
    bandwidth_mbps: int = 0
    requests: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAMILIES, 0))
    latency: Latency = field(default_factory=Latency)
    bytes_in: int = 0
    bytes_out: int = 0
    held: int = 0
    model_latency: Latency = field(default_factory=Latency)
    restarts: int = 0
    cpu_s: float = 0.0
    instances: int = 0
    copies: int = 0
    ready: int = 0
    busy: int = 0
    waiting: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    cpus: float = 0.0

    def reset_gauges(self) -> None:
        """Before a collection, which sets those that are still there."""
        self.bandwidth_mbps = 0
        self.instances = self.copies = self.ready = self.busy = self.waiting = 0
        self.memory_bytes = self.memory_limit_bytes = 0
        self.cpus = 0.0

    def to_json(self) -> dict[str, Any]:
        values = {_key(entry.name): getattr(self, entry.name) for entry in fields(self)}
        return values | {name: _latency_json(values[name]) for name in _LATENCIES}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "DeploymentFigures":
        keys = {entry.name: _key(entry.name) for entry in fields(cls)}
        known = {name: stored[key] for name, key in keys.items() if key in stored}
        return cls(**known | {name: _latency(stored[name]) for name in _LATENCIES})


_LATENCIES = ("latency", "model_latency")
_KEYS = {"observed_ms": "seen_ms"}
"""Of fields that are stored under other names than their own."""


def _key(name: str) -> str:
    return _KEYS.get(name, name)


@dataclass(slots=True)
class Figures:
    """``deployments`` by OCID. ``unrouted`` are requests that led to none. ``counters`` are those
    of ``telemetry/counters.py`` by counter and label. ``collected_ms``: when all this was last
    collected, epoch ms.
    """

    collected_ms: int = 0
    unrouted: int = 0
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    deployments: dict[str, DeploymentFigures] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "looked_ms": self.collected_ms,
            "unrouted": self.unrouted,
            "counters": self.counters,
            "deployments": {key: figures.to_json() for key, figures in self.deployments.items()},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Figures":
        return cls(
            int(stored["looked_ms"]),
            int(stored["unrouted"]),
            {name: dict(labels) for name, labels in stored.get("counters", {}).items()},
            {
                key: DeploymentFigures.from_json(stored_figures)
                for key, stored_figures in stored["deployments"].items()
            },
        )


def state_file(home: Home) -> Path:
    return home.telemetry / "metrics" / "state.json"


def read_figures(home: Home) -> Figures:
    """Those of the last collection; empty if there was none, or another version wrote the file.

    Raises OSError when the file cannot be read.
    """
    try:
        return Figures.from_json(json.loads(state_file(home).read_bytes())["figures"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Figures()


def _latency_json(latency: Latency) -> dict[str, Any]:
    return {"counts": latency.counts, "total_s": latency.total_s}


def _latency(stored: Mapping[str, Any]) -> Latency:
    return Latency(tuple(stored["counts"]), float(stored["total_s"]))
