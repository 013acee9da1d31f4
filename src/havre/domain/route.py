"""Who gets a deployment's traffic."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """The one address of an instance: its Unix socket."""

    instance_id: str
    socket: Path


@dataclass(frozen=True, slots=True)
class Route:
    """A deployment's place in the load balancer.

    ``max_requests`` bounds the requests inside (waiting ones included) over all endpoints; one more
    is answered 429. A route without endpoints answers 503.
    """

    deployment_id: str
    revision: str
    endpoints: tuple[Endpoint, ...]
    max_requests: int
    bandwidth_mbps: int

    @property
    def cluster(self) -> str:
        """Names the endpoint set: the same endpoints and limit, the same cluster."""
        identity = [
            self.deployment_id,
            self.revision,
            sorted((endpoint.instance_id, str(endpoint.socket)) for endpoint in self.endpoints),
            self.max_requests,
        ]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]

    def to_json(self) -> dict[str, object]:
        stored = asdict(self)
        stored["endpoints"] = [
            {"instance_id": endpoint.instance_id, "socket": str(endpoint.socket)}
            for endpoint in self.endpoints
        ]
        return stored

    @classmethod
    def from_json(cls, stored: dict[str, object]) -> "Route":
        endpoints = stored["endpoints"]
        assert isinstance(endpoints, list)
        return cls(
            **{  # type: ignore[arg-type]
                **stored,
                "endpoints": tuple(
                    Endpoint(row["instance_id"], Path(row["socket"])) for row in endpoints
                ),
            }
        )
