"""What was published and what was confirmed: the state that a later control plane takes over."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from havre.balancer.envoy.files import Files, damaged
from havre.domain.route import Route

ALIAS_S = 65.0
"""A client gets 60 s to send a body; its cluster was chosen when its head came."""


@dataclass(frozen=True, slots=True)
class ClusterAlias:
    """A retired cluster's name goes on, for requests whose bodies were still on the way when it was
    retired: until then (seconds since the epoch) it leads to the deployment's current endpoints.
    """

    deployment_id: str
    until: float


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """The routes in Envoy's files, and the steps that are not finished.

    ``unconfirmed`` has, for each deployment whose route in ``routes`` Envoy has not confirmed yet,
    the route confirmed before it (None: it had none). ``retiring`` are parts of routes replaced, in
    which requests may still be in flight; ``aliases`` are the names of clusters that were retired
    last.
    """

    routes: Mapping[str, Route] = field(default_factory=dict)
    unconfirmed: Mapping[str, Route | None] = field(default_factory=dict)
    retiring: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)
    aliases: Mapping[str, ClusterAlias] = field(default_factory=dict)

    def confirmed(self, deployment_id: str) -> Route | None:
        if deployment_id in self.unconfirmed:
            return self.unconfirmed[deployment_id]
        return self.routes.get(deployment_id)

    def deployments(self) -> set[str]:
        """Those with a confirmed route, and those with one on its way."""
        return set(self.routes) | {key for key, route in self.unconfirmed.items() if route}

    def needed(self) -> list[Route]:
        """The parts of every route whose endpoints Envoy must know."""
        before = [route for route in self.unconfirmed.values() if route]
        live = [part for route in (*self.routes.values(), *before) for part in route.parts]
        return [*live, *(part for parts in self.retiring.values() for part in parts)]

    def aliases_at(self, now: float) -> dict[str, Route]:
        """Names of retired clusters that still lead somewhere, and where to."""
        known = {route.cluster for route in self.needed()}
        return {
            name: self.routes[alias.deployment_id]
            for name, alias in self.aliases.items()
            if alias.until > now and name not in known and alias.deployment_id in self.routes
        }

    def change(self, changes: Mapping[str, Route | None]) -> "RoutingTable":
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
            kept = set() if route is None else {part.cluster for part in route.parts}
            lost = () if replaced is None else replaced.parts
            if lost := tuple(part for part in lost if part.cluster not in kept):
                retiring[deployment_id] = (*retiring.get(deployment_id, ()), *lost)
        return replace(self, routes=routes, unconfirmed=unconfirmed, retiring=retiring)

    def confirm(self) -> "RoutingTable":
        """With everything it has confirmed."""
        return replace(self, unconfirmed={})

    def retire(self, alive: Mapping[str, frozenset[str]], *, now: float) -> "RoutingTable":
        """Without what was routed before, of these deployments, but for routes to one of the
        instances that are still alive and are not routed any more: those are draining. Requests in
        flight to one that is routed still are finished without their old cluster.
        """
        retiring = dict(self.retiring)
        aliases = {name: alias for name, alias in self.aliases.items() if alias.until > now}
        for deployment_id, instances in alive.items():
            current = self.routes.get(deployment_id)
            parts = () if current is None else current.parts
            routed = {endpoint.instance_id for part in parts for endpoint in part.endpoints}
            kept = []
            for old in retiring.pop(deployment_id, ()):
                if any(endpoint.instance_id in instances - routed for endpoint in old.endpoints):
                    kept.append(old)
                else:
                    aliases[old.cluster] = ClusterAlias(deployment_id, now + ALIAS_S)
            if kept:
                retiring[deployment_id] = tuple(kept)
        return replace(self, retiring=retiring, aliases=aliases)

    def to_json(self) -> dict[str, Any]:
        return {
            "routes": [route.to_json() for route in self.routes.values()],
            "unconfirmed": {
                key: route and route.to_json() for key, route in self.unconfirmed.items()
            },
            "retiring": {
                key: [route.to_json() for route in old] for key, old in self.retiring.items()
            },
            "aliases": {name: asdict(alias) for name, alias in self.aliases.items()},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "RoutingTable":
        routes = [Route.from_json(row) for row in stored["routes"]]
        return cls(
            {route.deployment_id: route for route in routes},
            {key: row and Route.from_json(row) for key, row in stored["unconfirmed"].items()},
            {
                key: tuple(Route.from_json(row) for row in rows)
                for key, rows in stored["retiring"].items()
            },
            {name: ClusterAlias(**alias) for name, alias in stored["aliases"].items()},
        )


def read_table(files: Files) -> RoutingTable:
    """What was last published; empty before that. Raises Unavailable for a damaged file."""
    stored = files.read(files.routing_table)
    try:
        return RoutingTable() if stored is None else RoutingTable.from_json(stored)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(files.routing_table, error) from error
