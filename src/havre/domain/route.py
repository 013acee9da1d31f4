"""Which instances get a deployment's traffic."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from havre.domain.address import UNIX, Address, parse


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """The one address of an instance."""

    instance_id: str
    address: Address


@dataclass(frozen=True, slots=True)
class CanaryShare:
    """``percent`` (1 to 99) of a deployment's requests go to another revision's instances."""

    revision: str
    endpoints: tuple[Endpoint, ...]
    max_requests: int
    percent: int


@dataclass(frozen=True, slots=True)
class Route:
    """A deployment's place in the load balancer.

    ``max_requests`` bounds the requests inside (waiting ones included) over all endpoints; one more
    is answered 429. A route without endpoints answers 503. ``is_idempotent``: a prediction may be
    sent once more when the copy dies that has it.
    """

    deployment_id: str
    revision: str
    endpoints: tuple[Endpoint, ...]
    max_requests: int
    bandwidth_mbps: int
    is_idempotent: bool = False
    canary: CanaryShare | None = None

    @property
    def cluster(self) -> str:
        """Names the endpoint set: the same endpoints and limit, the same cluster."""
        identity = [
            self.deployment_id,
            self.revision,
            # Without its kind, which the path of a socket shows: as named before there were others.
            sorted(
                (endpoint.instance_id, str(endpoint.address).removeprefix(UNIX))
                for endpoint in self.endpoints
            ),
            self.max_requests,
        ]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]

    @property
    def parts(self) -> tuple["Route", ...]:
        """A route for each revision that has traffic: the one that serves, then the canary's."""
        if self.canary is None:
            return (self,)
        serving = replace(self, canary=None)
        return serving, replace(
            serving,
            revision=self.canary.revision,
            endpoints=self.canary.endpoints,
            max_requests=self.canary.max_requests,
        )

    def to_json(self) -> dict[str, object]:
        stored = asdict(self)
        stored["endpoints"] = _endpoints_to_json(self.endpoints)
        if self.canary is not None:
            stored["canary"]["endpoints"] = _endpoints_to_json(self.canary.endpoints)
        return stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Route":
        """From what `to_json` returned."""
        canary = stored.get("canary")
        return cls(
            **{
                **stored,
                "endpoints": _endpoints_from_json(stored["endpoints"]),
                "canary": canary
                and CanaryShare(
                    **{**canary, "endpoints": _endpoints_from_json(canary["endpoints"])}
                ),
            }
        )


def _endpoints_to_json(endpoints: tuple[Endpoint, ...]) -> list[dict[str, str]]:
    return [
        {"instance_id": endpoint.instance_id, "address": str(endpoint.address)}
        for endpoint in endpoints
    ]


def _endpoints_from_json(rows: list[dict[str, str]]) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(row["instance_id"], parse(_address_in(row))) for row in rows)


def _address_in(row: dict[str, str]) -> str:
    """Before there were other addresses, the path of the socket was stored."""
    return row["address"] if "address" in row else f"{UNIX}{row['socket']}"
