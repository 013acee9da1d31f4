"""Reads ``runtime.yaml`` as plain text values, without running anything of the artifact."""

import re
from pathlib import Path
from typing import Any

import yaml

from havre.catalog.manifest_keys import ENVIRONMENT, find_faults, is_nothing
from havre.domain.errors import ArtifactInvalid
from havre.domain.manifest import RuntimeManifest

FILE = "runtime.yaml"
LARGEST = 64 * 1024  # bytes; oracle-ads writes about 1 KB
KINDS = ("data_science", "published")

_MISNAMED = ("runtime.yaml", "runtime.yml", "runtime.yaml.txt", "runtime.yml.txt")
_SHOWN_FAULTS = 3
_SHOWN_WARNINGS = 10
# Behind the number may stand what sys.version has there: "3.11.7 (main, Dec  8 2023, …) [GCC …]".
_VERSION = re.compile(r"(3\.\d{1,2})(\.\w+)?\+?(\s[^\d(|]*[(|].*)?", re.DOTALL)
_TOKENS = {
    "'<stream end>'": "the end of the file",
    "unexpected end of stream": "the end of the file",
    "<block end>": "the end of that block",
    "'<block mapping start>'": "a key that is indented otherwise",
    "'<block sequence start>'": "a list that is indented otherwise",
    "'<scalar>'": "a text",
}
"""What YAML's reader calls by names of its own."""
_ADVICE = {
    "mapping values are not allowed": "; put a text that has a colon in it into quotes, and indent "
    "the keys of one level alike",
    "'<block mapping start>'": "; indent the keys of one level alike",
    "cannot start any token": "; put the text into quotes",
}


def read_manifest(folder: Path) -> RuntimeManifest:
    """The environment that the artifact in ``folder`` asks for; empty if it names none.

    Raises ArtifactInvalid with the line and what to do.
    """
    environment, warnings = _parse(_read(folder))
    for key in ENVIRONMENT:
        environment = _mapping(environment, key)
    manifest = RuntimeManifest(
        slug=_text(environment, "INFERENCE_ENV_SLUG"),
        kind=_kind(_text(environment, "INFERENCE_ENV_TYPE")),
        path=_text(environment, "INFERENCE_ENV_PATH"),
        python=_python(_text(environment, "INFERENCE_PYTHON_VERSION")),
        warnings=warnings,
    )
    if manifest.kind == "published" and not manifest.names_environment:
        raise ArtifactInvalid(
            f"INFERENCE_ENV_TYPE in {FILE} is published, but no environment is named: add its "
            "INFERENCE_ENV_SLUG"
        )
    return manifest


def read_version(folder: Path) -> str:
    """``MODEL_ARTIFACT_VERSION`` as written, empty if it is not. Raises ArtifactInvalid."""
    return _text(_parse(_read(folder))[0], "MODEL_ARTIFACT_VERSION")


def _read(folder: Path) -> bytes:
    """The file's content, empty if there is none."""
    try:
        with (folder / FILE).open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        for path in sorted(folder.iterdir()):
            if path.name.lower() in _MISNAMED:
                raise ArtifactInvalid(
                    f"{path.name} is not read: call it {FILE}, or remove it"
                ) from None
        return b""
    except IsADirectoryError as error:
        raise ArtifactInvalid(f"{FILE} is a folder: it must be a file") from error
    if len(content) > LARGEST:
        raise ArtifactInvalid(f"{FILE} is larger than {LARGEST // 1024} KiB")
    return content


def _parse(content: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The document, and what of it is not read."""
    # BaseLoader leaves every scalar as the text it is (an unquoted 3.10 stays "3.10"), makes no
    # objects, and lets aliases share one value instead of copying it.
    try:
        loader = yaml.BaseLoader(content)
        root = loader.get_single_node()
        faults = [] if root is None else find_faults(root)
        document = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise ArtifactInvalid(f"{FILE} cannot be read{_format_error(error)}") from error
    except yaml.reader.ReaderError as error:
        if error.encoding != "unicode":
            raise ArtifactInvalid(f"{FILE} is not UTF-8 text: {error.reason}") from error
        raise ArtifactInvalid(
            f"{FILE} is not UTF-8 text as YAML allows it: its character number "
            f"{error.position + 1} is U+{error.character:04X}"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ArtifactInvalid(f"{FILE} is not YAML that can be read") from error
    if not document:
        return {}, ()
    if not isinstance(document, dict):
        raise ArtifactInvalid(
            f"{FILE} must be a mapping with the key MODEL_DEPLOYMENT, not a {_kind_of(document)}"
        )
    if errors := [fault.text for fault in faults if fault.is_error]:
        raise ArtifactInvalid(f"{FILE}, {'; '.join(errors[:_SHOWN_FAULTS])}")
    warnings = [f"{FILE}, {fault.text}" for fault in faults]
    if len(warnings) > _SHOWN_WARNINGS:
        more = len(warnings) - _SHOWN_WARNINGS
        warnings[_SHOWN_WARNINGS:] = [f"{FILE} has {more} more keys that are not read"]
    return document, tuple(warnings)


def _format_error(error: yaml.MarkedYAMLError) -> str:
    """Where and what. YAML's own words are halves: what it met, and what it was about to read."""
    mark = error.problem_mark or error.context_mark
    position = f" at {_line(mark)}, column {mark.column + 1}" if mark else ""
    problem = error.problem or error.context or "it is not valid YAML"
    if "'\\t'" in problem:
        return f"{position}: a tab cannot indent YAML; use spaces"
    if error.context and error.problem:
        begun = error.context_mark
        elsewhere = begun and mark and begun.line != mark.line
        where = f" that begins at {_line(begun)}" if elsewhere else ""
        problem = f"{error.context}{where}, {problem}"
    advice = next((text for sign, text in _ADVICE.items() if sign in problem), "")
    for sign, text in _TOKENS.items():
        problem = problem.replace(sign, text)
    return f"{position}: {problem}{advice}"


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}"


def _mapping(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key, {})
    if isinstance(value, str) and is_nothing(value):
        return {}
    if not isinstance(value, dict):
        raise ArtifactInvalid(f"{key} in {FILE} must be a mapping, not a {_kind_of(value)}")
    return value


def _text(environment: dict[str, Any], key: str) -> str:
    value = environment.get(key, "")
    if not isinstance(value, str):
        raise ArtifactInvalid(f"{key} in {FILE} must be text, not a {_kind_of(value)}")
    text = value.strip()
    return "" if is_nothing(text) else text


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
