"""What the API is handed: everything it works with, made elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from havre.auth.identity import OciIdentity
from havre.catalog.artifacts import ArtifactStore
from havre.domain.capacity import Machine
from havre.domain.lease import Role
from havre.home import Home
from havre.machine import measure_machine
from havre.reserve import Reserve
from havre.settings import Settings
from havre.store.database import Database
from havre.telemetry.metrics.control_plane import ControlPlaneMetrics
from havre.telemetry.metrics.store import MetricStore
from havre.telemetry.search.log_search import LogSearch


@dataclass(frozen=True, slots=True)
class Services:
    """``base_url`` is where deployments are served, without a slash at its end; ``role`` is that of
    this control plane among those of its database; ``wake`` hints that a deployment (by id) has
    changed: the leader election passes it to the reconciler while this is the holder; a holder
    elsewhere finds out by itself. ``clock`` is the moment, with its zone. ``metrics`` are those
    that the telemetry process keeps, ``control_plane_metrics`` the control plane's. ``reserve`` is
    for changes that make room on a full disk.
    """

    database: Database
    artifacts: ArtifactStore
    settings: Settings
    home: Home
    identity: OciIdentity
    base_url: Callable[[], str]
    role: Callable[[], Role]
    wake: Callable[[str], None]
    clock: Callable[[], datetime]
    metrics: MetricStore
    control_plane_metrics: ControlPlaneMetrics
    log_search: LogSearch
    reserve: Reserve
    machine: Machine = field(default_factory=measure_machine)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Deps = Annotated[Services, Depends(_services)]
