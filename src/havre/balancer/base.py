"""What everybody else knows of a load balancer: its routes, its process, and what they are given.

No implementation is named outside this room.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from havre.domain.address import Address
from havre.domain.route import Route
from havre.settings import Settings
from havre.supervisor.protocol import ProcessSpec


class Balancer(Protocol):
    """The routes it serves, changed without losing a request."""

    def publish(self, route: Route) -> None:
        """Make this the route of its deployment; return when it is confirmed live.

        New endpoints are warm before traffic goes to them; the endpoints of the route it replaces
        finish the requests they have. Concurrent calls for different deployments are published
        together. Raises Unavailable when it could not be confirmed in time: the change may or may
        not be live, and publishing again is right.
        """

    def withdraw(self, deployment_id: str) -> None:
        """Route the deployment nowhere (404 from now on); return when confirmed. Idempotent."""

    def current(self, deployment_id: str) -> Route | None:
        """The route last confirmed live, also by an earlier control plane of this home."""

    def is_settled(self, deployment_id: str) -> bool:
        """Whether `current` is the whole truth.

        False while something else was asked for and is not confirmed: it may go live at any time,
        until another publication or withdrawal is confirmed.
        """

    def deployments(self) -> set[str]:
        """Every deployment that has a route."""

    def active_requests(self, instance_ids: Collection[str]) -> dict[str, int]:
        """Requests the balancer has in flight to each of the instances, routed to it or not any
        more. Raises Unavailable.
        """

    def retire(self, deployment_id: str, *, alive: Collection[str]) -> None:
        """Forget what was routed before the current route and has drained: the routes of which no
        instance is ``alive`` any more, but for those that are in the current route too. A request
        whose body is still coming in was promised to one of them: it is served by the current
        route.
        """


@dataclass(frozen=True, slots=True)
class OpenTo:
    """Who may call without a signature: whoever names this machine, its own web pages included.

    ``port`` is the server's own (0: it has no web pages). ``host`` is the name or address that it
    listens on. ``names`` are further hosts, at which something in front of it may serve its pages
    on any port.
    """

    port: int = 0
    host: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The balancer's own, in seconds: backstops a little behind the copies' own.

    The SDK's own timeout for a prediction is 60.
    """

    predict_s: float = 59.0
    stream_idle_s: float = 65.0
    stream_total_s: float = 305.0

    @classmethod
    def behind(cls, settings: Settings) -> "Timeouts":
        return cls(
            predict_s=settings.predict_timeout_s + 1,
            stream_idle_s=settings.stream_idle_s + 5,
            stream_total_s=settings.stream_total_s + 5,
        )


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Companion:
    """A process of ours that a load balancer needs beside it: ``python -m MODULE --home HOME``.

    ``listen`` are Unix sockets that the supervisor binds and passes to it as descriptors.
    """

    name: str
    module: str
    listen: tuple[str, ...] = ()


class BalancerProcess(Protocol):
    """The process of a home's load balancer, for who starts it and who measures it.

    It needs no control plane, and reads what the last one published.
    """

    def prepare(
        self,
        settings: Settings,
        *,
        host: str,
        port: int,
        open_to: OpenTo,
        is_running: bool,
    ) -> tuple[Companion, ...]:
        """Write what the process starts from; returns what it needs beside it.

        Routes of an earlier start hold until the control plane publishes others, but for routes
        that asked for no signature where one is required now. One that ``is_running`` keeps the
        companions that it has. Raises OSError.
        """

    def spec(self, settings: Settings) -> ProcessSpec:
        """How the supervisor runs it: under the name ``BALANCER``, once it was prepared. Raises
        Unavailable if its program is not there.
        """

    def routes(self) -> Mapping[str, Route]:
        """What it was last asked to serve, by deployment. Raises Unavailable."""

    def active_requests(self) -> Mapping[Address, int]:
        """Requests in flight by the address of the endpoint. Raises Unavailable."""

    def failed_writes(self) -> int:
        """How many writes of the access log have failed since it started. Raises Unavailable."""

    def reopen_logs(self) -> None:
        """Have it continue in new files where its logs were renamed. Raises Unavailable."""
