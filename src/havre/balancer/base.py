"""The contract of a load balancer: the routes it serves, changed without losing a request."""

from collections.abc import Collection
from typing import Protocol

from havre.domain.route import Route


class Balancer(Protocol):
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
        """Whether `current` is all there is to say.

        False while something else was asked for and is not confirmed: it may go live at any time,
        until another publication or withdrawal is confirmed.
        """

    def deployments(self) -> set[str]:
        """Every deployment that has a route."""

    def active_requests(self, instance_id: str) -> int:
        """Requests the balancer has in flight to the instance, routed to it or not any more."""

    def retire(self, deployment_id: str, *, alive: Collection[str]) -> None:
        """Forget what was routed before the current route and has drained: the routes of which no
        instance is ``alive`` any more, but for those that are in the current route too. A request
        whose body is still coming in was promised to one of them: it is served by the current
        route.
        """
