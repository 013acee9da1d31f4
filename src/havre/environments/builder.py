"""Builds environments, once each, so that a half-built one is never used.

An environment is built where it will stay, because its scripts name their interpreter's path. It
counts as there only when its marker, written last, is. Whoever builds holds the lock of its digest,
and so does the uv it started: if the builder is killed, the next one waits until that uv has ended
too, finds no marker, clears the place and starts again.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from havre.domain.errors import EnvironmentFault
from havre.durable import (
    DISK_FULL,
    file_lock,
    remove_tree,
    sync_folder,
    sync_tree,
    try_lock,
    write_file,
)
from havre.environments.definition import (
    BuiltEnvironment,
    EnvironmentDefinition,
    InPlaceEnvironment,
    PackEnvironment,
    digest_of,
)
from havre.environments.faults import explain
from havre.environments.interpreters import Interpreter, Interpreters, python_of
from havre.environments.packs import relocate, unpack_pack
from havre.environments.prefix import (
    MARKER,
    compile_packages,
    installed_packages,
    let_others_read,
    read_marker,
)
from havre.environments.reachable import ReachableInterpreters
from havre.environments.uv import Progress, UvFailed, run_uv, silent

OpenPack = Callable[[], AbstractContextManager[BinaryIO]]

_WORTH_TELLING = 64 * 1024**2  # bytes; smaller packs are unpacked before one has read the line

OnBuild = Callable[[float, bool], None]


class EnvironmentBuilder:
    """The built environments of one home: ``root/built/<digest>``; logs are in ``logs``.

    ``on_build`` is told of each build, or unpacking, how many seconds it took and whether it
    succeeded.
    """

    def __init__(
        self,
        root: Path,
        logs: Path,
        interpreters: Interpreters,
        on_build: OnBuild = lambda *_: None,
    ) -> None:
        self._root = root
        self._logs = logs
        self._interpreters = interpreters
        self._copies = ReachableInterpreters(root / "interpreters")
        self._on_build = on_build

    def ensure(self, definition: EnvironmentDefinition, progress: Progress) -> BuiltEnvironment:
        """The environment, built now if it is not there; blocks for as long as that takes.

        Raises EnvironmentFault: no such Python here, requirements that cannot be met, no network,
        no space.
        """
        interpreter = self._interpreters.find(definition.python)
        digest = digest_of([definition.digest, interpreter.version])

        def make(lock: int) -> BuiltEnvironment:
            reachable = self._copies.reachable(interpreter, progress)
            return self._build(definition, reachable, digest, lock, progress)

        return self._once(digest, definition.slug, make, progress, doing="built")

    def ensure_pack(
        self, pack: PackEnvironment, opened: OpenPack, progress: Progress
    ) -> BuiltEnvironment:
        """The environment in a pack, unpacked now if it is not there; ``opened`` reads the archive.

        Raises EnvironmentFault: unsafe or damaged, no interpreter in it, no space.
        """

        def make(lock: int) -> BuiltEnvironment:
            return self._unpack(pack, opened, lock, progress)

        return self._once(pack.digest, pack.slug, make, progress, doing="unpacked")

    def adopt(self, environment: InPlaceEnvironment) -> BuiltEnvironment:
        """An environment kept elsewhere, if it still runs. Raises EnvironmentFault."""
        version = python_of(environment.interpreter)
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
        digest = digest_of([environment.digest, version])
        return BuiltEnvironment(
            digest, environment.slug, environment.prefix, environment.interpreter, version
        )

    def get(self, digest: str) -> BuiltEnvironment | None:
        """A whole environment by its digest, or None. One whose Python has gone is not whole."""
        prefix = self._prefix(digest)
        marker = read_marker(prefix)
        interpreter = prefix / "bin" / "python"
        if marker is None or not os.access(interpreter, os.X_OK):
            return None
        return BuiltEnvironment(digest, marker["slug"], prefix, interpreter, marker["python"])

    def built(self) -> Iterator[tuple[BuiltEnvironment, dict[str, Any]]]:
        """All whole environments, each with what its marker tells."""
        for prefix in sorted((self._root / "built").glob("*")):
            marker = read_marker(prefix)
            environment = self.get(prefix.name)
            if marker is not None and environment is not None:
                yield environment, marker

    def remove(self, digest: str, *, unless: Callable[[Path], None] | None = None) -> None:
        """Remove a built environment; absent is fine.

        ``unless`` is called with its prefix under its lock and raises if something uses it.
        """
        prefix = self._prefix(digest)
        with self._locked(digest, digest, silent):
            if unless is not None:
                unless(prefix)
            self._clear(prefix)
            self._lock_file(digest).unlink()

    def sweep(self) -> list[str]:
        """Remove what killed builds left half done; returns the digests."""
        swept = []
        for prefix in sorted((self._root / "built").glob("*")):
            if read_marker(prefix) is None:
                lock = try_lock(self._lock_file(prefix.name))
                if lock is not None:
                    try:
                        if read_marker(prefix) is None:
                            remove_tree(prefix)
                            swept.append(prefix.name)
                    finally:
                        os.close(lock)
        return swept

    def remove_unused_interpreters(self, bases: set[str]) -> list[str]:
        """Remove copies of interpreters that none of ``bases`` lies in; returns their names.

        None is while something is being built: that may stand on a copy and say so only later.
        """
        for path in (self._root / "locks").glob("*.lock"):
            lock = try_lock(path)
            if lock is None:
                return []
            os.close(lock)
        return self._copies.remove_unused(bases)

    def log(self, digest: str) -> Path:
        return self._logs / f"{digest}.log"

    def _once(
        self,
        digest: str,
        slug: str,
        make: Callable[[int], BuiltEnvironment],
        progress: Progress,
        *,
        doing: str,
    ) -> BuiltEnvironment:
        if built := self.get(digest):
            return replace(built, slug=slug)
        try:
            with self._locked(digest, slug, progress) as lock:
                if built := self.get(digest):
                    return replace(built, slug=slug)
                return self._timed(lambda: make(lock))
        except OSError as error:
            problem = "the disk is full" if error.errno in DISK_FULL else str(error)
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
        self, pack: PackEnvironment, opened: OpenPack, lock: int, progress: Progress
    ) -> BuiltEnvironment:
        prefix, log = self._prefix(pack.digest), self.log(pack.digest)
        started = time.monotonic()
        progress(f"unpacking {pack.slug}: {pack.size >> 20} MiB")
        try:
            self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(log, b"")
            remove_tree(prefix)
            self._make_place(prefix)
            prefix.mkdir()
            with opened() as file:
                entries = unpack_pack(
                    file, prefix, size=pack.size, told=_tell_tenths(pack, progress)
                )
            relocate(prefix, log, lock)
            version = python_of(prefix / "bin" / "python")
            if not version:
                raise EnvironmentFault("it has no bin/python that runs as a CPython 3 here")
            marker = {
                "slug": pack.slug,
                "python": version,
                "base": "",
                "packages": installed_packages(prefix),
                "seconds": round(time.monotonic() - started, 2),
                "pack": pack.to_json(),
            }
            self._finish(prefix, marker)
        except EnvironmentFault as fault:
            remove_tree(prefix)
            raise EnvironmentFault(
                f"the pack of {pack.slug} ({pack.source}) cannot be used: {fault.message}"
            ) from fault
        except BaseException:
            remove_tree(prefix)
            raise
        seconds = time.monotonic() - started
        progress(f"unpacked {pack.slug}: {entries} files in {seconds:.0f} s, Python {version}")
        return BuiltEnvironment(pack.digest, pack.slug, prefix, prefix / "bin" / "python", version)

    def _build(
        self,
        definition: EnvironmentDefinition,
        interpreter: Interpreter,
        digest: str,
        lock: int,
        progress: Progress,
    ) -> BuiltEnvironment:
        prefix, log = self._prefix(digest), self.log(digest)
        started = time.monotonic()
        count = len([line for line in definition.requirements if not line.startswith("-")])
        progress(f"building {definition.slug}: {_packages(count)}, Python {interpreter.version}")
        try:
            self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(log, b"")
            remove_tree(prefix)
            self._fill(definition, interpreter, prefix, log, lock, progress)
            packages = installed_packages(prefix)
            seconds = time.monotonic() - started
            marker = {
                "slug": definition.slug,
                "python": interpreter.version,
                "base": str(interpreter.path),
                "packages": packages,
                "seconds": round(seconds, 2),
                "definition": definition.to_json(),
            }
            self._finish(prefix, marker)
        except UvFailed as failure:
            remove_tree(prefix)
            reason = explain(str(failure), python=definition.python)
            raise EnvironmentFault(
                f"the environment {definition.slug} could not be built: {reason}. "
                f"The whole story is in {log}"
            ) from failure
        except BaseException:
            remove_tree(prefix)
            raise
        progress(f"installed {_packages(len(packages))} in {seconds:.0f} s")
        return BuiltEnvironment(
            digest, definition.slug, prefix, prefix / "bin" / "python", interpreter.version
        )

    def _fill(
        self,
        definition: EnvironmentDefinition,
        interpreter: Interpreter,
        prefix: Path,
        log: Path,
        lock: int,
        progress: Progress,
    ) -> None:
        python = str(prefix / "bin" / "python")
        self._make_place(prefix)
        # Copies, not links into uv's cache: a model that runs as this user cannot spoil the cache.
        make = ["venv", "--no-project", "--python", str(interpreter.path), str(prefix)]
        run_uv(make, log=log, folder=self._root, progress=progress, keep_open=[lock])
        requirements = prefix / "requirements.txt"
        requirements.write_text("\n".join(definition.requirements) + "\n")
        install = ["pip", "install", "--python", python, "--link-mode", "copy"]
        if definition.wheels_only:
            install += ["--only-binary", ":all:"]
        if definition.requirements:
            install += ["--requirements", str(requirements)]
            run_uv(install, log=log, folder=self._root, progress=progress, keep_open=[lock])
        compile_packages(prefix, log, lock)
        if python_of(prefix / "bin" / "python") != interpreter.version:
            raise EnvironmentFault(
                f"the environment {definition.slug} was built but its Python does not run; "
                f"its log is {log}"
            )

    def _make_place(self, prefix: Path) -> None:
        # Passable: copies may run as another user, who must reach the environment but list nothing.
        prefix.parent.mkdir(parents=True, exist_ok=True)
        prefix.parent.chmod(0o711)

    def _finish(self, prefix: Path, marker: dict[str, Any]) -> None:
        """Everything durable first, then the marker: from then on the environment is there."""
        let_others_read(prefix)
        sync_tree(prefix)
        write_file(prefix / MARKER, json.dumps(marker, indent=1).encode(), mode=0o644)

    def _clear(self, prefix: Path) -> None:
        (prefix / MARKER).unlink(missing_ok=True)
        if prefix.is_dir():
            sync_folder(prefix)
            remove_tree(prefix)

    @contextmanager
    def _locked(self, digest: str, slug: str, progress: Progress) -> Iterator[int]:
        path = self._lock_file(digest)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(
            path, waiting=lambda: progress(f"waiting: {slug} is being built already")
        ) as lock:
            yield lock

    def _prefix(self, digest: str) -> Path:
        return self._root / "built" / digest

    def _lock_file(self, digest: str) -> Path:
        return self._root / "locks" / f"{digest}.lock"


def _tell_tenths(pack: PackEnvironment, progress: Progress) -> Callable[[int], None]:
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        tenth = done * 10 // max(pack.size, 1)
        if pack.size > _WORTH_TELLING and told < tenth < 10:
            told = tenth
            progress(f"unpacking {pack.slug}: {tenth}0 %")

    return tell


def _packages(count: int) -> str:
    return "1 package" if count == 1 else f"{count} packages"
