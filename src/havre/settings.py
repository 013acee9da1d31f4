"""The one table of settings: name, type, default, help.

A setting comes from, first hit wins: a flag of the command, the environment (``HAVRE_<NAME>``),
``havre.toml`` in the home folder, the default here. The reference page and its test are derived
from this table.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from havre.domain.errors import InvalidParameter, SettingInvalid
from havre.domain.otlp import check_collector
from havre.domain.policy import read_canary, read_replay


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table; ``kind`` is how its text is read.

    ``check`` raises InvalidParameter for a value that means nothing.
    """

    name: str
    kind: type[str] | type[int] | type[float] | type[bool] | type[list]  # type: ignore[type-arg]
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    check: Callable[[Any], object] | None = None


SETTINGS: tuple[Setting, ...] = (
    Setting("host", str, "127.0.0.1", "Address the load balancer listens on."),
    Setting("port", int, 8080, "Port the load balancer listens on; 0 lets the system pick one."),
    Setting(
        "auth",
        str,
        "off",
        "Who may call. off: everybody, and the server listens on loopback only. oci: who signs "
        "each request, to the API and to deployments, with a key that `havre oci-config` "
        "registered.",
        ("off", "oci"),
    ),
    Setting(
        "database_url",
        str,
        "",
        "SQLAlchemy URL of the database; empty: SQLite in the home folder. "
        "PostgreSQL: postgresql+psycopg://user:password@host/name.",
    ),
    Setting(
        "artifact_store",
        str,
        "",
        "Folder that holds the bytes of artifacts; empty: the folder artifacts in the home. Homes "
        "that share a database need one that all of them reach.",
    ),
    Setting("region", str, "us-ashburn-1", "Region name written into OCI configuration files."),
    Setting(
        "default_environment",
        str,
        "",
        "Slug of the environment for artifacts that name none; empty: General Machine Learning on "
        "Python 3.8, or on the nearest Python this machine has.",
    ),
    Setting(
        "python_paths",
        list,
        [],
        "Folders to search for Python interpreters, before PATH and pyenv (colon-separated).",
    ),
    Setting(
        "object_store",
        str,
        "",
        "Where oci://bucket@namespace/object is looked up: a folder laid out as "
        "namespace/bucket/object, or the http(s) address of a service that speaks S3, in which "
        "{namespace} is replaced; empty: the folder objects in the home.",
    ),
    Setting("balancer_threads", int, 0, "Worker threads of the load balancer; 0: one per core."),
    Setting(
        "queue_per_copy",
        int,
        8,
        "Requests an instance holds per copy, waiting ones included; more are answered 429.",
    ),
    Setting(
        "queue_at_least",
        int,
        128,
        "Requests an instance holds however few its copies are, so that clients that keep many "
        "connections open are not refused, as long as the last of them is served in queue_wait_s.",
    ),
    Setting(
        "queue_wait_s",
        float,
        10.0,
        "Seconds that the last request in an instance's queue may have to wait, by the mean of its "
        "predictions: models so slow that queue_at_least requests took longer hold fewer.",
    ),
    Setting("predict_timeout_s", float, 58.0, "Seconds a predict call may take."),
    Setting("stream_idle_s", float, 60.0, "Seconds a streamed answer may pause."),
    Setting("stream_total_s", float, 300.0, "Seconds a streamed answer may take in all."),
    Setting("start_timeout_s", float, 300.0, "Seconds an instance may take to load its model."),
    Setting("drain_timeout_s", float, 60.0, "Seconds requests in flight get before a stop."),
    Setting(
        "rollout_replay",
        str,
        "",
        "How many live requests each new revision is asked before it gets traffic, and limits: "
        "50, or 50 equal=95% slowdown=2; empty: none. A deployment's tag havre-replay goes first.",
        check=read_replay,
    ),
    Setting(
        "rollout_canary",
        str,
        "",
        "Steps in which each new revision gets traffic, and limits: 5%/30s 25%/60s, or "
        "10%/5m errors=1% slowdown=2; empty: all at once. A deployment's tag havre-canary goes "
        "first.",
        check=read_canary,
    ),
    Setting(
        "capacity",
        str,
        "overcommit",
        "overcommit: shapes are limits, copies may exceed the machine's threads up to "
        "overcommit_factor; strict: a shape must fit what is free.",
        ("overcommit", "strict"),
    ),
    Setting(
        "overcommit_factor",
        float,
        64.0,
        "Copies allowed per hardware thread of the machine, over all deployments.",
    ),
    Setting(
        "log_retention_days",
        int,
        30,
        "Days that entries of the logs are kept.",
    ),
    Setting(
        "log_max_mb",
        int,
        512,
        "Megabytes of each log of a deployment that are kept, compressed; the oldest go first.",
    ),
    Setting(
        "log_lines_per_second",
        int,
        1000,
        "Lines a second that are kept of what a deployment prints; more are counted only.",
    ),
    Setting(
        "otlp_url",
        str,
        "",
        "OpenTelemetry collector that gets logs and metrics (OTLP over HTTP, as JSON), such as "
        "http://127.0.0.1:4318; empty: none.",
        check=check_collector,
    ),
    Setting(
        "otlp_headers_file",
        str,
        "",
        "File with headers for the collector, `name: value`, one a line: secrets belong there.",
    ),
    Setting("log_level", str, "info", "How much is logged.", ("debug", "info", "warning", "error")),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force. Fields are the names of the table."""

    host: str
    port: int
    auth: str
    database_url: str
    artifact_store: str
    region: str
    default_environment: str
    python_paths: list[str]
    object_store: str
    balancer_threads: int
    queue_per_copy: int
    queue_at_least: int
    queue_wait_s: float
    predict_timeout_s: float
    stream_idle_s: float
    stream_total_s: float
    start_timeout_s: float
    drain_timeout_s: float
    rollout_replay: str
    rollout_canary: str
    capacity: str
    overcommit_factor: float
    log_retention_days: int
    log_max_mb: int
    log_lines_per_second: int
    otlp_url: str
    otlp_headers_file: str
    log_level: str


def load_settings(
    home: Path,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings of a home.

    Raises SettingInvalid naming the setting, the value and where it came from.
    """
    environ = os.environ if environ is None else environ
    stored = _read_toml(home / "havre.toml")
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        variable = f"HAVRE_{setting.name.upper()}"
        if flags and flags.get(setting.name) is not None:
            values[setting.name] = _parse(setting, flags[setting.name], "the command line")
        elif variable in environ:
            values[setting.name] = _parse(setting, environ[variable], variable)
        elif setting.name in stored:
            values[setting.name] = _parse(setting, stored[setting.name], "havre.toml")
        else:
            values[setting.name] = setting.default
    return Settings(**values)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"{path} is not valid TOML: {error}") from error
    if unknown := sorted(set(table) - set(_BY_NAME)):
        raise SettingInvalid(
            f"{path} sets {', '.join(unknown)}, which havre does not know; "
            f"known settings are {', '.join(sorted(_BY_NAME))}"
        )
    return table


def _parse(setting: Setting, value: Any, source: str) -> Any:
    try:
        parsed = _read_as(setting.kind, value)
    except ValueError as error:
        kind = setting.kind.__name__
        raise SettingInvalid(
            f"{setting.name} from {source} must be {kind}, not {value!r}"
        ) from error
    if setting.choices and parsed not in setting.choices:
        choices = ", ".join(setting.choices)
        raise SettingInvalid(
            f"{setting.name} from {source} must be one of {choices}, not {value!r}"
        )
    if setting.check is not None:
        try:
            setting.check(parsed)
        except InvalidParameter as error:
            raise SettingInvalid(f"{setting.name} from {source}: {error.message}") from error
    if setting.kind in (int, float) and parsed < 0:
        raise SettingInvalid(f"{setting.name} from {source} must not be negative, not {value!r}")
    return parsed


def _read_as(kind: type, value: Any) -> Any:
    if kind is bool:
        text = str(value).strip().lower()
        if text not in {"true", "false", "1", "0", "yes", "no"}:
            raise ValueError(text)
        return text in {"true", "1", "yes"}
    if kind is list:
        if isinstance(value, list):
            return [str(item) for item in value]
        return [part for part in str(value).split(os.pathsep) if part]
    return kind(value)
