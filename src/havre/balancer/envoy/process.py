"""The Envoy of a home as a process: how it is started, and what it reports of itself."""

from collections.abc import Mapping

from havre.balancer.base import Companion, OpenTo, Timeouts
from havre.balancer.envoy import watching
from havre.balancer.envoy.admin import Admin
from havre.balancer.envoy.bootstrap import envoy_process, polls_feed, write_bootstrap
from havre.balancer.envoy.files import Files
from havre.balancer.envoy.table import read_table
from havre.domain.address import Address
from havre.domain.route import Route
from havre.home import Home
from havre.settings import Settings
from havre.supervisor.protocol import BALANCER, ProcessSpec, Restart

FEED = "feed"


class EnvoyProcess:
    """Implements `havre.balancer.base.BalancerProcess`."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._files = Files(home)
        self._admin = Admin(home.balancer_socket)

    def prepare(
        self,
        settings: Settings,
        *,
        host: str,
        port: int,
        open_to: OpenTo,
        is_running: bool,
    ) -> tuple[Companion, ...]:
        # An Envoy that runs goes on as it began: it knows no other source.
        watches = not (polls_feed(self._home) if is_running else watching.obstacle())
        write_bootstrap(
            self._home,
            host=host,
            port=port,
            timeouts=Timeouts.behind(settings),
            is_signed=settings.auth == "oci",
            open_to=open_to,
            watches=watches,
        )
        return () if watches else (self._feed(),)

    def spec(self, settings: Settings) -> ProcessSpec:
        argv, environment = envoy_process(self._home, settings)
        return ProcessSpec(
            name=BALANCER,
            argv=argv,
            environment=environment,
            folder=str(self._home.root),
            log=str(self._home.logs / f"{BALANCER}.log"),
            restart=Restart.ALWAYS,
            batch_scheduling=True,
        )

    def routes(self) -> Mapping[str, Route]:
        return read_table(self._files).routes

    def active_requests(self) -> Mapping[Address, int]:
        return self._admin.active_requests()

    def failed_writes(self) -> int:
        return self._admin.failed_writes()

    def reopen_logs(self) -> None:
        self._admin.reopen_logs()

    def _feed(self) -> Companion:
        return Companion(FEED, "havre.balancer.envoy.feed", (str(self._home.feed_socket),))
