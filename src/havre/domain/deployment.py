"""What a deployment should be, and the identity of its revisions."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from havre.domain.shape import ShapeChoice

DEFAULT_BANDWIDTH_MBPS = 10
NO_CAP_MBPS = 8000
"""The largest bandwidth that can be requested; nothing is held back then."""


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """The desired configuration of one deployment, as far as running it is concerned.

    ``bandwidth_mbps`` and ``instance_count`` may change without new copies; a change of any other
    field makes another revision.
    """

    model_id: str
    artifact_digest: str
    shape: ShapeChoice
    instance_count: int = 1
    bandwidth_mbps: int = DEFAULT_BANDWIDTH_MBPS
    maximum_bandwidth_mbps: int | None = None
    environment_variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def copies(self) -> int:
        """Copies per instance: ``WEB_CONCURRENCY``, or two per OCPU."""
        stated = self.environment_variables.get("WEB_CONCURRENCY", "")
        return int(stated) if stated else self.shape.default_copies

    @property
    def revision(self) -> str:
        """Twelve hex digits that name everything an instance is started from."""
        identity = {
            "artifact": self.artifact_digest,
            "model": self.model_id,
            "shape": asdict(self.shape),
            "variables": dict(sorted(self.environment_variables.items())),
        }
        text = json.dumps(identity, sort_keys=True).encode()
        return hashlib.sha256(text).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "DeploymentSpec":
        return cls(**{**stored, "shape": ShapeChoice(**stored["shape"])})
