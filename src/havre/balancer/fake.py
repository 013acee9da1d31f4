"""A load balancer in memory whose trouble is scripted: the double for tests of everyone else."""

import threading

from havre.domain.errors import Unavailable
from havre.domain.route import Route


class FakeBalancer:
    """Remembers every table it was given.

    ``tables`` are the tables that went live, oldest first; ``retiring`` the deployments of which it
    still knows what was routed before.
    """

    def __init__(self) -> None:
        self.tables: list[dict[str, Route]] = []
        self.retiring: set[str] = set()
        self._routes: dict[str, Route] = {}
        self._in_flight: dict[str, int] = {}
        self._failures: list[bool] = []
        self._lock = threading.Lock()

    def publish(self, route: Route) -> None:
        with self._lock:
            changed = {**self._routes, route.deployment_id: route}
            self._go_live(changed)

    def withdraw(self, deployment_id: str) -> None:
        with self._lock:
            changed = {key: route for key, route in self._routes.items() if key != deployment_id}
            self._go_live(changed)

    def current(self, deployment_id: str) -> Route | None:
        with self._lock:
            return self._routes.get(deployment_id)

    def deployments(self) -> set[str]:
        with self._lock:
            return set(self._routes)

    def active_requests(self, instance_id: str) -> int:
        with self._lock:
            return self._in_flight.get(instance_id, 0)

    def retire(self, deployment_id: str) -> None:
        with self._lock:
            self.retiring.discard(deployment_id)

    def fail_next(self, count: int = 1, *, live: bool = False) -> None:
        """Let the next ``count`` publications raise Unavailable; ``live``: yet take effect."""
        with self._lock:
            self._failures += [live] * count

    def hold_requests(self, instance_id: str, count: int) -> None:
        """Pretend that this many requests are in flight to the instance, until told otherwise."""
        with self._lock:
            self._in_flight[instance_id] = count

    def _go_live(self, changed: dict[str, Route]) -> None:
        failing = bool(self._failures)
        live = self._failures.pop(0) if failing else True
        if live and changed != self._routes:
            self.retiring |= {
                key for key, route in self._routes.items() if changed.get(key) != route
            }
            self._routes = changed
            self.tables.append(changed)
        if failing:
            raise Unavailable("the load balancer did not confirm the change in time; publish again")
