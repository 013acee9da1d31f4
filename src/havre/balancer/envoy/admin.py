"""What Envoy reports of itself, over its admin socket (0600, never a port)."""

import re
import socket
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlencode

from havre.balancer.envoy import resources
from havre.domain.address import TCP, UNIX, Address, parse
from havre.domain.errors import Unavailable

TIMEOUT_S = 5.0

_ACTIVE = re.compile(r"^[0-9a-f]+::(/[^\n]+|\S+:\d+)::rq_active::(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Serving:
    """Versions in force, and how often Envoy has refused what it was given since it started."""

    clusters: str
    routes: str
    warming: int
    refused: int


class Admin:
    """A client of the admin interface. Each call raises Unavailable if Envoy does not respond."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def serving(self) -> Serving:
        """A few counters out of thousands: cheap at any number of deployments."""
        text = self._get(
            "/stats",
            filter=r"version_text$|update_(rejected|failure)$|^cluster_manager\.warming_clusters$",
        )
        stats = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        return Serving(
            clusters=stats.get("cluster_manager.cds.version_text", "").strip('"'),
            routes=stats.get(_RDS_VERSION, "").strip('"'),
            warming=int(stats.get("cluster_manager.warming_clusters", "0")),
            refused=sum(
                int(value)
                for name, value in stats.items()
                if name.endswith((".update_rejected", ".update_failure"))
            ),
        )

    def active_requests(self) -> dict[Address, int]:
        """Requests in flight by the endpoint's address, over all clusters."""
        active: dict[Address, int] = {}
        for text, count in _ACTIVE.findall(self._get("/clusters")):
            address = parse(f"{UNIX}{text}" if text.startswith("/") else f"{TCP}{text}")
            active[address] = active.get(address, 0) + int(count)
        return active

    def is_ready(self) -> bool:
        """Whether it serves; False also when it does not respond."""
        try:
            return self._get("/ready").strip() == "LIVE"
        except Unavailable:
            return False

    def failed_writes(self) -> int:
        """How many writes of its logs have failed since it started."""
        stats = self._get("/stats", filter=r"^filesystem\.write_failed$")
        return int(stats.partition(": ")[2] or 0)

    def reopen_logs(self) -> None:
        """Have it continue in new files where its logs were renamed."""
        self._ask("POST", "/reopen_logs")

    def port(self) -> int:
        """The port it listens on, also where the system chose it."""
        for line in self._get("/listeners").splitlines():
            name, _, address = line.partition("::")
            if name == resources.LISTENER:
                return int(address.rpartition(":")[2])
        raise Unavailable("the load balancer does not listen yet")

    def _get(self, path: str, **query: str) -> str:
        return self._ask("GET", f"{path}?{urlencode(query)}")

    def _ask(self, method: str, target: str) -> str:
        # A connection per call: Envoy may have been restarted since the last one.
        connection = _Connection(self._socket)
        try:
            connection.request(method, target)
            return connection.getresponse().read().decode()
        except (OSError, HTTPException) as error:
            raise Unavailable(
                f"the load balancer's admin socket does not answer: {error}"
            ) from error
        finally:
            connection.close()


class _Connection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


_RDS_VERSION = f"http.{resources.STATS_PREFIX}.rds.{resources.ROUTES}.version_text"
