"""A load balancer in memory whose trouble is scripted: the double for tests of everyone else."""

import threading
from collections.abc import Collection

from havre.domain.errors import Unavailable
from havre.domain.route import Route


class FakeBalancer:
    """Remembers every table it was given.

    ``tables`` are the tables that went live, oldest first; ``replaced`` the routes from before
    that it still knows, by deployment.
    """

    def __init__(self) -> None:
        self.tables: list[dict[str, Route]] = []
        self.replaced: dict[str, list[Route]] = {}
        self._routes: dict[str, Route] = {}
        self._in_flight: dict[str, int] = {}
        self._failures: list[bool] = []
        self._late: dict[str, Route | None] = {}
        self._lock = threading.Lock()

    def publish(self, route: Route) -> None:
        with self._lock:
            self._change(route.deployment_id, route)

    def withdraw(self, deployment_id: str) -> None:
        with self._lock:
            self._change(deployment_id, None)

    def current(self, deployment_id: str) -> Route | None:
        with self._lock:
            return self._routes.get(deployment_id)

    def is_settled(self, deployment_id: str) -> bool:
        with self._lock:
            return deployment_id not in self._late

    def deployments(self) -> set[str]:
        with self._lock:
            return set(self._routes)

    def active_requests(self, instance_ids: Collection[str]) -> dict[str, int]:
        with self._lock:
            return {
                instance_id: self._in_flight.get(instance_id, 0) for instance_id in instance_ids
            }

    def retire(self, deployment_id: str, *, alive: Collection[str]) -> None:
        with self._lock:
            old = self.replaced.pop(deployment_id, [])
            current = self._routes.get(deployment_id)
            draining = set(alive) - (_instances(current) if current else set())
            if kept := [route for route in old if _instances(route) & draining]:
                self.replaced[deployment_id] = kept

    def fail_next(self, count: int = 1, *, live: bool = False) -> None:
        """Let the next ``count`` publications raise Unavailable; ``live``: yet take effect.

        Those that do not take effect are late: `catch_up` lets them, unless others came after.
        """
        with self._lock:
            self._failures += [live] * count

    def catch_up(self) -> None:
        """What is late goes live."""
        with self._lock:
            for deployment_id, route in list(self._late.items()):
                self._go_live(deployment_id, route)

    def hold_requests(self, instance_id: str, count: int) -> None:
        """Pretend that this many requests are in flight to the instance, until the next call."""
        with self._lock:
            self._in_flight[instance_id] = count

    def _change(self, deployment_id: str, route: Route | None) -> None:
        if not self._failures:
            self._go_live(deployment_id, route)
            return
        if self._failures.pop(0):
            self._go_live(deployment_id, route)
        else:
            self._late[deployment_id] = route
        raise Unavailable("the load balancer did not confirm the change in time; publish again")

    def _go_live(self, deployment_id: str, route: Route | None) -> None:
        self._late.pop(deployment_id, None)
        replaced = self._routes.get(deployment_id)
        if route == replaced:
            return
        if replaced is not None:
            self.replaced.setdefault(deployment_id, []).append(replaced)
        others = {key: kept for key, kept in self._routes.items() if key != deployment_id}
        self._routes = others if route is None else {**others, deployment_id: route}
        self.tables.append(self._routes)


def _instances(route: Route) -> set[str]:
    return {endpoint.instance_id for part in route.parts for endpoint in part.endpoints}
