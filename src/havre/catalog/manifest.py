"""Reads ``runtime.yaml`` as plain text values, without running anything of the artifact."""

import re
from pathlib import Path
from typing import Any

import yaml

from havre.domain.errors import ArtifactInvalid
from havre.domain.manifest import RuntimeManifest

FILE = "runtime.yaml"
LARGEST = 64 * 1024  # bytes; oracle-ads writes about 1 KB
KINDS = ("data_science", "published")

_VERSION = re.compile(r"(3\.\d{1,2})(\.\w+)?")
_NOTHING = frozenset({"", "~", "null", "none"})


def read_manifest(folder: Path) -> RuntimeManifest:
    """The environment that the artifact in ``folder`` asks for; empty if it does not say.

    Raises ArtifactInvalid with the line and what to do.
    """
    deployment = _mapping(_parse(_read(folder)), "MODEL_DEPLOYMENT")
    environment = _mapping(deployment, "INFERENCE_CONDA_ENV")
    return RuntimeManifest(
        slug=_text(environment, "INFERENCE_ENV_SLUG"),
        kind=_kind(_text(environment, "INFERENCE_ENV_TYPE")),
        path=_text(environment, "INFERENCE_ENV_PATH"),
        python=_python(_text(environment, "INFERENCE_PYTHON_VERSION")),
    )


def read_version(folder: Path) -> str:
    """``MODEL_ARTIFACT_VERSION`` as written, empty if it is not. Raises ArtifactInvalid."""
    return _text(_parse(_read(folder)), "MODEL_ARTIFACT_VERSION")


def _read(folder: Path) -> bytes:
    """The file's content, empty if there is none."""
    try:
        with (folder / FILE).open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        return b""
    except IsADirectoryError as error:
        raise ArtifactInvalid(f"{FILE} is a folder: it must be a file") from error
    if len(content) > LARGEST:
        raise ArtifactInvalid(f"{FILE} is larger than {LARGEST // 1024} KiB")
    return content


def _parse(content: bytes) -> Any:
    # BaseLoader leaves every scalar as the text it is (an unquoted 3.10 stays "3.10"), makes no
    # objects, and lets aliases share one value instead of copying it.
    try:
        document = yaml.load(content, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or error.context or "it is not valid YAML"
        if "'\\t'" in problem:
            problem = "a tab cannot indent YAML; use spaces"
        raise ArtifactInvalid(f"{FILE} cannot be read{place}: {problem}") from error
    except yaml.reader.ReaderError as error:
        raise ArtifactInvalid(f"{FILE} is not UTF-8 text: {error.reason}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ArtifactInvalid(f"{FILE} is not YAML that can be read") from error
    if not document:
        return {}
    if not isinstance(document, dict):
        raise ArtifactInvalid(
            f"{FILE} must be a mapping with the key MODEL_DEPLOYMENT, not a {_kind_of(document)}"
        )
    return document


def _mapping(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key, {})
    if isinstance(value, str) and value.lower() in _NOTHING:
        return {}
    if not isinstance(value, dict):
        raise ArtifactInvalid(f"{key} in {FILE} must be a mapping, not a {_kind_of(value)}")
    return value


def _text(environment: dict[str, Any], key: str) -> str:
    value = environment.get(key, "")
    if not isinstance(value, str):
        raise ArtifactInvalid(f"{key} in {FILE} must be text, not a {_kind_of(value)}")
    text = value.strip()
    return "" if text.lower() in _NOTHING else text


def _kind(text: str) -> str:
    kind = text.lower()
    if kind and kind not in KINDS:
        raise ArtifactInvalid(
            f"INFERENCE_ENV_TYPE in {FILE} must be {' or '.join(KINDS)}, not {text!r}"
        )
    return kind


def _python(text: str) -> str:
    if not text:
        return ""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ArtifactInvalid(
            f"INFERENCE_PYTHON_VERSION in {FILE} must be a version such as '3.10', not {text!r}"
        )
    return match[1]


def _kind_of(value: Any) -> str:
    if isinstance(value, dict):
        return "mapping"
    return "list" if isinstance(value, list) else "text"
