"""What `havre deploy` adds to an artifact that names no environment: a Python, and versions.

The folder stays as it is; what is recorded is in the archive that the catalog gets. Decided without
a server: what is recorded holds on any.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from havre.catalog.manifest import FILE as MANIFEST
from havre.catalog.manifest import read_manifest
from havre.domain.errors import InvalidParameter
from havre.environments.definition import GENERAL, builtin_definitions, parse_service_slug
from havre.environments.resolve import REQUIREMENTS
from havre.provenance import Provenance, PythonAtHand, provenance, used_by

MAX_NAMED = 6

_SECTION, _ENVIRONMENT = "MODEL_DEPLOYMENT", "INFERENCE_CONDA_ENV"
_SLUG, _PYTHON = "INFERENCE_ENV_SLUG", "INFERENCE_PYTHON_VERSION"


@dataclass(frozen=True, slots=True)
class Recording:
    """``files`` replace those of the artifact, or join them; ``notes`` are for the terminal."""

    files: dict[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def record(
    folder: Path,
    *,
    slug: str,
    default_slug: str,
    pythons: Callable[[], Sequence[PythonAtHand]],
) -> Recording:
    """What to record of an artifact. Raises ArtifactInvalid: runtime.yaml cannot be read.

    ``slug`` is ``--environment``; ``default_slug`` the setting, which overrides a recording: it is
    meant for all artifacts that name no environment. ``pythons`` is called only where it matters.
    """
    if not (folder / "score.py").is_file():
        return Recording()  # packing says so
    manifest = read_manifest(folder)
    if slug:
        content = _manifest(folder, {_SLUG: slug})
        return Recording({MANIFEST: content}, (f"using the environment {slug} (--environment)",))
    if manifest.names_environment or default_slug:
        return Recording()
    if (folder / REQUIREMENTS).is_file():
        if manifest.python:
            return Recording()
        python = pythons()[0]
        note = f"recorded: Python {python.python} for {REQUIREMENTS}, that of {python.prefix}"
        return Recording({MANIFEST: _manifest(folder, {_PYTHON: python.python})}, (note,))
    made = provenance(used_by(folder), pythons())
    if manifest.python and manifest.python != made.python:
        return Recording()
    return _recorded(folder, made)


def _recorded(folder: Path, made: Provenance) -> Recording:
    manifest = _manifest(folder, {_PYTHON: made.python})
    if made.absent or made.unpinnable or not made.pins:
        if not _has_general(made.python):
            return Recording()
        notes = [f"recorded: Python {made.python}, that of {made.prefix}"]
        if made.absent:
            notes.append(
                f"  it has no {_named(made.absent)}, so the versions that the model was made with "
                "are not known: activate the environment that it was made in, or choose one with "
                "--environment SLUG (`havre env list`)"
            )
        elif made.unpinnable:
            notes.append(
                f"  {_named(made.unpinnable)} came from a folder or repository, not from a package "
                "index, so no versions are recorded: publish an environment that has it with "
                "`havre env publish`, and choose it with --environment SLUG"
            )
        return Recording({MANIFEST: manifest}, tuple(notes))
    lines = [f"# Recorded by havre deploy: the versions in {made.prefix}, Python {made.python}."]
    if made.differs:
        lines = [f"# Recorded by havre deploy: {made.differs}."]
    requirements = "\n".join([*lines, *made.pins]) + "\n"
    names = [pin.replace("==", " ") for pin in made.main]
    notes = [f"recorded: Python {made.python} and {_named(names)}"]
    if made.differs:
        notes.append(f"  {made.differs}: the version that saved it is used")
    files = {MANIFEST: manifest, REQUIREMENTS: requirements.encode()}
    return Recording(files, tuple(notes))


def _manifest(folder: Path, stated: dict[str, str]) -> bytes:
    """runtime.yaml with these of the environment's keys and no others; the rest stays."""
    file = folder / MANIFEST
    document = yaml.load(file.read_bytes(), Loader=yaml.BaseLoader) if file.is_file() else None
    if not document:
        document = {"MODEL_ARTIFACT_VERSION": "3.0"}
    if not isinstance(document, dict):  # read_manifest has refused it
        raise InvalidParameter(f"{MANIFEST} must be a mapping")
    section = document.get(_SECTION)
    section = dict(section) if isinstance(section, dict) else {}
    document = {**document, _SECTION: {**section, _ENVIRONMENT: stated}}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def _has_general(python: str) -> bool:
    parsed = (parse_service_slug(slug) for slug in builtin_definitions())
    return any(slug and (slug.family, slug.python) == (GENERAL, python) for slug in parsed)


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
