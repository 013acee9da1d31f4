"""Which environment an artifact gets: published here, one of ours, its own, or the default.

Pure, except that it reads the artifact's ``requirements.txt``; nothing is built here. The messages
are for the log of the work request: what was chosen, why, and how to choose otherwise.
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
    Definition,
    EnvironmentDefinition,
    PackEnvironment,
    ServiceSlug,
    digest_of,
    parse_service_slug,
    python_order,
    requirement_lines,
    requirements_text,
)
from havre.environments.oracle_slugs import NO_FAMILY, python_in, read_path, read_slug
from havre.environments.packs import pack_slug
from havre.environments.stand_ins import Hardware, StandIn, lacks, nearest, stand_in

REQUIREMENTS = "requirements.txt"
OF_ARTIFACT = "requirements_"
"""What the slug of an environment built from an artifact's requirements begins with."""

LARGEST_REQUIREMENTS = 64 * 1024  # bytes

_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\]\s*)?([<>=!~(;][^@]*)?")
_HERE = Hardware()
_PIN = "name one as INFERENCE_ENV_SLUG under MODEL_DEPLOYMENT in runtime.yaml"


def _no_pack(address: str) -> PackEnvironment | None:
    """An object store that is empty."""
    del address
    return None


def _all_allowed(address: str) -> str:
    """No address is refused."""
    del address
    return ""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The environment chosen; ``messages`` say why, for the log of the work request.

    ``python`` is the version asked for (``3.8``), empty if none was: what a pack has is known only
    when it is unpacked.
    """

    definition: Definition
    messages: tuple[str, ...] = ()
    python: str = ""


@dataclass(frozen=True, slots=True)
class Available:
    """What there is to choose from.

    ``has_python`` says whether the machine has a version (``3.8``); ``default_slug`` is the
    setting ``default_environment``, empty for the general environment. ``pack_at`` looks an
    ``oci://`` address up in the object store (raises EnvironmentFault if that cannot be reached);
    ``pack_refused`` says why an artifact may not name it, empty if it may. ``stand_ins`` is the
    setting ``environment_stand_ins``: whether what is made for other ``hardware`` has any.
    """

    published: Mapping[str, Definition]
    builtin: Mapping[str, EnvironmentDefinition]
    has_python: Callable[[str], bool]
    default_slug: str = ""
    pack_at: Callable[[str], PackEnvironment | None] = _no_pack
    pack_refused: Callable[[str], str] = _all_allowed
    hardware: Hardware = _HERE
    stand_ins: bool = True


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
    for file in sorted(artifact.iterdir()):
        if file.name.lower() == REQUIREMENTS:
            raise ArtifactInvalid(f"{file.name} is not read: call it {REQUIREMENTS}, or remove it")
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
            (f"runtime.yaml names no environment: using this server's default, {slug}; {_PIN}",),
        )
    general = _general(available)
    if manifest.python:
        if manifest.python not in general:
            raise EnvironmentFault(
                f"runtime.yaml asks for Python {manifest.python} and names no environment; the "
                f"general environment exists for Python {', '.join(general)}. Use one of these, "
                "add a requirements.txt, or publish an environment with 'havre env publish'"
            )
        python, why = manifest.python, "runtime.yaml names only a Python version"
    else:
        python = _nearest_python(general, available)
        why = "runtime.yaml names no environment"
        if python != DEFAULT_PYTHON:
            why += f", and this machine has no Python {DEFAULT_PYTHON} for the usual default"
    definition = general[python]
    return Resolution(
        definition, (f"{why}: using the default, {definition.slug} ({definition.title}); {_PIN}",)
    )


def _named(manifest: RuntimeManifest, available: Available) -> Resolution:
    names = _names(manifest)
    resolving = f"resolving {' or '.join(names)}"
    for name in names:
        if name in available.published:
            why = f"environment {name}, published on this server"
            return Resolution(available.published[name], (resolving, why), manifest.python)
    refused = available.pack_refused(manifest.path) if manifest.path else ""
    if pack := available.pack_at(manifest.path) if manifest.path and not refused else None:
        why = f"environment {pack.slug}: a pack of {pack.size >> 20} MiB at {manifest.path}"
        return Resolution(pack, (resolving, why), manifest.python)
    messages = (resolving, refused) if refused else (resolving,)
    if manifest.kind != "published":
        for name in names:
            if name in available.builtin and not lacks(name, available.hardware):
                return Resolution(available.builtin[name], (*messages, f"environment {name}"))
        for requested in _requested(manifest, names):
            if chosen := stand_in(requested, available.builtin, available.hardware):
                why = _standing_in(chosen, names[-1], available)
                return Resolution(chosen.definition, (*messages, why))
    raise EnvironmentFault(refused or _unknown(manifest, names, available))


def _requested(manifest: RuntimeManifest, names: list[str]) -> list[ServiceSlug]:
    """What the names and the path of the original service's environments ask for, best first."""
    read = [slug for name in names if (slug := read_slug(name))]
    if in_words := read_path(manifest.path):
        read.append(in_words)
    stated = python_in(manifest.path)
    return [replace(slug, python=stated or slug.python or manifest.python) for slug in read]


def _standing_in(chosen: StandIn, name: str, available: Available) -> str:
    """The log line for a stand-in. Raises EnvironmentFault where the settings refuse it."""
    ours = chosen.definition
    if not chosen.lacking:
        return f"environment {ours.slug} ({ours.title}) stands in for {name}"
    if not available.stand_ins:
        raise EnvironmentFault(
            f"runtime.yaml names {name}, but {chosen.lacking}, and the setting "
            f"environment_stand_ins refuses stand-ins; name {ours.slug} ({ours.title}) itself, or "
            "deploy where there is what it is made for"
        )
    return (
        f"{chosen.lacking}: environment {ours.slug} ({ours.title}) stands in for {name}; "
        "environment_stand_ins = false in havre.toml refuses that"
    )


def _from_requirements(manifest: RuntimeManifest, file: Path, available: Available) -> Resolution:
    if file.stat().st_size > LARGEST_REQUIREMENTS:
        raise ArtifactInvalid(f"{REQUIREMENTS} is larger than {LARGEST_REQUIREMENTS // 1024} KiB")
    try:
        lines = requirement_lines(requirements_text(file.read_bytes()))
    except ValueError as error:
        raise ArtifactInvalid(f"{REQUIREMENTS} cannot be read: {error}") from error
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
    if manifest.python and definition.python and manifest.python != definition.python:
        raise EnvironmentFault(
            f"runtime.yaml asks for Python {manifest.python} (INFERENCE_PYTHON_VERSION) but the "
            f"environment {definition.slug} has Python {definition.python}: make them agree"
        )


def _names(manifest: RuntimeManifest) -> list[str]:
    """The slug, then the last part of the path; archives' endings do not count."""
    last = pack_slug(manifest.path)
    return list(dict.fromkeys(name for name in (manifest.slug, last) if name))


def _unknown(manifest: RuntimeManifest, names: list[str], available: Available) -> str:
    where = f" (INFERENCE_ENV_PATH {manifest.path})" if manifest.path else ""
    kind = "a published environment" if manifest.kind == "published" else "an environment"
    requested = [] if manifest.kind == "published" else _requested(manifest, names)
    name = " or ".join(repr(name) for name in names)
    message = (
        f"runtime.yaml names {kind} {name}{where}, which is neither here nor in the object store"
    )
    if requested and (near := nearest(requested[0], available.builtin, available.hardware)):
        why = _why_none(requested[0])
        message += f"{why}. The nearest is {near.slug} ({near.title})"
    elif manifest.kind == "published":
        message += f". Published here: {', '.join(sorted(available.published)) or 'none'}"
    else:
        message += f". There are: {_existing(available)}"
    return (
        f"{message}. Publish yours with 'havre env publish {names[0]} --requirements FILE "
        "--python X.Y' or '--pack FILE', and INFERENCE_ENV_TYPE: published"
    )


def _why_none(requested: ServiceSlug) -> str:
    if requested.family != NO_FAMILY and python_order(requested.python or DEFAULT_PYTHON) < (3, 7):
        return ": Python 3.7 is the oldest it runs"
    return ""


def _existing(available: Available) -> str:
    return ", ".join([*sorted(available.published), *available.builtin]) or "none"
