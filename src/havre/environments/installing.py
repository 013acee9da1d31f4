"""Fills the folder of an environment: from packages, or from a pack. What is foreign is confined.

Afterwards nothing of it runs any more, all files are ours, and none is there that does not belong.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from uv import find_uv_bin

from havre.domain.errors import EnvironmentFault
from havre.domain.progress import Progress
from havre.durable import remove_tree
from havre.environments import unusable
from havre.environments.audit import Made, check_files, check_records
from havre.environments.confinement import Enclosure, Stranger, log_warnings
from havre.environments.definition import EnvironmentDefinition, PackEnvironment
from havre.environments.machine_pythons import Interpreter, version_of
from havre.environments.packs import UNPACK_PROGRAM
from havre.environments.prefix_contents import MARKER, compile_packages
from havre.environments.unpacking import unpack_confined, unpacker_files
from havre.environments.uv import ONLY_WHEELS, Uv, UvFailed, lacks_wheels
from havre.supervisor.reach import interpreter_files
from havre.supervisor.spawn import SpawnFault
from havre.trees import let_others_read

RELOCATION_LIMIT_S = 600.0

OpenPack = Callable[[], AbstractContextManager[BinaryIO]]

_MIN_REPORTED_BYTES = 64 * 1024**2  # bytes; smaller packs are unpacked before one has read the line


class Installer:
    """``folder`` is where uv is run: it has no project of anybody's."""

    def __init__(self, enclosure: Enclosure, folder: Path) -> None:
        self._enclosure = enclosure
        self._uv = Uv(enclosure)
        self._folder = folder

    def install(
        self,
        definition: EnvironmentDefinition,
        interpreter: Interpreter,
        prefix: Path,
        log: Path,
        progress: Progress,
        *,
        held: Sequence[int],
    ) -> None:
        """Fill the empty folder ``prefix``. Raises UvFailed, EnvironmentFault, OSError."""
        # Copies, not links into uv's cache: a model that runs as this user cannot spoil the cache.
        make = ["venv", "--no-project", "--python", str(interpreter.path), str(prefix)]
        self._run(make, prefix, log, progress, held)
        requirements = prefix / "requirements.txt"
        requirements.write_text("\n".join(definition.requirements) + "\n")
        made = Made.of(prefix)
        python = str(prefix / "bin" / "python")
        install = ["pip", "install", "--python", python, "--link-mode", "copy"]
        install += ["--requirements", str(requirements)]
        if definition.requirements:
            try:
                self._run([*install, *ONLY_WHEELS], prefix, log, progress, held)
            except UvFailed as failure:
                if definition.wheels_only or not lacks_wheels(failure):
                    raise
                self._compile(install, interpreter, prefix, made, log, progress, held)
        _refuse_foreign_files(prefix, made)
        compile_packages(self._enclosure, interpreter.path, prefix, log, held=held)

    def unpack(
        self,
        pack: PackEnvironment,
        opened: OpenPack,
        prefix: Path,
        log: Path,
        progress: Progress,
        *,
        held: Sequence[int],
    ) -> tuple[int, str]:
        """Fill the empty folder ``prefix``; returns the number of entries and the Python's version.

        Raises EnvironmentFault, OSError.
        """
        with opened() as file:
            entries = self._extract(pack, file, prefix, log, progress, held)
        python = prefix / "bin" / "python"
        if (prefix / "pyvenv.cfg").exists():
            raise EnvironmentFault(
                "it is a virtual environment, whose Python is elsewhere: pack a conda environment, "
                "or use 'havre env export'"
            )
        check_files(prefix, owner=os.geteuid())  # before its owner changes: links are nobody's
        if problem := unusable.at_sight(prefix, os.uname().machine):
            raise EnvironmentFault(problem)
        stranger = self._stranger(prefix, [], progress)
        try:
            stranger.give(prefix)
            self._relocate(stranger, python, prefix, log, held)
            owner = os.geteuid() if stranger.user is None else stranger.user.uid
            _refuse_marker(prefix)
            check_files(prefix, owner=owner)
        except OSError as error:
            raise EnvironmentFault(f"its files cannot be looked through: {error}") from error
        stranger.take_back(prefix)
        let_others_read(prefix)  # who asks its Python is another user
        version = version_of(self._enclosure, python)
        if not version:
            raise EnvironmentFault(unusable.when_asked(self._enclosure, python))
        if problem := unusable.too_old(version):
            raise EnvironmentFault(problem)
        return entries, version

    def _run(
        self,
        arguments: Sequence[str],
        prefix: Path,
        log: Path,
        progress: Progress,
        held: Sequence[int],
    ) -> None:
        self._uv.run(
            arguments, log=log, folder=self._folder, progress=progress, writable=[prefix], held=held
        )

    def _compile(
        self,
        install: Sequence[str],
        interpreter: Interpreter,
        prefix: Path,
        made: Made,
        log: Path,
        progress: Progress,
        held: Sequence[int],
    ) -> None:
        """Install what has no wheel, too: building it runs its own code, as a stranger."""
        progress("not all of it is there ready-made: packages are compiled")
        files = self._folder / "files"  # wheels that were published by their path
        named = [files] if files.is_dir() else []
        read = [Path(find_uv_bin()), *interpreter_files(interpreter.path), *named]
        stranger = self._stranger(prefix, read, progress)
        scratch = prefix / ".build"
        scratch.mkdir()
        stranger.give(prefix)
        self._uv.run_foreign(
            install,
            stranger=stranger,
            scratch=scratch,
            log=log,
            folder=prefix,
            progress=progress,
            readable=read,
            writable=[prefix],
            held=held,
        )
        remove_tree(scratch)
        owner = os.geteuid() if stranger.user is None else stranger.user.uid
        check_files(prefix, owner=owner, made=made)
        stranger.take_back(prefix)

    def _stranger(self, prefix: Path, read: Sequence[Path], progress: Progress) -> Stranger:
        stranger = self._enclosure.stranger(
            f"environment {prefix.name}", passes=[prefix.parent], reads=read
        )
        if stranger.note:
            progress(stranger.note)
        return stranger

    def _extract(
        self,
        pack: PackEnvironment,
        file: BinaryIO,
        prefix: Path,
        log: Path,
        progress: Progress,
        held: Sequence[int],
    ) -> int:
        stranger = self._stranger(prefix, unpacker_files(), progress)
        stranger.give(prefix)
        entries = unpack_confined(
            file,
            prefix,
            size=pack.size,
            enclosure=self._enclosure,
            stranger=stranger,
            log=log,
            on_bytes=_report_tenths(pack, progress),
            held=held,
        )
        stranger.take_back(prefix)
        return entries

    def _relocate(
        self, stranger: Stranger, python: Path, prefix: Path, log: Path, held: Sequence[int]
    ) -> None:
        """Run the pack's own conda-unpack with its own Python; without one it stays as it is."""
        program = prefix / UNPACK_PROGRAM
        if not program.is_file():
            return
        try:
            with (
                self._enclosure.scratch(stranger) as scratch,
                self._enclosure.run_foreign(
                    [str(python), "-I", "-S", str(program)],
                    stranger=stranger,
                    log=log,
                    folder=prefix,
                    environment={"LC_ALL": "C.UTF-8", "PATH": f"{prefix}/bin:{os.defpath}"},
                    scratch=scratch,
                    readable=[],
                    writable=[prefix],
                    held=held,
                ) as running,
            ):
                log_warnings(running, log)
                code = running.wait(RELOCATION_LIMIT_S)
        except SpawnFault as error:
            raise EnvironmentFault(f"its {UNPACK_PROGRAM} cannot be run: {error}") from error
        if code is None:
            raise EnvironmentFault(f"its {UNPACK_PROGRAM} took over {RELOCATION_LIMIT_S:.0f} s")
        if code != 0:
            if not version_of(self._enclosure, python):
                raise EnvironmentFault(unusable.when_asked(self._enclosure, python))
            raise EnvironmentFault(f"its {UNPACK_PROGRAM} failed; its words are in {log}")


def _refuse_foreign_files(prefix: Path, made: Made) -> None:
    try:
        _refuse_marker(prefix)
        made.check(prefix)
        check_records(prefix)
        check_files(prefix, made=made, owner=os.geteuid())
    except OSError as error:
        raise EnvironmentFault(f"its files cannot be looked through: {error}") from error


def _refuse_marker(prefix: Path) -> None:
    if os.path.lexists(prefix / MARKER):
        raise EnvironmentFault(f"it brings a {MARKER}, which only havre writes")


def _report_tenths(pack: PackEnvironment, progress: Progress) -> Callable[[int], None]:
    reported = 0

    def report(done: int) -> None:
        nonlocal reported
        tenth = done * 10 // max(pack.size, 1)
        if pack.size > _MIN_REPORTED_BYTES and reported < tenth < 10:
            reported = tenth
            progress(f"unpacking {pack.slug}: {tenth}0 %")

    return report
