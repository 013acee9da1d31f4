"""The room's one door: choose an environment, have it ready, publish, list and remove."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from havre.domain.errors import Conflict, EnvironmentFault, InvalidParameter, NotFound
from havre.domain.manifest import RuntimeManifest
from havre.environments.builder import EnvironmentBuilder
from havre.environments.definition import (
    BuiltEnvironment,
    EnvironmentDefinition,
    InPlaceEnvironment,
    builtin_definitions,
    check_python,
    check_slug,
    digest_of,
)
from havre.environments.interpreters import Interpreters, python_of
from havre.environments.published import Published, PublishedEnvironments
from havre.environments.resolve import (
    OF_ARTIFACT,
    Available,
    Definition,
    Resolution,
    resolve,
    resolve_default,
)
from havre.environments.uv import Progress
from havre.home import Home
from havre.settings import Settings

InUse = Callable[[Path], Sequence[str]]
"""Names who uses an environment, given its prefix."""


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """One line of the list. ``kind`` is built-in, published, in place, artifact or earlier.

    ``artifact`` was built from an artifact's requirements; ``earlier`` is what is left of a
    definition that has been replaced, and may still be in use.
    ``prefix`` is where it is built, None if it is not; ``python_here`` tells whether this machine
    has the Python that it needs.
    """

    slug: str
    kind: str
    python: str
    title: str
    requirements: tuple[str, ...]
    python_here: bool
    prefix: Path | None


class Environments:
    """The inference environments of one home. Methods block; call them from a worker thread."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._default_slug = settings.default_environment
        self._instances = home.instances
        logs = home.logs / "environments"
        self.interpreters = Interpreters(settings.python_paths)
        self._builder = EnvironmentBuilder(home.environments, logs, self.interpreters)
        self._published = PublishedEnvironments(home.environments, logs)

    def resolve(self, manifest: RuntimeManifest, artifact_folder: Path) -> Resolution:
        """The environment of an artifact; ``artifact_folder`` is the folder that has score.py.

        Raises EnvironmentFault or ArtifactInvalid, saying what to do.
        """
        return resolve(manifest, artifact_folder, self._available())

    def ensure(self, resolution: Resolution, progress: Progress) -> BuiltEnvironment:
        """The environment ready to run, built first if need be. Raises EnvironmentFault."""
        return self._ensure(resolution.definition, progress)

    def get(self, digest: str) -> BuiltEnvironment | None:
        """A ready environment by its digest, or None."""
        if built := self._builder.get(digest):
            return built
        for record in self._published.all().values():
            if isinstance(record.definition, InPlaceEnvironment):
                try:
                    adopted = self._builder.adopt(record.definition)
                except EnvironmentFault:
                    continue
                if adopted.digest == digest:
                    return adopted
        return None

    def build(self, slug: str, progress: Progress) -> BuiltEnvironment:
        """Have a published or built-in environment ready. Raises NotFound, EnvironmentFault."""
        return self._ensure(self._definition(slug), progress)

    def publish(
        self, slug: str, requirements: Path, *, python: str = "", progress: Progress
    ) -> BuiltEnvironment:
        """Lock a requirements file, build it, and record it under ``slug``.

        ``python`` is two numbers; empty takes the default environment's. The record is replaced
        only when the new environment stands. Raises InvalidParameter, EnvironmentFault.
        """
        check_slug(slug)
        if not python:
            python = resolve_default(RuntimeManifest(), self._available()).definition.python
        interpreter = self.interpreters.find(check_python(python))
        record = self._published.lock(slug, requirements, interpreter, progress)
        built = self._ensure(record.definition, progress)
        self._published.put(record)
        return built

    def publish_prefix(self, slug: str, prefix: Path, *, python: str = "") -> BuiltEnvironment:
        """Record an environment that exists on this machine, to be used where it lies.

        Raises InvalidParameter if it has no Python, or another than ``python``.
        """
        check_slug(slug)
        prefix = prefix.expanduser().absolute()
        version = python_of(prefix / "bin" / "python")
        if not version:
            raise InvalidParameter(
                f"{prefix} is not an environment: {prefix}/bin/python must be a CPython 3 that runs"
            )
        own = ".".join(version.split(".")[:2])
        if python and check_python(python) != own:
            raise InvalidParameter(f"{prefix} has Python {version}, not {python}")
        environment = InPlaceEnvironment(slug, own, prefix)
        built = self._builder.adopt(environment)
        self._published.put(Published(environment, (), time.time()))
        return built

    def list(self) -> Sequence[EnvironmentRow]:
        """Published ones first, then those that havre brings, then what else is built."""
        known = [record.definition for record in self._published.all().values()]
        own = builtin_definitions()
        rows = [self._row(definition, "published") for definition in known]
        rows += [self._row(definition, "built-in") for definition in own.values()]
        listed = {row.prefix for row in rows}
        for environment, marker in self._builder.built():
            if environment.prefix not in listed:
                definition = EnvironmentDefinition.from_json(marker["definition"])
                kind = "artifact" if definition.slug.startswith(OF_ARTIFACT) else "earlier"
                rows.append(replace(self._row(definition, kind), prefix=environment.prefix))
        return rows

    def show(self, slug: str) -> EnvironmentRow:
        """One line of the list. Raises NotFound."""
        for row in self.list():
            if row.slug == slug:
                return row
        raise NotFound(self._unknown(slug))

    def remove(self, slug: str, *, in_use: InUse | None = None) -> None:
        """Forget a published slug and remove what is built for ``slug``.

        ``in_use`` names the users of a prefix (default: the instances recorded in this home).
        Raises NotFound, or Conflict while somebody uses it.
        """
        in_use = self.users if in_use is None else in_use
        row = self.show(slug)
        prefixes = [
            (environment.digest, environment.prefix)
            for environment, marker in self._builder.built()
            if marker["slug"] == slug
        ]
        used = [row.prefix] if row.prefix else []
        for prefix in {*used, *(prefix for _, prefix in prefixes)}:
            if users := in_use(prefix):
                raise Conflict(
                    f"environment {slug} is used by {', '.join(sorted(users))}: delete or update "
                    "what uses it first"
                )
        if row.kind in ("published", "in place"):
            self._published.remove(slug)
        for digest, _ in prefixes:
            if not self._shared(digest):
                self._builder.remove(digest)

    def users(self, prefix: Path) -> Sequence[str]:
        """The instances recorded in this home whose interpreter lies below ``prefix``."""
        found = []
        for file in sorted(self._instances.glob("*/spec.json")):
            try:
                spec = json.loads(file.read_bytes())
            except (OSError, ValueError):
                continue
            if any(Path(text).is_relative_to(prefix) for text in _texts(spec)):
                found.append(f"instance {file.parent.name}")
        return found

    def _available(self) -> Available:
        return Available(
            {slug: record.definition for slug, record in self._published.all().items()},
            builtin_definitions(),
            self.interpreters.has,
            self._default_slug,
        )

    def _ensure(self, definition: Definition, progress: Progress) -> BuiltEnvironment:
        if isinstance(definition, InPlaceEnvironment):
            return self._builder.adopt(definition)
        return self._builder.ensure(definition, progress)

    def _definition(self, slug: str) -> Definition:
        records = self._published.all()
        if slug in records:
            return records[slug].definition
        if slug in (own := builtin_definitions()):
            return own[slug]
        raise NotFound(self._unknown(slug))

    def _row(self, definition: Definition, kind: str) -> EnvironmentRow:
        if isinstance(definition, InPlaceEnvironment):
            here = bool(python_of(definition.interpreter))
            return EnvironmentRow(
                *(definition.slug, "in place", definition.python, definition.title, ()),
                python_here=here,
                prefix=definition.prefix,
            )
        built = self._standing(definition)
        return EnvironmentRow(
            *(definition.slug, kind, definition.python, definition.title, definition.requirements),
            python_here=self.interpreters.has(definition.python),
            prefix=built.prefix if built else None,
        )

    def _standing(self, definition: EnvironmentDefinition) -> BuiltEnvironment | None:
        if not self.interpreters.has(definition.python):
            return None
        version = self.interpreters.find(definition.python).version
        return self._builder.get(digest_of([definition.digest, version]))

    def _shared(self, digest: str) -> bool:
        """Whether a published environment still stands on this build: equal content, one build."""
        for record in self._published.all().values():
            if isinstance(record.definition, EnvironmentDefinition):
                standing = self._standing(record.definition)
                if standing and standing.digest == digest:
                    return True
        return False

    def _unknown(self, slug: str) -> str:
        known = ", ".join(row.slug for row in self.list())
        return f"there is no environment {slug!r}; there are {known}"


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value that could be a path."""
    if isinstance(value, str) and value.startswith("/"):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
