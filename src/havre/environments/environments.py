"""The room's one door: choose an environment, have it ready, publish, list and remove."""

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from havre import foreign
from havre.domain.errors import Conflict, EnvironmentFault, InvalidParameter, NotFound
from havre.domain.manifest import RuntimeManifest
from havre.domain.progress import Progress
from havre.environments.builder import EnvironmentBuilder, OnBuild
from havre.environments.confinement import Enclosure
from havre.environments.definition import (
    BuiltEnvironment,
    Definition,
    EnvironmentDefinition,
    ExternalEnvironment,
    PackEnvironment,
    builtin_definitions,
    check_python,
    check_slug,
    digest_of,
)
from havre.environments.export import export
from havre.environments.inspection import EnvironmentCheck, inspect
from havre.environments.machine_pythons import Interpreters, version_of
from havre.environments.object_store import ObjectStore
from havre.environments.packs import pack_slug
from havre.environments.prefix_contents import installed_packages
from havre.environments.published import Published, PublishedEnvironments
from havre.environments.resolve import (
    OF_ARTIFACT,
    Available,
    Resolution,
    resolve,
    resolve_default,
)
from havre.environments.rows import (
    ARTIFACT,
    BUILT_IN,
    EARLIER,
    EXTERNAL,
    OBJECT,
    PACK,
    PUBLISHED,
    EnvironmentRow,
)
from havre.environments.stand_ins import Hardware, lacks
from havre.home import Home
from havre.machine import count_gpus
from havre.settings import Settings

InUse = Callable[[Path], Sequence[str]]
"""Names who uses an environment, given its prefix."""


class Environments:
    """The inference environments of one home. Methods block; call them from a worker thread.

    ``on_build`` is called after each build with the seconds that it took and whether it succeeded.
    """

    def __init__(self, home: Home, settings: Settings, on_build: OnBuild = lambda *_: None) -> None:
        self._default_slug = settings.default_environment
        self._stand_ins = settings.environment_stand_ins
        self._hardware = Hardware(count_gpus(), platform.machine())
        self._instances = home.instances
        self.interpreters = Interpreters(settings.python_paths)
        self._enclosure = Enclosure(home)
        self._builder = EnvironmentBuilder(home, self._enclosure, self.interpreters, on_build)
        self._published = PublishedEnvironments(home, self._enclosure)
        where = settings.object_store or str(home.root / "objects")
        self._objects = ObjectStore(where, settings.object_store_allowed)

    def resolve(self, manifest: RuntimeManifest, artifact_folder: Path) -> Resolution:
        """The environment of an artifact; ``artifact_folder`` is the folder that has score.py.

        Raises EnvironmentFault or ArtifactInvalid, saying what to do.
        """
        return resolve(manifest, artifact_folder, self._available())

    def ensure(self, resolution: Resolution, progress: Progress) -> BuiltEnvironment:
        """The environment ready to run, built first if need be. Raises EnvironmentFault."""
        built = self._ensure(resolution.definition, progress)
        if resolution.python and not built.python_version.startswith(resolution.python + "."):
            raise EnvironmentFault(
                f"runtime.yaml asks for Python {resolution.python} (INFERENCE_PYTHON_VERSION) but "
                f"the environment {built.slug} has Python {built.python_version}: make them agree"
            )
        return built

    def get(self, digest: str) -> BuiltEnvironment | None:
        """A ready environment by its digest, or None."""
        if built := self._builder.get(digest):
            return built
        for record in self._published.readable():
            if isinstance(record.definition, ExternalEnvironment):
                with suppress(EnvironmentFault):
                    adopted = self._builder.adopt(record.definition)
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

    def publish_prefix(
        self, slug: str, prefix: Path, *, python: str = "", progress: Progress
    ) -> BuiltEnvironment:
        """Record an environment that exists on this machine, to be used where it lies.

        Raises InvalidParameter if it has no Python, or another than ``python``.
        """
        check_slug(slug)
        prefix = prefix.expanduser().absolute()
        version = version_of(self._enclosure, prefix / "bin" / "python")
        if not version:
            raise InvalidParameter(
                f"{prefix} is not an environment: {prefix}/bin/python must be a CPython 3 that runs"
            )
        own = ".".join(version.split(".")[:2])
        if python and check_python(python) != own:
            raise InvalidParameter(f"{prefix} has Python {version}, not {python}")
        environment = ExternalEnvironment(slug, own, prefix)
        built = self._builder.adopt(environment, progress)
        self._published.put(Published(environment, (), time.time()))
        return built

    def publish_pack(
        self, slug: str, pack: Path, *, python: str = "", progress: Progress
    ) -> BuiltEnvironment:
        """Unpack an archive with conda-pack's layout and record it under ``slug``.

        The unpacked environment is what is kept: the archive is needed again only if that is lost.
        Raises InvalidParameter (no such file, another Python than ``python``), EnvironmentFault.
        """
        check_slug(slug)
        if python:
            check_python(python)
        pack = pack.expanduser().absolute()
        progress(f"reading {pack.name}")
        try:
            with pack.open("rb") as file:
                identity = hashlib.file_digest(file, "sha256").hexdigest()
            size = pack.stat().st_size
        except OSError as error:
            raise InvalidParameter(f"{pack} cannot be read: {error.strerror}") from error
        definition = PackEnvironment(slug, str(pack), identity, size, title=f"pack {pack.name}")
        built = self._builder.ensure_pack(definition, lambda: pack.open("rb"), progress)
        own = ".".join(built.python_version.split(".")[:2])
        if python and python != own:
            raise InvalidParameter(f"{pack} has Python {built.python_version}, not {python}")
        self._published.put(Published(replace(definition, python=own), (), time.time()))
        return built

    def export(self, slug: str, output: Path, progress: Progress) -> int:
        """Write an environment as a pack, building it first if need be; returns the size in bytes.

        Raises NotFound, EnvironmentFault, InvalidParameter (it cannot be written).
        """
        return export(self.build(slug, progress), output, progress, self._enclosure)

    def inspect(self, slug: str, progress: Progress) -> Iterator[EnvironmentCheck]:
        """Whether it runs, fits and imports, a finding each. Raises NotFound, EnvironmentFault."""
        return inspect(self.build(slug, progress), self._enclosure)

    def clone(self, slug: str, output: Path) -> int:
        """Write what an environment has as a requirements file to change and publish.

        Returns how many packages it names. Raises NotFound, InvalidParameter (the file exists).
        """
        row = self.show(slug)
        lines = list(row.requirements)
        if not lines and row.prefix is not None:
            lines = installed_packages(row.prefix)
        text = "\n".join([f"# {slug}, Python {row.python}", *lines]) + "\n"
        try:
            with output.open("x") as file:
                file.write(text)
        except OSError as error:
            raise InvalidParameter(f"{output} cannot be written: {error.strerror}") from error
        return len(lines)

    def list(self) -> Sequence[EnvironmentRow]:
        """Published ones first, then those that havre brings, then what else is built."""
        known = [record.definition for record in self._published.all().values()]
        rows = [self._row(definition, PUBLISHED) for definition in known]
        rows += [self._row(definition, BUILT_IN) for definition in builtin_definitions().values()]
        listed = {row.prefix for row in rows}
        for environment, marker in self._builder.built():
            if environment.prefix not in listed:
                rows.append(self._row_of_marker(marker, environment.prefix))
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
        built = [
            environment for environment, marker in self._builder.built() if marker["slug"] == slug
        ]
        for prefix in {
            *([row.prefix] if row.prefix else []),
            *(environment.prefix for environment in built),
        }:
            _refuse_used(slug, in_use, prefix)
        if row.kind in (PUBLISHED, PACK, EXTERNAL):
            self._published.remove(slug)
        stands = self._stands()
        for environment in built:
            if environment.digest not in stands:
                self._builder.remove(environment.digest, unless=partial(_refuse_used, slug, in_use))

    def clean(self, *, in_use: InUse | None = None) -> Sequence[str]:
        """Remove what is built and not used now; returns the slugs. It is built again when needed.

        What a published slug stands on is kept, and so is every environment that an instance uses.
        """
        in_use = self.users if in_use is None else in_use
        removed, kept, stands = [], set(), self._stands()
        for environment, marker in list(self._builder.built()):
            try:
                if environment.digest in stands:
                    raise Conflict("a published slug stands on it")
                self._builder.remove(
                    environment.digest,
                    unless=partial(_refuse_used, environment.slug, in_use),
                )
                removed.append(environment.slug)
            except Conflict:
                kept.add(str(marker.get("base", "")))
        half_built = self._builder.sweep()
        return [
            *removed,
            *(f"half-built {digest}" for digest in half_built),
            *(f"copy of Python {name}" for name in self._builder.remove_unused_interpreters(kept)),
        ]

    def users(self, prefix: Path) -> Sequence[str]:
        """The instances recorded in this home whose interpreter lies below ``prefix``."""
        names = []
        for file in sorted(self._instances.glob("*/spec.json")):
            try:
                interpreter = foreign.read_json(file, below=self._instances)["interpreter"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if Path(interpreter).is_relative_to(prefix):
                names.append(f"instance {file.parent.name}")
        return names

    def _available(self) -> Available:
        return Available(
            self._published.definitions(),
            builtin_definitions(),
            self.interpreters.has,
            self._default_slug,
            self._pack_at,
            self._objects.refused,
            self._hardware,
            self._stand_ins,
        )

    def _pack_at(self, address: str) -> PackEnvironment | None:
        stored = self._objects.find(address)
        if stored is None:
            return None
        slug = pack_slug(address)
        return PackEnvironment(slug, address, stored.identity, stored.size, title=f"pack {address}")

    def _ensure(self, definition: Definition, progress: Progress) -> BuiltEnvironment:
        if isinstance(definition, ExternalEnvironment):
            return self._builder.adopt(definition, progress)
        if isinstance(definition, PackEnvironment):
            opened = partial(self._open_pack, definition)
            return self._builder.ensure_pack(definition, opened, progress)
        return self._builder.ensure(definition, progress)

    @contextmanager
    def _open_pack(self, pack: PackEnvironment) -> Iterator[BinaryIO]:
        if pack.source.startswith("oci://"):
            with self._objects.open(pack.source) as file:
                yield file
            return
        try:
            file = Path(pack.source).open("rb")  # noqa: SIM115  # closed below
        except OSError as error:
            raise EnvironmentFault("its archive has gone: publish it again") from error
        with file:
            if hashlib.file_digest(file, "sha256").hexdigest() != pack.identity:
                raise EnvironmentFault("its archive is another one now: publish it again")
            file.seek(0)
            yield file

    def _definition(self, slug: str) -> Definition:
        if slug in (published := self._published.definitions()):
            return published[slug]
        if slug in (own := builtin_definitions()):
            return own[slug]
        raise NotFound(self._unknown(slug))

    def _row(self, definition: Definition, kind: str) -> EnvironmentRow:
        name = (definition.slug, kind, definition.python, definition.title)
        if isinstance(definition, ExternalEnvironment):
            name = (definition.slug, EXTERNAL, definition.python, definition.title)
            here = version_of(self._enclosure, definition.interpreter)
            needs = "" if here else f"Python {definition.python}"
            return EnvironmentRow(*name, (), needs=needs, prefix=definition.prefix)
        if isinstance(definition, PackEnvironment):
            name = (definition.slug, PACK, definition.python, definition.title)
            built = self._builder.get(definition.digest)
            return EnvironmentRow(*name, (), "", built.prefix if built else None)
        built = self._standing(definition)
        return EnvironmentRow(
            *(*name, definition.requirements),
            needs=self._needs(definition, kind),
            prefix=built.prefix if built else None,
        )

    def _row_of_marker(self, marker: dict[str, Any], prefix: Path) -> EnvironmentRow:
        """What is built and in no list: it was an artifact's, or its definition has changed."""
        if "pack" in marker:
            pack = PackEnvironment.from_json(marker["pack"])
            kind = OBJECT if pack.source.startswith("oci://") else EARLIER
            python = ".".join(marker["python"].split(".")[:2])
            return EnvironmentRow(pack.slug, kind, python, pack.title, (), "", prefix)
        definition = EnvironmentDefinition.from_json(marker["definition"])
        kind = ARTIFACT if definition.slug.startswith(OF_ARTIFACT) else EARLIER
        return replace(self._row(definition, kind), prefix=prefix)

    def _needs(self, definition: EnvironmentDefinition, kind: str) -> str:
        if not self.interpreters.has(definition.python):
            return f"Python {definition.python}"
        return lacks(definition.slug, self._hardware) if kind == BUILT_IN else ""

    def _standing(self, definition: EnvironmentDefinition) -> BuiltEnvironment | None:
        if not self.interpreters.has(definition.python):
            return None
        version = self.interpreters.find(definition.python).version
        return self._builder.get(digest_of([definition.digest, version]))

    def _stands(self) -> set[str]:
        """The builds that published environments stand on: equal content is one build."""
        digests = set()
        for record in self._published.all().values():
            if isinstance(record.definition, PackEnvironment):
                digests.add(record.definition.digest)
            elif isinstance(record.definition, EnvironmentDefinition):
                standing = self._standing(record.definition)
                digests |= {standing.digest} if standing else set()
        return digests

    def _unknown(self, slug: str) -> str:
        known = ", ".join(row.slug for row in self.list())
        return f"there is no environment {slug!r}; there are {known}"


def _refuse_used(slug: str, in_use: InUse, prefix: Path) -> None:
    if users := in_use(prefix):
        raise Conflict(
            f"environment {slug} is used by {', '.join(sorted(users))}: delete or update "
            "what uses it first"
        )
