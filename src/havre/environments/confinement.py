"""Runs foreign code while environments are built and inspected; none of it has our privileges.

There are two kinds of programs. uv, and a Python of the machine, are *ours*: only the files that
they read are foreign. They run as havre's user, without its privileges, and can write only where
they must. A program that runs code from a package or a pack is *foreign*: it has a user of its own
where possible, sees neither the home nor other people's folders, and has a network only where
packages must be fetched. See docs/explanation/isolation.md.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from havre import temporary
from havre.home import Home
from havre.supervisor.confined import Confined, started
from havre.supervisor.protocol import Confinement, ProcessSpec, User
from havre.supervisor.reach import (
    DEVICES,
    SHARED_MEMORY,
    interpreter_files,
    max_memory_bytes,
    obstacle,
    own_port,
    system_files,
    unique,
)
from havre.supervisor.spawn import SpawnFault
from havre.trees import own
from havre.unprivileged import build_user_of, why_not_separate_users

PROCESSES, OPEN_FILES = 1024, 8192
ASK_LIMIT_S = 20.0
MAX_OUTPUT_BYTES = 1024 * 1024  # bytes

EVERYTHING = (Path("/"), Path("/tmp"), Path("/var/tmp"))
"""What our own programs may read; that it is named keeps /tmp in their view."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """Who foreign code runs as: a user of its own, or ours, and then why (for the log)."""

    user: User | None
    note: str = ""

    def give(self, *folders: Path) -> None:
        """Let it own these folders and all in them. Raises OSError."""
        if self.user is not None:
            for folder in folders:
                own(folder, self.user.uid, self.user.gid)

    def take_back(self, folder: Path) -> None:
        """Once nothing of it runs any more. Raises OSError."""
        if self.user is not None:
            own(folder, os.geteuid(), os.getegid())


def log_warnings(running: Confined, log: Path) -> None:
    """Log what this machine does not enforce of a confinement. Raises OSError."""
    with log.open("ab") as written:
        for sentence in running.warnings:
            written.write(f"not enforced here: {sentence}\n".encode())


class Enclosure:
    """The one place where an environment's foreign code is started, for one home."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def stranger(
        self, what: str, *, passes: Sequence[Path] = (), reads: Sequence[Path]
    ) -> Stranger:
        """The user for ``what`` (a name), who must pass and read these files to do its work."""
        if os.geteuid() != 0:
            return Stranger(None)
        if in_the_way := why_not_separate_users() or obstacle(passes, reads):
            return Stranger(
                None, f"it runs as havre's own user, root, without its powers: {in_the_way}"
            )
        number = build_user_of(what)
        return Stranger(User(number, number))

    def run_ours(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        folder: Path,
        environment: Mapping[str, str],
        writable: Sequence[Path],
        scratch: Path,
        network: bool = False,
        held: Sequence[int] = (),
    ) -> AbstractContextManager[Confined]:
        """Start a program of ours on foreign files; its output is appended to ``log``.

        Raises SpawnFault, OSError.
        """
        confinement = replace(
            self._confinement(EVERYTHING, writable, scratch, as_root=False),
            network=network,
            closed_ports=(),
            file_modes=True,
        )
        return self._started(argv, log, folder, {**environment}, scratch, confinement, held)

    def run_foreign(
        self,
        argv: Sequence[str],
        *,
        stranger: Stranger,
        log: Path,
        folder: Path,
        environment: Mapping[str, str],
        scratch: Path,
        readable: Sequence[Path],
        writable: Sequence[Path] = (),
        network: bool = False,
        held: Sequence[int] = (),
    ) -> AbstractContextManager[Confined]:
        """Start foreign code; its words are appended to ``log``. Raises SpawnFault, OSError."""
        confinement = replace(
            self._confinement(
                readable,
                writable,
                scratch,
                as_root=stranger.user is None and os.geteuid() == 0,
            ),
            user=stranger.user,
            network=network,
            closed_ports=own_port(self.home) if network else (),
        )
        variables = {**environment, "HOME": str(scratch)}
        return self._started(argv, log, folder, variables, scratch, confinement, held)

    def ask(self, interpreter: Path, code: str, *, arguments: Sequence[str] = ()) -> str:
        """The last line that an environment's Python prints; empty if it does not run.

        It runs without its packages. Warnings of its own may come before.
        """
        exit_code, output = self.run_python(interpreter, code, arguments=arguments)
        return output.strip().rpartition("\n")[2] if exit_code == 0 else ""

    def run_python(
        self, interpreter: Path, code: str, *, arguments: Sequence[str] = ()
    ) -> tuple[int | None, str]:
        """How an environment's Python has ended (None: it took too long), and all that it printed,
        why it did not start included.
        """
        read = list(interpreter_files(interpreter))
        stranger = self.stranger(f"asking {interpreter}", reads=[interpreter, *read])
        try:
            with (
                self.scratch(stranger) as scratch,
                temporary.folder("said") as kept,
                self.run_foreign(
                    [str(interpreter), "-I", "-S", "-c", code, *arguments],
                    stranger=stranger,
                    log=kept / "log",
                    folder=Path("/"),
                    environment={"LC_ALL": "C"},
                    scratch=scratch,
                    readable=read,
                ) as running,
            ):
                exit_code = running.wait(ASK_LIMIT_S)
                with (kept / "log").open("rb") as log:
                    output = log.read(MAX_OUTPUT_BYTES).decode(errors="replace")
        except (OSError, SpawnFault) as error:
            return 1, str(error)
        return exit_code, output

    @contextmanager
    def scratch(self, stranger: Stranger = Stranger(None)) -> Iterator[Path]:
        """A folder for whatever a program leaves; it goes afterwards. Raises OSError."""
        with temporary.folder("scratch", is_passable=True) as ours:
            ours.chmod(0o711)
            scratch = ours / "scratch"
            scratch.mkdir(mode=0o700)
            stranger.give(scratch)
            yield scratch

    def _confinement(
        self, readable: Sequence[Path], writable: Sequence[Path], scratch: Path, *, as_root: bool
    ) -> Confinement:
        return Confinement(
            memory_bytes=max_memory_bytes(),
            processes=PROCESSES,
            open_files=OPEN_FILES,
            readable=unique([*system_files(as_root=as_root), *readable]),
            writable=unique([*writable, scratch, SHARED_MEMORY]),
            devices=DEVICES,
            hidden=(str(self.home.run),),
            temporary=str(scratch),
        )

    @contextmanager
    def _started(
        self,
        argv: Sequence[str],
        log: Path,
        folder: Path,
        environment: Mapping[str, str],
        scratch: Path,
        confinement: Confinement,
        held: Sequence[int],
    ) -> Iterator[Confined]:
        spec = ProcessSpec(
            name="once",
            argv=tuple(argv),
            environment={**environment, "TMPDIR": str(scratch)},
            folder=str(folder),
            log=str(log),
            stop_grace_s=0.0,
            confinement=confinement,
        )
        with started(spec, self.home, held=held) as running:
            yield running
