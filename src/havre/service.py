"""The control plane, put together: everything is built here, started in order, stopped in reverse.

``python -m havre.service --home DIR`` is what the supervisor runs.
"""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from havre.api.app import create_app
from havre.api.services import Services
from havre.auth.identity import Identity, load_or_create
from havre.auth.keyring import Keyring
from havre.balancer.access_log import Rotation
from havre.balancer.admin import Admin
from havre.balancer.envoy import EnvoyBalancer
from havre.balancer.resources import Limits
from havre.catalog.artifacts import ArtifactStore
from havre.catalog.unpacked import Unpacker
from havre.engines.process import ProcessEngine
from havre.environments import Environments
from havre.home import Home
from havre.reconciler.loop import Reconciler
from havre.reconciler.preparation import Preparer
from havre.reconciler.record import Recorder
from havre.settings import Settings, load_settings
from havre.store import model_artifacts
from havre.store.database import Database, sqlite_url
from havre.store.schema import Project
from havre.supervisor.client import Supervisor

GRACE_S = 5
"""What requests to the API get when the control plane is asked to end."""

logger = logging.getLogger(__name__)


def serve(home: Home, settings: Settings) -> None:
    """Run the control plane until it is told to end."""
    with ExitStack() as stack:
        database = Database(settings.database_url or sqlite_url(home.database))
        stack.callback(database.close)
        database.migrate()
        identity = load_or_create(home)
        _ensure_default_project(database, identity)
        artifacts = ArtifactStore(home.artifacts)
        artifacts.sweep()
        with database.write() as session:
            model_artifacts.release(session, artifacts.delete)
        keys = Keyring(home, identity).encoded if settings.auth == "oci" else None
        balancer = EnvoyBalancer(home, limits=Limits.behind(settings), keys=keys)
        balancer.start()
        stack.callback(balancer.stop)
        rotation = Rotation(
            home.access_log, Admin(home.admin_socket), max_mb=settings.access_log_mb
        )
        rotation.start()
        stack.callback(rotation.stop)
        reconciler = _make_reconciler(home, settings, database, artifacts, balancer, identity)
        services = Services(
            database=database,
            artifacts=artifacts,
            settings=settings,
            home=home,
            identity=identity,
            base_url=lambda: _base_url(home),
            wake=reconciler.wake,
            clock=_now,
        )
        app = create_app(services)
        reconciler.start()
        stack.callback(reconciler.stop)
        logger.info("the control plane serves %s", _base_url(home))
        uvicorn.run(
            app,
            uds=str(home.api_socket),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )


def _make_reconciler(
    home: Home,
    settings: Settings,
    database: Database,
    artifacts: ArtifactStore,
    balancer: EnvoyBalancer,
    identity: Identity,
) -> Reconciler:
    recorder = Recorder(database, _now)
    environments = Environments(home, settings)
    unpacker = Unpacker(artifacts, home.unpacked)
    unpacker.sweep()

    def make_preparer(wake: Callable[[str], None]) -> Preparer:
        return Preparer(unpacker, environments, recorder, wake)

    return Reconciler(
        database=database,
        engine=ProcessEngine(home, Supervisor(home.supervisor_socket)),
        balancer=balancer,
        recorder=recorder,
        make_preparer=make_preparer,
        settings=settings,
        tenancy_id=identity.tenancy_ocid,
    )


def _ensure_default_project(database: Database, identity: Identity) -> None:
    with database.write() as session:
        if session.get(Project, identity.project_ocid) is None:
            session.add(
                Project(
                    id=identity.project_ocid,
                    compartment_id=identity.tenancy_ocid,
                    created_by=identity.user_ocid,
                    time_created=_now(),
                    display_name="default",
                    description="The project that exists from the start.",
                )
            )


def _base_url(home: Home) -> str:
    """Where clients reach us: the supervisor knows, and writes it down."""
    url: str = json.loads(home.server_file.read_text())["url"]
    return url


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m havre.service")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--release", default="", help="told by `havre up`, shown by ps")
    home = Home(parser.parse_args().home.absolute())
    settings = load_settings(home.root)
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # uvicorn raises the signal that ended it once more: by default that kills before the clean-up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        serve(home, settings)
    except SystemExit:
        logging.shutdown()
        os._exit(0)  # an environment that is being built in a thread would be waited for


if __name__ == "__main__":
    main()
