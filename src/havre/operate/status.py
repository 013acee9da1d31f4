"""What runs in a home, and how well."""

from dataclasses import dataclass, field
from typing import Any

from havre.auth.identity import load_or_create
from havre.auth.signer import Signer
from havre.client import Resource
from havre.domain.errors import EngineFault
from havre.home import Home
from havre.operate import bringup, diagnosis, presence, upgrade
from havre.operate.connection import connect
from havre.supervisor.client import SupervisorClient
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE, TELEMETRY, Phase


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The server of a home; pids are 0 for processes that do not run.

    ``reason``: why it is not healthy. ``behind``: what of it is of another version than this one, a
    sentence each. ``role`` is "holder" or "standby", ``holder`` the URL that serves the
    deployments; both are empty while the server is not healthy.
    """

    home: str
    is_running: bool = False
    healthy: bool = False
    reason: str = ""
    url: str = ""
    version: str = ""
    role: str = ""
    holder: str = ""
    pid: int = 0
    supervisor_pid: int = 0
    balancer_pid: int = 0
    telemetry_pid: int = 0
    deployments: list[Resource] = field(default_factory=list)
    left_running: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "running": self.is_running,
            "healthy": self.healthy,
            "reason": self.reason,
            "home": self.home,
            "url": self.url,
            "version": self.version,
            "role": self.role,
            "holder": self.holder,
            "pid": self.pid,
            "supervisor_pid": self.supervisor_pid,
            "balancer_pid": self.balancer_pid,
            "telemetry_pid": self.telemetry_pid,
            "deployments": [
                {
                    "id": row["id"],
                    "display_name": row["displayName"],
                    "state": row["lifecycleState"],
                    "details": row.get("lifecycleDetails") or "",
                    "url": row["modelDeploymentUrl"],
                }
                for row in self.deployments
            ],
            "left_running": self.left_running,
            "behind": self.behind,
        }


def server_status(home: Home) -> ServerStatus:
    """What runs in a home now. Raises SystemFault, ApiError."""
    about = presence.running(home)
    if about is None:
        return ServerStatus(str(home.root), left_running=presence.left_running(home))
    try:
        processes = SupervisorClient(home.supervisor_socket).list()
    except EngineFault:  # it ended between the two questions
        return ServerStatus(str(home.root), left_running=presence.left_running(home))
    pids = {process.name: process.pid for process in processes if process.phase is Phase.RUNNING}
    trouble = diagnosis.trouble(home, about["url"])
    health = bringup.health(about["url"]) if trouble is None else None
    if health is not None and "version" not in health:
        health = bringup.health(about["url"], Signer(home, load_or_create(home)))
    return ServerStatus(
        home=str(home.root),
        is_running=True,
        healthy=health is not None,
        reason="" if trouble is None else str(trouble),
        url=about["url"],
        version=about["version"],
        role=(health or {}).get("role", ""),
        holder=(health or {}).get("holder", ""),
        pid=pids.get(CONTROL_PLANE, 0),
        supervisor_pid=about["supervisor"]["pid"],
        balancer_pid=pids.get(BALANCER, 0),
        telemetry_pid=pids.get(TELEMETRY, 0),
        deployments=connect(home).explained_deployments() if health is not None else [],
        behind=upgrade.behind(about, processes),
    )
