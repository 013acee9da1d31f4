"""How Envoy learns that one of its files was replaced: it watches, or it polls.

Envoy watches files through inotify, and ends at once where it gets no instance of it: the kernel
gives each user a small number, and some sandboxes have none. Then it polls our feed, which reads
the same files, five times a second.
"""

import ctypes
import os
from pathlib import Path

from havre.balancer.envoy.resources import Json

FEED_CLUSTER = "feed"
POLLED_EVERY_S = 0.2
NEEDED = 8
"""Envoy has one for each kind of resources; the others are for its next start."""

_libc = ctypes.CDLL(None, use_errno=True)


def obstacle() -> str:
    """Why files cannot be watched here; "" where they can."""
    held: list[int] = []
    try:
        for _ in range(NEEDED):
            descriptor = _libc.inotify_init1(os.O_CLOEXEC)
            if descriptor < 0:
                return f"no more instances to be had: {os.strerror(ctypes.get_errno())}"
            held.append(descriptor)
    finally:
        for descriptor in held:
            os.close(descriptor)
    return ""


def source(file: Path, *, watches: bool) -> Json:
    """Where Envoy has the resources of a file from."""
    if watches:
        return {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
    return {
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": [FEED_CLUSTER],
            "refresh_delay": f"{POLLED_EVERY_S}s",
            "request_timeout": "5s",
        },
        "resource_api_version": "V3",
    }


def feed_cluster(socket: Path) -> Json:
    endpoint = {"address": {"pipe": {"path": str(socket)}}}
    return {
        "name": FEED_CLUSTER,
        "connect_timeout": "2s",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": FEED_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }
