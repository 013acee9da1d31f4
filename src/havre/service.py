"""The control plane, put together: everything is built here, started in order, stopped in reverse.

``python -m havre.service --home DIR`` is what the supervisor runs.
"""

import argparse
import json
import logging
import os
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from havre.api.app import create_app
from havre.api.services import Services
from havre.auth.identity import Identity, home_id, settle
from havre.auth.keyring import Keyring
from havre.balancer.envoy import EnvoyBalancer
from havre.balancer.resources import Limits
from havre.catalog.artifacts import ArtifactStore
from havre.catalog.unpacked import Unpacker
from havre.domain.errors import HavreError, SettingInvalid
from havre.domain.lease import TERM_S, Applicant
from havre.engines.process import ProcessEngine
from havre.environments import Environments
from havre.home import Home
from havre.reconciler.fence import Fence, FencedBalancer, FencedDatabase, FencedEngine, clock_s
from havre.reconciler.loop import Reconciler
from havre.reconciler.preparation import Preparer
from havre.reconciler.record import Recorder
from havre.reconciler.standby import Retreat
from havre.reconciler.succession import Succession
from havre.settings import Settings, load_settings
from havre.store import identities, logs, model_artifacts
from havre.store.database import Database, sqlite_url
from havre.supervisor.client import Supervisor
from havre.telemetry.log_search import LogSearch
from havre.telemetry.metrics.own import OwnMetrics
from havre.telemetry.metrics.store import MetricStore
from havre.telemetry.retention import Days, Telling
from havre.telemetry.store import LogStore

GRACE_S = 5
"""What requests to the API get when the control plane is asked to end."""
KEEP_ALIVE_S = 60
"""Long after the balancer would have closed an idle connection. Had the balancer no processor or no
memory for a few seconds, we would hang up just as it uses the connection again."""

logger = logging.getLogger(__name__)


def serve(home: Home, settings: Settings) -> None:
    """Run the control plane until it is told to end. Raises HavreError when it cannot begin."""
    with ExitStack() as stack:
        database = Database(settings.database_url or sqlite_url(home.database))
        stack.callback(database.close)
        database.migrate()
        identity = settle(home, lambda own: _settle(database, own))
        artifacts = ArtifactStore(_artifact_folder(home, settings))
        artifacts.sweep()
        with database.write() as session:
            model_artifacts.release(session, artifacts.delete)
        keys = Keyring(home, identity).encoded if settings.auth == "oci" else None
        balancer = EnvoyBalancer(home, limits=Limits.behind(settings), keys=keys)
        balancer.start()
        stack.callback(balancer.stop)
        metrics = MetricStore(home)
        stack.callback(metrics.close)
        own_metrics = OwnMetrics()
        succession = _make_succession(
            home, settings, database, artifacts, balancer, identity, own_metrics
        )
        retention = Telling(home, lambda: _retention(database, identity))
        retention.start()
        stack.callback(retention.stop)
        log_store = LogStore(home)
        stack.callback(log_store.close)
        services = Services(
            database=database,
            artifacts=artifacts,
            settings=settings,
            home=home,
            identity=identity,
            base_url=lambda: succession.url,
            role=lambda: succession.role,
            wake=succession.wake,
            clock=_now,
            metrics=metrics,
            own_metrics=own_metrics,
            log_search=LogSearch(log_store, tenancy=identity.tenancy_ocid),
        )
        app = create_app(services)
        succession.start()
        stack.callback(succession.stop)
        logger.info("the control plane serves %s", _base_url(home))
        uvicorn.run(
            app,
            uds=str(home.api_socket),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )


def _make_succession(
    home: Home,
    settings: Settings,
    database: Database,
    artifacts: ArtifactStore,
    balancer: EnvoyBalancer,
    identity: Identity,
    own_metrics: OwnMetrics,
) -> Succession:
    engine = ProcessEngine(home, Supervisor(home.supervisor_socket))
    environments = Environments(home, settings, own_metrics.saw_build)
    unpacker = Unpacker(artifacts, home.unpacked)
    unpacker.sweep()
    own_id = home_id(home)
    # A file of SQLite is this home's alone.
    term_s = None if database.is_sqlite else TERM_S

    def make_reconciler(fence: Fence) -> Reconciler:
        recorder = Recorder(FencedDatabase(database, fence), _now)
        return Reconciler(
            database=database,
            engine=FencedEngine(engine, fence),
            balancer=FencedBalancer(balancer, fence),
            recorder=recorder,
            fence=fence,
            make_preparer=lambda wake: Preparer(unpacker, environments, recorder, wake),
            settings=settings,
            tenancy_id=identity.tenancy_ocid,
            on_pass=own_metrics.saw_pass,
        )

    return Succession(
        database,
        applicant=lambda: Applicant(own_id, _base_url(home), term_s),
        make_reconciler=make_reconciler,
        make_retreat=lambda: Retreat(
            engine, balancer, drain_timeout_s=settings.drain_timeout_s, clock=clock_s
        ),
    )


def _settle(database: Database, own: Identity | None) -> Identity:
    with database.write() as session:
        return identities.settle(session, own, now=_now())


def _retention(database: Database, identity: Identity) -> Days:
    with database.read() as session:
        return logs.retention(session, tenancy=identity.tenancy_ocid)


def _artifact_folder(home: Home, settings: Settings) -> Path:
    """Raises SettingInvalid: a folder that is not there is one that was not mounted."""
    if not settings.artifact_store:
        return home.artifacts
    folder = Path(settings.artifact_store)
    if not folder.is_absolute() or not folder.is_dir():
        raise SettingInvalid(
            f"artifact_store {folder} is not the absolute path of a folder that exists: make it, "
            "or mount it, first"
        )
    return folder


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
    except HavreError as error:
        logger.critical("the control plane cannot begin: %s", error.message)
        logging.shutdown()
        os._exit(1)
    except SystemExit:
        logging.shutdown()
        os._exit(0)  # an environment that is being built in a thread would be waited for


if __name__ == "__main__":
    main()
