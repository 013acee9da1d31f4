"""The API over a real, empty database: in this process, or behind uvicorn on a loopback port."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from havre.api.app import create_app
from havre.api.services import Services
from havre.auth.identity import OciIdentity
from havre.catalog.artifacts import ArtifactStore
from havre.domain.lease import Role
from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import ProjectState
from havre.home import Home
from havre.reserve import Reserve
from havre.settings import load_settings
from havre.store import logs
from havre.store.database import Database
from havre.store.schema import Project
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.metrics.control_plane import ControlPlaneMetrics
from havre.telemetry.metrics.store import MetricStore
from havre.telemetry.search.log_search import LogSearch


@dataclass
class Clock:
    """A clock that a test moves by hand; each reading is a millisecond after the last."""

    now: datetime = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> datetime:
        with self._lock:
            self.now += timedelta(milliseconds=1)
            return self.now

    def advance(self, **by: float) -> None:
        with self._lock:
            self.now += timedelta(**by)


@dataclass
class Api:
    """``client`` speaks to the application in this process; ``woken`` collects the hints."""

    services: Services
    client: TestClient
    clock: Clock
    woken: list[str]

    @property
    def compartment_id(self) -> str:
        return self.services.identity.tenancy_ocid

    @property
    def project_id(self) -> str:
        return self.services.identity.project_ocid

    @property
    def database(self) -> Database:
        return self.services.database


def make_services(
    database: Database, root: Path, *, clock: Callable[[], datetime], woken: list[str]
) -> Services:
    """Services over a migrated database, with a default project and the built-in logs in it."""
    home = Home(root)
    home.make()
    identity = OciIdentity(new_ocid(Kind.TENANCY), new_ocid(Kind.USER), new_ocid(Kind.PROJECT))
    with database.write() as session:
        session.add(
            Project(
                id=identity.project_ocid,
                compartment_id=identity.tenancy_ocid,
                created_by=identity.user_ocid,
                time_created=clock(),
                display_name="default",
                lifecycle_state=ProjectState.ACTIVE,
            )
        )
        logs.ensure_built_in(session, identity, clock())
    return Services(
        database=database,
        artifacts=ArtifactStore(home.artifacts),
        settings=load_settings(root, environ={}),
        home=home,
        identity=identity,
        base_url=lambda: "http://127.0.0.1:8080",
        role=lambda: Role.HOLDER,
        wake=woken.append,
        clock=clock,
        metrics=MetricStore(home),
        control_plane_metrics=ControlPlaneMetrics(),
        log_search=LogSearch(LogReader(home), tenancy=identity.tenancy_ocid),
        reserve=Reserve(home.reserve),
    )


@pytest.fixture
def api(database: Database, tmp_path: Path) -> Iterator[Api]:
    clock, woken = Clock(), []
    services = make_services(database, tmp_path / "home", clock=clock, woken=woken)
    with TestClient(create_app(services), base_url="http://127.0.0.1") as client:
        yield Api(services, client, clock, woken)


@contextlib.contextmanager
def serving(services: Services) -> Iterator[str]:
    """The API behind uvicorn on a port the system picks; yields its URL."""
    config = uvicorn.Config(create_app(services), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "uvicorn ended before it had started"
            assert time.monotonic() < deadline, "uvicorn did not start within 60 s"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
