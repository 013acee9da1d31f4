"""The one table of settings, in groups: name, type, default, help.

The reference page and its test are derived from it. `settings` reads their values.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from havre.domain.errors import InvalidParameter
from havre.domain.packs import check_buckets
from havre.domain.rollout.policy import read_canary, read_replay


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table; ``kind`` is how its text is read. A list is separated by colons.

    ``check`` raises InvalidParameter for a value that means nothing.
    """

    name: str
    kind: type[str] | type[int] | type[float] | type[bool] | type[list]  # type: ignore[type-arg]
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    check: Callable[[Any], object] | None = None

    @property
    def kind_name(self) -> str:
        """As a reader says it."""
        names = {str: "text", int: "whole number", float: "number", bool: "yes/no", list: "list"}
        return names[self.kind]


_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,9}")


def _check_hosts(hosts: list[str]) -> None:
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise InvalidParameter(
                f"{host[:80]!r} is not a host's name or IPv4 address, such as models.example.org; "
                "leave the port and http:// out"
            )


def check_collector(url: str) -> None:
    """Raises InvalidParameter, without the URL, which may hold a secret."""
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise InvalidParameter("it must be like http://collector:4318, or empty")
    if parts.username or parts.password or parts.query:
        raise InvalidParameter(
            "it must not hold a password or a query; put secrets into otlp_headers_file"
        )


_DATABASE = re.compile(r"(|sqlite:///.+|postgres(ql(\+psycopg)?)?://.*)", re.DOTALL)


def _check_database_url(url: str) -> None:
    if not _DATABASE.fullmatch(url):
        raise InvalidParameter(
            f"databases are SQLite (sqlite:////folder/file) or PostgreSQL "
            f"(postgresql+psycopg://user:password@host/name), not {url.partition(':')[0][:40]}"
        )


LISTENING = (
    Setting("host", str, "127.0.0.1", "Address that the load balancer listens on."),
    Setting("port", int, 8080, "Port that the load balancer listens on; 0 picks a free port."),
    Setting(
        "auth",
        str,
        "off",
        "Authentication of requests, to the API and to deployments. off: none, and the server "
        "listens on loopback only. oci: only requests signed with a key that `havre oci-config` "
        "registered.",
        ("off", "oci"),
    ),
    Setting(
        "allowed_hosts",
        list,
        [],
        "With auth off, further hosts under which the server may be called, by their web pages "
        "too: that of a proxy in front of it, for example. 127.0.0.1, localhost and host always "
        "are. Names or addresses without port.",
        check=_check_hosts,
    ),
    Setting("balancer_threads", int, 0, "Worker threads of the load balancer; 0: one per core."),
    Setting("region", str, "us-ashburn-1", "Region name written into OCI configuration files."),
)

STORAGE = (
    Setting(
        "database_url",
        str,
        "",
        "SQLAlchemy URL of the database; empty: SQLite in the home folder. "
        "PostgreSQL: postgresql+psycopg://user:password@host/name.",
        check=_check_database_url,
    ),
    Setting(
        "artifact_store",
        str,
        "",
        "Folder for the bytes of artifacts; empty: the folder artifacts in the home. Homes that "
        "share a database need one that all of them reach.",
    ),
    Setting(
        "object_store",
        str,
        "",
        "Where oci://bucket@namespace/object is looked up: a folder laid out as "
        "namespace/bucket/object, or the http(s) address of a service that speaks S3, in which "
        "{namespace} is replaced; empty: the folder objects in the home.",
    ),
    Setting(
        "object_store_allowed",
        list,
        [],
        "Buckets whose packs artifacts may name there, as namespace/bucket, with * for any part of "
        "one. Empty: all of the store; none if its address contains {namespace}, because it then "
        "leads to anybody's buckets.",
        check=check_buckets,
    ),
)

ENVIRONMENTS = (
    Setting(
        "default_environment",
        str,
        "",
        "Slug of the environment for artifacts that name none; empty: General Machine Learning on "
        "Python 3.8, or on the nearest Python that this machine has.",
    ),
    Setting(
        "environment_stand_ins",
        bool,
        True,
        "Whether an environment made for a GPU or for Arm, named on a machine without one, is "
        "replaced by its equivalent for this machine; the work request's log says so. If not, the "
        "deployment fails.",
    ),
    Setting(
        "python_paths",
        list,
        [],
        "Folders to search for Python interpreters, before PATH and pyenv.",
    ),
)

MODELS = (
    Setting(
        "engine",
        str,
        "process",
        "What runs the models. process: processes of this machine.",
        ("process",),
    ),
    Setting(
        "models_as_root",
        str,
        "unavoidable",
        "When models may run as root, without root's powers, instead of as a user of their own. "
        "unavoidable: only where root cannot start processes as other users, as in some "
        "containers. allowed: also where files that a model needs are closed to other users. "
        "never: not at all. A model that may not run as root is not started; its deployment says "
        "why.",
        ("unavoidable", "allowed", "never"),
    ),
    Setting(
        "models_unix_sockets",
        bool,
        False,
        "Whether models that run as the server's user may create Unix sockets, other than pairs, "
        "as multiprocessing's managers do. They can then reach every socket of that user: those of "
        "ssh-agent, D-Bus, Docker. Models with a user of their own always may.",
    ),
)

LIMITS = (
    Setting(
        "max_requests_per_copy",
        int,
        8,
        "Requests an instance holds per copy, waiting ones included; further ones get 429.",
    ),
    Setting(
        "min_instance_queue",
        int,
        128,
        "Minimum queue length of an instance in requests, whatever its number of copies, so that "
        "clients with many open connections are not refused. Reduced for slow models: see "
        "max_queue_wait_s.",
    ),
    Setting(
        "max_queue_wait_s",
        float,
        10.0,
        "Seconds that the last request in an instance's queue may have to wait. From the mean time "
        "of its predictions follows how far min_instance_queue is reduced.",
    ),
    Setting(
        "capacity",
        str,
        "overcommit",
        "overcommit: shapes are limits, and all copies together may exceed the machine's threads "
        "up to overcommit_factor. strict: a shape must fit into what is free.",
        ("overcommit", "strict"),
    ),
    Setting(
        "overcommit_factor",
        float,
        64.0,
        "Copies allowed per hardware thread of the machine, over all deployments.",
    ),
    Setting(
        "instance_disk_mb",
        int,
        10240,
        "Disk space in megabytes that the files of one instance may take; an instance that takes "
        "more is stopped and replaced. 0: no limit.",
    ),
)

TIMEOUTS = (
    Setting("predict_timeout_s", float, 58.0, "Seconds a predict call may take."),
    Setting("stream_idle_s", float, 60.0, "Seconds a streamed response may pause."),
    Setting("stream_total_s", float, 300.0, "Seconds a streamed response may take in all."),
    Setting("start_timeout_s", float, 300.0, "Seconds an instance may take to load its model."),
    Setting(
        "drain_timeout_s",
        float,
        60.0,
        "Seconds that requests in flight get to finish before an instance is stopped.",
    ),
)

ROLLOUT = (
    Setting(
        "min_ready_s",
        float,
        1.5,
        "Seconds that all copies of a new revision's instance must live without one dying before "
        "it counts as ready.",
    ),
    Setting(
        "rollout_replay",
        str,
        "",
        "How many recorded live requests each new revision is tested with before it gets traffic, "
        "and limits: 50, or 50 equal=95% slowdown=2; empty: none. A deployment's tag havre-replay "
        "overrides this.",
        check=read_replay,
    ),
    Setting(
        "rollout_canary",
        str,
        "",
        "Steps in which each new revision gets traffic, and limits: 5%/30s 25%/60s, or "
        "10%/5m errors=1% slowdown=2; empty: all at once. A deployment's tag havre-canary "
        "overrides this.",
        check=read_canary,
    ),
)

LOGS = (
    Setting("log_retention_days", int, 30, "Days that log entries are kept."),
    Setting(
        "log_max_mb",
        int,
        512,
        "Maximum size in megabytes, compressed, of each log of a deployment; the oldest entries "
        "are deleted first.",
    ),
    Setting(
        "log_rate_limit",
        int,
        1000,
        "Maximum lines per second kept of what a deployment prints; further ones are only counted.",
    ),
    Setting(
        "log_level",
        str,
        "info",
        "Minimum level of the server's own log messages.",
        ("debug", "info", "warning", "error"),
    ),
)

EXPORT = (
    Setting(
        "otlp_url",
        str,
        "",
        "OpenTelemetry collector that logs and metrics are sent to (OTLP over HTTP, as JSON), such "
        "as http://127.0.0.1:4318; empty: none.",
        check=check_collector,
    ),
    Setting(
        "otlp_headers_file",
        str,
        "",
        "File with headers for the collector, `name: value`, one per line: put secrets there.",
    ),
)

GROUPS: Mapping[str, tuple[Setting, ...]] = {
    "Listening": LISTENING,
    "Storage": STORAGE,
    "Environments": ENVIRONMENTS,
    "Models": MODELS,
    "Limits and queues": LIMITS,
    "Timeouts": TIMEOUTS,
    "Rollout": ROLLOUT,
    "Logs": LOGS,
    "Export": EXPORT,
}
SETTINGS = tuple(setting for group in GROUPS.values() for setting in group)
