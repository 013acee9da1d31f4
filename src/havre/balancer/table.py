"""What was published and what was confirmed: the state that a later control plane takes over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from havre.domain.route import Route


@dataclass(frozen=True, slots=True)
class Table:
    """The routes in Envoy's files, and the steps that are not finished.

    ``unconfirmed`` has, for each deployment whose route in ``routes`` Envoy has not confirmed yet,
    the route confirmed before it (None: it had none). ``retiring`` are routes replaced, whose
    requests may still be in flight.
    """

    routes: Mapping[str, Route] = field(default_factory=dict)
    unconfirmed: Mapping[str, Route | None] = field(default_factory=dict)
    retiring: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)

    def confirmed(self, deployment_id: str) -> Route | None:
        if deployment_id in self.unconfirmed:
            return self.unconfirmed[deployment_id]
        return self.routes.get(deployment_id)

    def deployments(self) -> set[str]:
        """Those with a confirmed route, and those with one on its way."""
        return set(self.routes) | {key for key, route in self.unconfirmed.items() if route}

    def needed(self) -> list[Route]:
        """Every route whose endpoints Envoy must know."""
        before = [route for route in self.unconfirmed.values() if route]
        old = [route for routes in self.retiring.values() for route in routes]
        return [*self.routes.values(), *before, *old]

    def change(self, changes: Mapping[str, Route | None]) -> "Table":
        """With these routes (None: none), to be confirmed."""
        routes = dict(self.routes)
        unconfirmed = dict(self.unconfirmed)
        retiring = dict(self.retiring)
        for deployment_id, route in changes.items():
            replaced = routes.pop(deployment_id, None)
            if replaced != route:
                unconfirmed.setdefault(deployment_id, replaced)
            if route is not None:
                routes[deployment_id] = route
            if replaced is not None and (route is None or replaced.cluster != route.cluster):
                retiring[deployment_id] = (*retiring.get(deployment_id, ()), replaced)
        return Table(routes, unconfirmed, retiring)

    def confirm(self) -> "Table":
        """With everything it has confirmed."""
        return Table(self.routes, {}, self.retiring)

    def retire(self, deployment_ids: set[str]) -> "Table":
        """Without what was routed before, of these deployments."""
        kept = {key: old for key, old in self.retiring.items() if key not in deployment_ids}
        return Table(self.routes, self.unconfirmed, kept)

    def to_json(self) -> dict[str, Any]:
        return {
            "routes": [route.to_json() for route in self.routes.values()],
            "unconfirmed": {
                key: route and route.to_json() for key, route in self.unconfirmed.items()
            },
            "retiring": {
                key: [route.to_json() for route in old] for key, old in self.retiring.items()
            },
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Table":
        routes = [Route.from_json(row) for row in stored["routes"]]
        return cls(
            {route.deployment_id: route for route in routes},
            {key: row and Route.from_json(row) for key, row in stored["unconfirmed"].items()},
            {
                key: tuple(Route.from_json(row) for row in rows)
                for key, rows in stored["retiring"].items()
            },
        )
