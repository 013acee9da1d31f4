"""Builds environments, once each, so that a half-built one is never used.

An environment is built where it will stay, because its scripts name their interpreter's path. It
exists only once its marker, written last, is there. The builder holds the lock of its digest, and
so does the uv that it started: if the builder is killed, the next one waits until that uv has ended
too, finds no marker, clears the folder and starts again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from havre import full_disk, temporary
from havre.domain.errors import EnvironmentFault
from havre.domain.progress import Progress, silent
from havre.durable import write_file
from havre.environments import build_lock
from havre.environments.built_prefix import BuiltPrefix
from havre.environments.confinement import Enclosure
from havre.environments.definition import (
    BuiltEnvironment,
    EnvironmentDefinition,
    ExternalEnvironment,
    PackEnvironment,
    digest_of,
)
from havre.environments.faults import USUAL_BYTES, explain
from havre.environments.installing import Installer, OpenPack
from havre.environments.java import java_warnings, lend_java
from havre.environments.libraries import complete, lacking, warnings
from havre.environments.machine_pythons import Interpreter, Interpreters, version_of
from havre.environments.prefix_contents import installed_packages
from havre.environments.reachable import ReachableInterpreters
from havre.environments.uv import UvFailed
from havre.home import Home
from havre.supervisor.spawn import SpawnFault

UNPACKED = 4
"""Times that a pack grows, about."""
SWEEP_S = 10.0  # for each folder

OnBuild = Callable[[float, bool], None]


class EnvironmentBuilder:
    """The built environments of one home: ``built/<digest>``, and a log of each.

    ``on_build`` is called after each build, or unpacking, with the seconds that it took and whether
    it succeeded.
    """

    def __init__(
        self,
        home: Home,
        enclosure: Enclosure,
        interpreters: Interpreters,
        on_build: OnBuild = lambda *_: None,
    ) -> None:
        root = home.environments
        self._root = root
        self._logs = home.logs / "environments"
        self._enclosure = enclosure
        self._interpreters = interpreters
        self._interpreter_copies = ReachableInterpreters(root / "interpreters")
        self._installer = Installer(enclosure, root)
        self._on_build = on_build

    def ensure(self, definition: EnvironmentDefinition, progress: Progress) -> BuiltEnvironment:
        """The environment, built now if it is not there; blocks for as long as that takes.

        Raises EnvironmentFault: no such Python here, requirements that cannot be met, no network,
        no space.
        """
        interpreter = self._interpreters.find(definition.python)
        prefix = self._prefix(digest_of([definition.digest, interpreter.version]))

        def make(lock: int) -> BuiltEnvironment:
            reachable = self._interpreter_copies.reachable(interpreter, progress)
            return self._build(definition, reachable, prefix, lock, progress)

        return self._once(
            prefix, definition.slug, make, progress, doing="built", needed=USUAL_BYTES
        )

    def ensure_pack(
        self, pack: PackEnvironment, opened: OpenPack, progress: Progress
    ) -> BuiltEnvironment:
        """The environment in a pack, unpacked now if it is not there; ``opened`` reads the archive.

        Raises EnvironmentFault: unsafe or damaged, no interpreter in it, no space.
        """
        prefix = self._prefix(pack.digest)

        def make(lock: int) -> BuiltEnvironment:
            return self._unpack(pack, opened, prefix, lock, progress)

        return self._once(
            prefix, pack.slug, make, progress, doing="unpacked", needed=UNPACKED * pack.size
        )

    def adopt(
        self, environment: ExternalEnvironment, progress: Progress = silent
    ) -> BuiltEnvironment:
        """An environment kept elsewhere, if it still runs. Raises EnvironmentFault."""
        version = version_of(self._enclosure, environment.interpreter)
        if not version:
            raise EnvironmentFault(
                f"{environment.interpreter} of the environment {environment.slug} does not run: "
                "restore it, or publish the slug again"
            )
        if not version.startswith(environment.python + "."):
            raise EnvironmentFault(
                f"the environment {environment.slug} was published with Python "
                f"{environment.python} and now has {version}: publish it again"
            )
        if progress is not silent:
            lines = (*warnings(lacking(environment.prefix)), *java_warnings(environment.prefix))
            for line in lines:
                progress(line)
        digest = digest_of([environment.digest, version])
        return BuiltEnvironment(
            digest, environment.slug, environment.prefix, environment.interpreter, version
        )

    def get(self, digest: str) -> BuiltEnvironment | None:
        """A whole environment by its digest, or None. One whose Python has gone is not whole."""
        return self._prefix(digest).environment()

    def built(self) -> Iterator[tuple[BuiltEnvironment, dict[str, Any]]]:
        """All whole environments, each with the content of its marker."""
        for prefix in self._prefixes():
            marker = prefix.marker()
            environment = prefix.environment()
            if marker is not None and environment is not None:
                yield environment, marker

    def remove(self, digest: str, *, unless: Callable[[Path], None] | None = None) -> None:
        """Remove a built environment; absent is fine.

        ``unless`` is called with its prefix under its lock and raises if something uses it.
        """
        prefix = self._prefix(digest)
        with prefix.locked(digest, silent):
            if unless is not None:
                unless(prefix.path)
            prefix.remove()

    def sweep(self) -> list[str]:
        """Remove what killed builds left half done; returns the digests."""
        return [prefix.digest for prefix in self._prefixes() if prefix.sweep()]

    def remove_unused_interpreters(self, bases: set[str]) -> list[str]:
        """Remove copies of interpreters that none of ``bases`` lies in; returns their names.

        Removes none while something is being built: that may use a copy and record it only later.
        """
        for path in (self._root / "locks").glob("*.lock"):
            with build_lock.held_if_free(path) as is_held:
                if not is_held:
                    return []
        return self._interpreter_copies.remove_unused(bases)

    def log(self, digest: str) -> Path:
        return self._logs / f"{digest}.log"

    def _once(
        self,
        prefix: BuiltPrefix,
        slug: str,
        make: Callable[[int], BuiltEnvironment],
        progress: Progress,
        *,
        doing: str,
        needed: int,
    ) -> BuiltEnvironment:
        """``make`` gets the lock's descriptor. ``needed``: about how many bytes of the disk."""
        if built := prefix.environment():
            return replace(built, slug=slug)
        try:
            with prefix.locked(slug, progress) as lock:
                if built := prefix.environment():
                    return replace(built, slug=slug)
                return self._timed(lambda: make(lock))
        except (OSError, SpawnFault) as error:
            problem = (
                full_disk.cause(error, self._root, needed=needed)
                if isinstance(error, OSError)
                else str(error)
            )
            raise EnvironmentFault(
                f"the environment {slug} could not be {doing} below {self._root}: {problem}"
            ) from error

    def _timed(self, make: Callable[[], BuiltEnvironment]) -> BuiltEnvironment:
        began = time.monotonic()
        is_built = False
        try:
            built = make()
            is_built = True
            return built
        finally:
            self._on_build(time.monotonic() - began, is_built)

    def _unpack(
        self,
        pack: PackEnvironment,
        opened: OpenPack,
        prefix: BuiltPrefix,
        lock: int,
        progress: Progress,
    ) -> BuiltEnvironment:
        began = time.monotonic()
        progress(f"unpacking {pack.slug}: {pack.size >> 20} MiB")
        try:
            with self._making(prefix) as log:
                entries, version = self._installer.unpack(
                    pack, opened, prefix.path, log, progress, held=[lock]
                )
                complete(prefix.path, log, progress)
                lend_java(prefix.path, progress)
                prefix.seal(
                    {
                        "slug": pack.slug,
                        "python": version,
                        "base": "",
                        "packages": installed_packages(prefix.path),
                        "seconds": round(time.monotonic() - began, 2),
                        "pack": pack.to_json(),
                    }
                )
        except EnvironmentFault as fault:
            raise EnvironmentFault(
                f"the pack of {pack.slug} ({pack.source}) cannot be used: {fault.message}"
            ) from fault
        seconds = time.monotonic() - began
        progress(f"unpacked {pack.slug}: {entries} files in {seconds:.0f} s, Python {version}")
        return BuiltEnvironment(
            pack.digest, pack.slug, prefix.path, prefix.path / "bin" / "python", version
        )

    def _build(
        self,
        definition: EnvironmentDefinition,
        interpreter: Interpreter,
        prefix: BuiltPrefix,
        lock: int,
        progress: Progress,
    ) -> BuiltEnvironment:
        began = time.monotonic()
        count = len([line for line in definition.requirements if not line.startswith("-")])
        progress(f"building {definition.slug}: {_packages(count)}, Python {interpreter.version}")
        try:
            with self._making(prefix) as log:
                self._installer.install(
                    definition, interpreter, prefix.path, log, progress, held=[lock]
                )
                complete(prefix.path, log, progress)
                lend_java(prefix.path, progress)
                packages = installed_packages(prefix.path)
                seconds = time.monotonic() - began
                prefix.seal(
                    {
                        "slug": definition.slug,
                        "python": interpreter.version,
                        "base": str(interpreter.path),
                        "packages": packages,
                        "seconds": round(seconds, 2),
                        "definition": definition.to_json(),
                    }
                )
        except UvFailed as failure:
            reason = explain(str(failure), python=definition.python, folder=self._root)
            raise EnvironmentFault(
                f"the environment {definition.slug} could not be built: {reason}. "
                f"The full output is in {self.log(prefix.digest)}"
            ) from failure
        except EnvironmentFault as fault:
            raise EnvironmentFault(
                f"the environment {definition.slug} could not be built: {fault.message}"
            ) from fault
        progress(f"installed {_packages(len(packages))} in {seconds:.0f} s")
        return BuiltEnvironment(
            prefix.digest,
            definition.slug,
            prefix.path,
            prefix.path / "bin" / "python",
            interpreter.version,
        )

    @contextmanager
    def _making(self, prefix: BuiltPrefix) -> Iterator[Path]:
        """Yields the file of an empty log; what killed builds left goes before that."""
        temporary.sweep(within_s=SWEEP_S)
        log = self.log(prefix.digest)
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(log, b"")
        with prefix.being_made():
            yield log

    def _prefix(self, digest: str) -> BuiltPrefix:
        return BuiltPrefix(self._root, digest)

    def _prefixes(self) -> list[BuiltPrefix]:
        return [self._prefix(path.name) for path in sorted((self._root / "built").glob("*"))]


def _packages(count: int) -> str:
    return "1 package" if count == 1 else f"{count} packages"
