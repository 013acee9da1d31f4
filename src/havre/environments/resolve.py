"""Which environment an artifact gets: published here, one of ours, its own, or the default.

Pure but for reading the artifact's ``requirements.txt``; nothing is built here. The messages are
for the log of the work request: what was chosen, why, and how to choose otherwise.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from havre.domain.errors import ArtifactInvalid, EnvironmentFault
from havre.domain.manifest import RuntimeManifest
from havre.environments.definition import (
    DEFAULT_PYTHON,
    GENERAL,
    EnvironmentDefinition,
    InPlaceEnvironment,
    digest_of,
    parse_service_slug,
    python_order,
    requirement_lines,
)

REQUIREMENTS = "requirements.txt"
OF_ARTIFACT = "requirements_"
"""What the slug of an environment built from an artifact's requirements begins with."""

LARGEST_REQUIREMENTS = 64 * 1024  # bytes

_PYTHON_IN_PATH = re.compile(r"[Pp]ython[_ -]?(3\.\d{1,2})")
_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\])?\s*([<>=!~(;][^@]*)?")
_PIN = "name one as INFERENCE_ENV_SLUG under MODEL_DEPLOYMENT in runtime.yaml"

Definition = EnvironmentDefinition | InPlaceEnvironment


@dataclass(frozen=True, slots=True)
class Resolution:
    """The environment chosen; ``messages`` say why, for the log of the work request."""

    definition: Definition
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Available:
    """What there is to choose from.

    ``has_python`` tells whether the machine has a version (``3.8``); ``default_slug`` is the
    setting ``default_environment``, empty for the general environment.
    """

    published: Mapping[str, Definition]
    builtin: Mapping[str, EnvironmentDefinition]
    has_python: Callable[[str], bool]
    default_slug: str = ""


def resolve(manifest: RuntimeManifest, artifact: Path, available: Available) -> Resolution:
    """Choose the environment of an artifact unpacked at ``artifact`` (where score.py is).

    Raises EnvironmentFault (unknown, contradicting or impossible) or ArtifactInvalid.
    """
    has_requirements = (artifact / REQUIREMENTS).is_file()
    if manifest.names_environment:
        chosen = _named(manifest, available)
        if has_requirements:
            note = f"{REQUIREMENTS} of the artifact is not used: runtime.yaml names an environment"
            chosen = Resolution(chosen.definition, (*chosen.messages, note))
        _check_python(manifest, chosen.definition)
        return chosen
    if has_requirements:
        return _from_requirements(manifest, artifact / REQUIREMENTS, available)
    chosen = resolve_default(manifest, available)
    _check_python(manifest, chosen.definition)
    return chosen


def resolve_default(manifest: RuntimeManifest, available: Available) -> Resolution:
    """The environment of an artifact that names none. Raises EnvironmentFault."""
    slug = available.default_slug
    if slug:
        definition = available.published.get(slug) or available.builtin.get(slug)
        if definition is None:
            raise EnvironmentFault(
                f"the setting default_environment names {slug!r}, which is not an environment of "
                f"this server. There are: {_existing(available)}"
            )
        return Resolution(
            definition,
            (f"the artifact names no environment: {slug}, this server's default, is used; {_PIN}",),
        )
    general = _general(available)
    if manifest.python:
        if manifest.python not in general:
            raise EnvironmentFault(
                f"the artifact asks for Python {manifest.python} and names no environment; the "
                f"general environment exists for Python {', '.join(general)}. Use one of these, "
                "add a requirements.txt, or publish an environment with 'havre env publish'"
            )
        python, why = manifest.python, "the artifact names only its Python version"
    else:
        python = _nearest_python(general, available)
        why = "the artifact names no environment"
        if python != DEFAULT_PYTHON:
            why += f", and this machine has no Python {DEFAULT_PYTHON} for the usual default"
    definition = general[python]
    return Resolution(definition, (f"{why}: {definition.slug} ({definition.title}); {_PIN}",))


def _named(manifest: RuntimeManifest, available: Available) -> Resolution:
    names = _names(manifest)
    for name in names:
        if name in available.published:
            return Resolution(
                available.published[name], (f"environment {name}, published on this server",)
            )
    if manifest.kind != "published":
        for name in names:
            if name in available.builtin:
                return Resolution(available.builtin[name], (f"environment {name}",))
        for name in names:
            if like := _of_family(name, manifest, available):
                why = f"environment {like.slug} ({like.title}) stands in for {name}"
                return Resolution(like, (why,))
    raise EnvironmentFault(_unknown(manifest, names, available))


def _of_family(
    name: str, manifest: RuntimeManifest, available: Available
) -> EnvironmentDefinition | None:
    """Ours for the same family, Python and device: service slugs differ in their last parts."""
    wanted = parse_service_slug(name)
    if wanted is None:
        return None
    if in_path := _PYTHON_IN_PATH.search(manifest.path):
        wanted = replace(wanted, python=in_path[1])
    for definition in available.builtin.values():
        if parse_service_slug(definition.slug) == wanted:
            return definition
    return None


def _from_requirements(manifest: RuntimeManifest, file: Path, available: Available) -> Resolution:
    if file.stat().st_size > LARGEST_REQUIREMENTS:
        raise ArtifactInvalid(f"{REQUIREMENTS} is larger than {LARGEST_REQUIREMENTS // 1024} KiB")
    try:
        lines = requirement_lines(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ArtifactInvalid(f"{REQUIREMENTS} is not UTF-8 text: {error.reason}") from error
    for line in lines:
        # Options, addresses and paths would have this server read files and run build scripts.
        if not _PLAIN.fullmatch(line):
            raise ArtifactInvalid(
                f"{REQUIREMENTS} of an artifact may only name packages and versions "
                f"(numpy==1.24.4), not {line!r}: publish the environment with 'havre env publish' "
                "and name its slug in runtime.yaml"
            )
    python = manifest.python or _nearest_python(_general(available), available)
    slug = f"{OF_ARTIFACT}{digest_of([python, list(lines)])[:12]}"
    definition = EnvironmentDefinition(slug, python, lines, f"{REQUIREMENTS} of an artifact")
    message = f"environment built from the artifact's {REQUIREMENTS} for Python {python}"
    if not manifest.python:
        message += " (choose another with INFERENCE_PYTHON_VERSION in runtime.yaml)"
    return Resolution(definition, (message,))


def _general(available: Available) -> dict[str, EnvironmentDefinition]:
    return {
        definition.python: definition
        for definition in available.builtin.values()
        if (parsed := parse_service_slug(definition.slug)) and parsed.family == GENERAL
    }


def _nearest_python(general: Mapping[str, EnvironmentDefinition], available: Available) -> str:
    """The default Python if the machine has it, else the nearest newer one, else an older one."""
    usual = python_order(DEFAULT_PYTHON)
    newer = sorted((p for p in general if python_order(p) >= usual), key=python_order)
    older = sorted((p for p in general if python_order(p) < usual), key=python_order, reverse=True)
    for python in (*newer, *older):
        if available.has_python(python):
            return python
    raise EnvironmentFault(
        f"this machine has none of the Pythons {', '.join(general)}: install one, or name the "
        "folder that holds it in the setting python_paths (HAVRE_PYTHON_PATHS)"
    )


def _check_python(manifest: RuntimeManifest, definition: Definition) -> None:
    if manifest.python and manifest.python != definition.python:
        raise EnvironmentFault(
            f"runtime.yaml asks for Python {manifest.python} (INFERENCE_PYTHON_VERSION) but the "
            f"environment {definition.slug} has Python {definition.python}: make them agree"
        )


def _names(manifest: RuntimeManifest) -> list[str]:
    """The slug, then the last part of the path; archives' endings do not count."""
    last = manifest.path.rstrip("/").rpartition("/")[2]
    last = last.removesuffix(".tar.gz").removesuffix(".tgz")
    return list(dict.fromkeys(name for name in (manifest.slug, last) if name))


def _unknown(manifest: RuntimeManifest, names: list[str], available: Available) -> str:
    where = f" (INFERENCE_ENV_PATH {manifest.path})" if manifest.path else ""
    kind = "a published environment" if manifest.kind == "published" else "an environment"
    return (
        f"runtime.yaml names {kind} {' or '.join(names)!r}{where}, which this server does not "
        f"have. There are: {_existing(available)}. Publish yours with 'havre env publish "
        f"{names[0]} --requirements FILE --python X.Y'"
    )


def _existing(available: Available) -> str:
    return ", ".join([*sorted(available.published), *available.builtin]) or "none"
