"""The settings in force, from where they are stated.

A setting comes from, first hit wins: a flag of the command, the environment (``HAVRE_<NAME>``),
``havre.toml`` in the home folder, the default in the table.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from havre.domain.errors import InvalidParameter, SettingInvalid
from havre.settings_table import SETTINGS, Setting

_BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force. Fields are the names of the table."""

    host: str
    port: int
    auth: str
    allowed_hosts: list[str]
    balancer_threads: int
    region: str
    database_url: str
    artifact_store: str
    object_store: str
    object_store_allowed: list[str]
    default_environment: str
    environment_stand_ins: bool
    python_paths: list[str]
    engine: str
    models_as_root: str
    models_unix_sockets: bool
    max_requests_per_copy: int
    min_instance_queue: int
    max_queue_wait_s: float
    capacity: str
    overcommit_factor: float
    instance_disk_mb: int
    predict_timeout_s: float
    stream_idle_s: float
    stream_total_s: float
    start_timeout_s: float
    drain_timeout_s: float
    min_ready_s: float
    rollout_replay: str
    rollout_canary: str
    log_retention_days: int
    log_max_mb: int
    log_rate_limit: int
    log_level: str
    otlp_url: str
    otlp_headers_file: str


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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingInvalid(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise SettingInvalid(f"{path} cannot be read: {error.strerror}") from error
    if unknown := sorted(set(table) - set(_BY_NAME)):
        raise SettingInvalid(
            f"{path} sets {', '.join(unknown)}, which havre does not know; "
            f"known settings are {', '.join(sorted(_BY_NAME))}"
        )
    return table


def _parse(setting: Setting, value: Any, source: str) -> Any:
    try:
        parsed = _read_as(setting.kind, value)
    except (OverflowError, TypeError, ValueError) as error:
        raise SettingInvalid(
            f"{setting.name} from {source} must be of type {setting.kind_name}, not {value!r}"
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
    if setting.kind in (int, float) and not 0 <= parsed < math.inf:
        raise SettingInvalid(
            f"{setting.name} from {source} must be a finite number from 0 on, not {value!r}"
        )
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
