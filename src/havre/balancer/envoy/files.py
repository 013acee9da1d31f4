"""The files that hold what the load balancer serves.

Envoy takes a file up when it is *moved* into place, so each is written beside and renamed. It
watches the names, not the folder: a change of one is no reason to read the others again.
"""

import json
import re
from pathlib import Path
from typing import Any

from havre.balancer.envoy.resources import Resources
from havre.domain.errors import Unavailable
from havre.durable import write_file
from havre.home import Home

_VERSION = re.compile(r'\{"version_info":"([0-9a-f]+)"')


class Files:
    """Paths below ``home.balancer``, and the one way to write them.

    ``routing_table`` is our own; the others are for Envoy, ``route_configuration`` among them,
    which is derived from it.
    """

    def __init__(self, home: Home) -> None:
        self.bootstrap = home.balancer / "bootstrap.json"
        self.listeners = home.balancer / "listeners.json"
        self.clusters = home.balancer / "clusters.json"
        self.route_configuration = home.balancer / "route_table.json"
        self.routing_table = home.balancer / "routes.json"

    def publish(self, path: Path, published: Resources) -> None:
        """Move the resources into place. Raises OSError, with the old file in place."""
        write_file(path, published.text.encode())

    def write(self, path: Path, content: dict[str, Any]) -> None:
        """Replace the file durably. Raises OSError, with the old file in place."""
        write_file(path, json.dumps(content, separators=(",", ":")).encode())

    def version(self, path: Path) -> str:
        """The version of the resources in the file, from its first bytes; "" if there is none."""
        try:
            with path.open() as file:
                match = _VERSION.match(file.read(100))
        except (OSError, ValueError):
            return ""
        return match[1] if match else ""

    def read(self, path: Path) -> dict[str, Any] | None:
        """The file's object, None where there is none. Raises Unavailable if it is unreadable."""
        try:
            return dict(json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, RecursionError, TypeError, ValueError) as error:
            raise damaged(path, error) from error


def damaged(path: Path, why: Exception) -> Unavailable:
    return Unavailable(
        f"{path} is damaged ({why!r}): remove it; what is deployed is then routed again"
    )
