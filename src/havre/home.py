"""Where everything of a home lies. The layout is documented in docs/reference/home.md.

Sockets live in a run folder that is elsewhere (under the system's temporary folder) when the home
is so deep that a socket's path would not fit the kernel's 107 bytes.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_LIMIT = 107
MAX_SOCKET_NAME = len("/i/") + 12 + len(".sock")


def default_home() -> Path:
    """``$HAVRE_HOME``, else ``/var/lib/havre`` for root and ``~/.havre`` for everyone else."""
    if stated := os.environ.get("HAVRE_HOME"):
        return Path(stated).expanduser().absolute()
    return Path("/var/lib/havre") if os.geteuid() == 0 else Path.home() / ".havre"


@dataclass(frozen=True, slots=True)
class Home:
    """The folders and files of one home; nothing here creates them but ``make``."""

    root: Path

    @property
    def run(self) -> Path:
        inside = self.root / "run"
        if len(str(inside)) + MAX_SOCKET_NAME <= SOCKET_PATH_LIMIT:
            return inside
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"havre-{os.geteuid()}-{digest}"

    @property
    def api_socket(self) -> Path:
        return self.run / "api.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def balancer_socket(self) -> Path:
        """The load balancer's admin interface."""
        return self.run / "load-balancer.sock"

    @property
    def feed_socket(self) -> Path:
        """Where the load balancer asks for what its files hold, if it cannot watch them."""
        return self.run / "feed.sock"

    @property
    def instance_sockets(self) -> Path:
        return self.run / "i"

    def control_socket(self, instance_id: str) -> Path:
        """Where an instance's keeper answers."""
        return self.instance_sockets / f"{instance_id}.ctl"

    @property
    def processes(self) -> Path:
        """The supervisor's record of each process: what adoption compares."""
        return self.root / "processes"

    @property
    def server_file(self) -> Path:
        """Host, port and URL in force."""
        return self.root / "server.json"

    @property
    def kept_settings(self) -> Path:
        """The settings that the control plane has begun with."""
        return self.root / "settings.json"

    @property
    def names(self) -> Path:
        """What the deployments that are reconciled here are called."""
        return self.root / "names.json"

    @property
    def id_file(self) -> Path:
        """What distinguishes this home from the others of its database."""
        return self.root / "home_id"

    @property
    def database(self) -> Path:
        return self.root / "havre.sqlite3"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def metrics_token(self) -> Path:
        """What Prometheus sends where every call must be signed."""
        return self.keys / "metrics_token"

    @property
    def artifacts(self) -> Path:
        """Artifact bytes by digest, unless the setting `artifact_store` names another folder."""
        return self.root / "artifacts"

    @property
    def unpacked(self) -> Path:
        """Unpacked artifacts by digest, read-only."""
        return self.root / "unpacked"

    @property
    def environments(self) -> Path:
        return self.root / "environments"

    @property
    def instances(self) -> Path:
        """A folder per instance: its spec, state and temporary files."""
        return self.root / "instances"

    @property
    def trash(self) -> Path:
        """Folders of instances that are gone, until they are removed."""
        return self.root / "trash"

    @property
    def reserve(self) -> Path:
        """Disk that is kept for deletes and deactivations when nothing else is left of it."""
        return self.root / "reserve"

    @property
    def balancer(self) -> Path:
        """What the load balancer starts from, and the files by which it gets its routes."""
        return self.root / "load-balancer"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def messages(self) -> Path:
        """All of each message that was too long for whom it was for."""
        return self.logs / "messages"

    @property
    def instance_logs(self) -> Path:
        """What instances print; `domain.instance_logs` says by which names."""
        return self.logs / "instances"

    @property
    def access_log(self) -> Path:
        """A line per request to a deployment. The load balancer writes it."""
        return self.logs / "access.jsonl"

    @property
    def telemetry(self) -> Path:
        """Logs and metrics that are kept. The telemetry process writes there, and nobody else."""
        return self.root / "telemetry"

    @property
    def lib(self) -> Path:
        """The code of ours that runs beside a model's, by digest: running copies keep theirs."""
        return self.root / "lib"

    def make(self) -> None:
        """Create the folders, readable by their owner only. Raises OSError.

        As root, models run as other users: they may pass through what lies on their way, and list
        nothing.
        """
        for folder in (
            self.root,
            self.run,
            self.instance_sockets,
            self.processes,
            self.keys,
            self.artifacts,
            self.unpacked,
            self.environments,
            self.instances,
            self.trash,
            self.lib,
            self.balancer,
            self.logs,
            self.telemetry,
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            for folder in (
                self.root,
                self.unpacked,
                self.environments,
                self.instances,
                self.lib,
            ):
                folder.chmod(0o711)
