"""The control plane, put together: everything is built here, started in order, stopped in reverse.

``python -m havre.service --home DIR`` is what the supervisor runs.
"""

import argparse
import logging
import os
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from havre import kept_settings
from havre.api.app import create_app
from havre.api.services import Services
from havre.auth.identity import OciIdentity, home_id
from havre.auth.keyring import Keyring
from havre.balancer.base import Balancer, OpenTo, Timeouts
from havre.balancer.registry import running_balancer
from havre.catalog.artifacts import ArtifactStore
from havre.catalog.unpacked import Unpacker
from havre.domain.errors import HavreError, SettingInvalid
from havre.domain.lease import TERM_S, Candidate
from havre.engines.base import Engine
from havre.engines.members import Members
from havre.engines.registry import make_engine
from havre.environments import Environments
from havre.home import Home
from havre.messages import fit
from havre.reconciler.deps import Deps, Hooks
from havre.reconciler.fence import Fence, FencedBalancer, FencedDatabase, FencedEngine, clock_s
from havre.reconciler.housekeeping import Housekeeping
from havre.reconciler.leader_election import LeaderElection
from havre.reconciler.loop import Reconciler
from havre.reconciler.preparation import Preparer
from havre.reconciler.record import Recorder
from havre.reconciler.standby import StandbyDrain
from havre.reserve import Reserve
from havre.settings import Settings, load_settings
from havre.store import beginning, logs, model_artifacts
from havre.store.database import Database, sqlite_url
from havre.store.names import Names
from havre.supervisor import server_file
from havre.supervisor.client import SupervisorClient
from havre.supervisor.protocol import CANNOT_BEGIN, SERVES
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.files.retention import Days, RetentionPublisher
from havre.telemetry.metrics.control_plane import ControlPlaneMetrics
from havre.telemetry.metrics.store import MetricStore
from havre.telemetry.search.log_search import LogSearch

GRACE_S = 5
"""What requests to the API get when the control plane is asked to end."""
KEEP_ALIVE_S = 60
"""Long after the balancer would have closed an idle connection. Had the balancer no processor or no
memory for a few seconds, we would hang up just as it uses the connection again."""

logger = logging.getLogger(__name__)


def serve(home: Home, settings: Settings) -> None:
    """Run the control plane until it is asked to end. Raises HavreError when it cannot begin."""
    with ExitStack() as stack:
        kept_settings.check(home, settings)
        database = Database(settings.database_url or sqlite_url(home.database))
        stack.callback(database.close)
        beginning.check(home, database)
        identity = beginning.begin(home, database, now=_now())
        try:
            kept_settings.keep(home, settings)
        except OSError as error:  # on a full disk it must begin all the same: to make room
            logger.warning("what this home was begun with is not kept: %s", error)
        artifacts = ArtifactStore(_artifact_folder(home, settings))
        artifacts.sweep()
        with database.write() as session:
            model_artifacts.release(session, artifacts.delete)
        keys = Keyring(home, identity).encoded if settings.auth == "oci" else None
        balancer = stack.enter_context(
            running_balancer(
                home,
                timeouts=Timeouts.behind(settings),
                keys=keys,
                open_to=_open_to(home, settings),
            )
        )
        metrics = MetricStore(home)
        stack.callback(metrics.close)
        control_plane_metrics = ControlPlaneMetrics()
        reserve = Reserve(home.reserve)
        engine = make_engine(settings, home)
        election = _make_election(
            home,
            settings,
            database,
            artifacts,
            balancer,
            identity,
            control_plane_metrics,
            engine,
            reserve,
        )
        housekeeping = Housekeeping(
            home,
            engine,
            Members(home, SupervisorClient(home.supervisor_socket)),
            reserve,
            max_mb=settings.instance_disk_mb,
        )
        housekeeping.start()
        stack.callback(housekeeping.stop)
        retention = RetentionPublisher(home, lambda: _retention(database, identity))
        retention.start()
        stack.callback(retention.stop)
        log_reader = LogReader(home)
        stack.callback(log_reader.close)
        services = Services(
            database=database,
            artifacts=artifacts,
            settings=settings,
            home=home,
            identity=identity,
            base_url=lambda: election.url,
            role=lambda: election.role,
            wake=election.wake,
            clock=_now,
            metrics=metrics,
            control_plane_metrics=control_plane_metrics,
            log_search=LogSearch(log_reader, tenancy=identity.tenancy_ocid),
            reserve=reserve,
        )
        app = create_app(services)
        election.start()
        stack.callback(election.stop)
        logger.info("%s %s", SERVES, _base_url(home))
        uvicorn.run(
            app,
            uds=str(home.api_socket),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )


def _make_election(
    home: Home,
    settings: Settings,
    database: Database,
    artifacts: ArtifactStore,
    balancer: Balancer,
    identity: OciIdentity,
    control_plane_metrics: ControlPlaneMetrics,
    engine: Engine,
    reserve: Reserve,
) -> LeaderElection:
    environments = Environments(home, settings, control_plane_metrics.observe_build)
    unpacker = Unpacker(artifacts, home.unpacked)
    unpacker.sweep()
    own_id = home_id(home)
    names = Names(home)
    # A file of SQLite is this home's alone.
    term_s = None if database.is_sqlite else TERM_S

    def make_reconciler(fence: Fence) -> Reconciler:
        recorder = Recorder(
            FencedDatabase(database, fence), _now, lambda message: fit(message, home.messages)
        )
        deps = Deps(
            database=database,
            engine=FencedEngine(engine, fence),
            balancer=FencedBalancer(balancer, fence),
            recorder=recorder,
            fence=fence,
            settings=settings,
            tenancy_id=identity.tenancy_ocid,
        )
        hooks = Hooks(
            on_pass=control_plane_metrics.observe_pass,
            on_stuck=control_plane_metrics.observe_stuck_passes,
            make_room=reserve.release,
            on_named=names.set_name,
            on_listed=names.keep_only,
        )
        return Reconciler(
            deps,
            make_preparer=lambda wake: Preparer(unpacker, environments, recorder, wake),
            hooks=hooks,
        )

    return LeaderElection(
        database,
        candidate=lambda: Candidate(own_id, _base_url(home), term_s),
        make_reconciler=make_reconciler,
        make_standby_drain=lambda: StandbyDrain(
            engine,
            balancer,
            drain_timeout_s=settings.drain_timeout_s,
            stream_total_s=settings.stream_total_s,
            clock=clock_s,
        ),
    )


def _retention(database: Database, identity: OciIdentity) -> Days:
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
    url: str = server_file.read(home)["url"]
    return url


def _open_to(home: Home, settings: Settings) -> OpenTo:
    about = server_file.read(home)
    return OpenTo(about["port"], about["host"], tuple(settings.allowed_hosts))


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m havre.service")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--release", default="", help="passed by `havre up`, shown by ps")
    home = Home(parser.parse_args().home.absolute())
    try:
        settings = load_settings(home.root)
    except HavreError as error:
        sys.exit(f"{CANNOT_BEGIN} {error.message}")
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
        logger.critical("%s %s", CANNOT_BEGIN, error.message)
        logging.shutdown()
        os._exit(1)
    except SystemExit:
        logging.shutdown()
        os._exit(0)  # an environment that is being built in a thread would be waited for


if __name__ == "__main__":
    main()
