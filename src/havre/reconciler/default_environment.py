"""Explains a failure in the default environment, the one for models that name none.

That it was the default, which versions differ from those that the model was made with, as far as
its files show, and which command chooses others.
"""

import logging
import re
import sys
from pathlib import Path

import yaml

from havre.catalog.manifest import FILE as MANIFEST
from havre.catalog.manifest import read_manifest
from havre.domain.errors import HavreError
from havre.environments.definition import GENERAL, builtin_definitions, parse_service_slug
from havre.environments.prefix_contents import installed_packages, read_marker
from havre.environments.resolve import REQUIREMENTS
from havre.pickled import modules_in, pickles, sklearn_version
from havre.reconciler.snapshot import PreparedRevision

_log = logging.getLogger(__name__)
_OF_VERSIONS = re.compile(
    r"ModuleNotFoundError|ImportError|AttributeError|SyntaxError|UnpicklingError|pickle|"
    r"incompatible|dtype|another version"
)
"""What the messages of failures contain that the wrong versions of packages cause."""


def with_default_environment_note(reason: str, prepared: PreparedRevision) -> str:
    """The reason of a failure, with an explanation if the default environment may be to blame."""
    try:
        return _with_note(reason, prepared)
    except Exception:  # whatever the artifact's files contain, the failure is recorded
        _log.exception("a failure cannot be explained by the default environment")
        return reason


def _with_note(reason: str, prepared: PreparedRevision) -> str:
    workload = prepared.workload
    folder = workload.artifact
    if not _names_nothing(folder):
        return reason
    prefix = workload.interpreter.parent.parent
    packages = dict(line.split("==", 1) for line in installed_packages(prefix))
    differing = differences(folder, workload.python_version, packages)
    if not differing and not _OF_VERSIONS.search(reason):
        return reason
    slug = str((read_marker(prefix) or {}).get("slug") or prefix)
    differ = f"; the model was made with {', '.join(differing)}" if differing else ""
    return (
        f"{reason}. The artifact names no environment, so this was the default, {slug} with Python "
        f"{workload.python_version}{differ}. To choose another: havre deploy FOLDER --environment "
        f"{fitting(folder, slug)}, or INFERENCE_ENV_SLUG in runtime.yaml"
    )


def differences(folder: Path, python: str, packages: dict[str, str]) -> list[str]:
    """``scikit-learn 1.5.1, not 1.3.2``: what the model was made with, and what is installed."""
    differing = []
    trained = _trained_with(folder)
    if trained and not f"{python}.".startswith(f"{trained}."):
        differing.append(f"Python {trained}, not {python}")
    packages_differing = set()
    for _, content in pickles(folder):
        version, here = sklearn_version(content), packages.get("scikit-learn", "")
        if version and version != here:
            packages_differing.add(f"scikit-learn {version}, not {here or 'installed here'}")
        old_numpy = packages.get("numpy", "2").partition(".")[0] == "1"
        if old_numpy and any(name.startswith("numpy._core") for name in modules_in(content)):
            packages_differing.add(f"NumPy 2 or newer, not {packages['numpy']}")
    return differing + sorted(packages_differing)


def fitting(folder: Path, default: str) -> str:
    """The general environment that comes closest to what made the model."""
    general = {
        parsed.python: definition
        for definition in builtin_definitions().values()
        if (parsed := parse_service_slug(definition.slug)) and parsed.family == GENERAL
    }
    if (trained := _trained_with(folder)) in general:
        return general[trained].slug
    versions = {version for _, content in pickles(folder) if (version := sklearn_version(content))}
    minors = {tuple(version.split(".")[:2]) for version in versions}
    for definition in general.values():
        (locked,) = (line for line in definition.requirements if line.startswith("scikit-learn=="))
        if tuple(locked.partition("==")[2].split(".")[:2]) in minors:
            return definition.slug
    own = general.get("{}.{}".format(*sys.version_info))  # the Python that this machine surely has
    return own.slug if own is not None and own.slug != default else "SLUG (`havre env list`)"


def _names_nothing(folder: Path) -> bool:
    try:
        manifest = read_manifest(folder)
    except (HavreError, OSError):
        return False
    return not (manifest.names_environment or manifest.python or (folder / REQUIREMENTS).is_file())


def _trained_with(folder: Path) -> str:
    """The Python that the artifact's provenance names, two numbers, or empty."""
    try:
        document = yaml.load((folder / MANIFEST).read_bytes(), Loader=yaml.BaseLoader)
        stated = document["MODEL_PROVENANCE"]["TRAINING_CONDA_ENV"]["TRAINING_PYTHON_VERSION"]
        match = re.match(r"3\.\d{1,2}(?!\d)", stated)
    except (OSError, yaml.YAMLError, KeyError, TypeError, RecursionError, ValueError):
        return ""
    return match[0] if match else ""
