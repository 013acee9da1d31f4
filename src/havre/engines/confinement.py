"""What an instance may use of the machine: its own folders, its environment, the system's files.

Decides only; the supervisor carries it out. See docs/explanation/isolation.md.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from havre.domain.instance import InstanceSpec
from havre.engines import users
from havre.home import Home
from havre.supervisor import account
from havre.supervisor.private_view import shared_temporary
from havre.supervisor.protocol import Confinement, User
from havre.supervisor.reach import (
    DEVICES,
    SHARED_MEMORY,
    interpreter_files,
    max_memory_bytes,
    own_port,
    system_files,
    unique,
)
from havre.unprivileged import group_of, user_of

GPUS = "nvidia*"

PROCESSES, PROCESSES_PER_COPY = 256, 256
"""Threads included. An idle PyTorch copy has about 5; two copies that bring a Java each, as those
of Spark do, had 573 on two cores while they answered.
"""
OPEN_FILES = 8192
PINNING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY")
"""Where threads cannot be pinned, GNU's OpenMP ends the process that asks for it by these."""


@dataclass(frozen=True, slots=True)
class InstancePaths:
    """The folders of one instance: ``folder`` is ours, the others are the model's own."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "spec.json"

    @property
    def verdict(self) -> Path:
        """Why the engine has ended the instance; absent if it has not."""
        return self.folder / "verdict.json"

    @property
    def home(self) -> Path:
        """Its HOME and its working folder."""
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def state_file(self) -> Path:
        return self.folder / "state" / "state.json"

    @property
    def output(self) -> Path:
        """What its copies print."""
        return self.folder / "output"

    @property
    def owned(self) -> tuple[Path, ...]:
        return self.home, self.temporary, self.state_file.parent, self.output


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the settings of these names let models do."""

    models_as_root: str = users.UNAVOIDABLE
    models_unix_sockets: bool = False


@dataclass(frozen=True, slots=True)
class InstanceConfinement:
    """``notes`` are for the deployment's owner: what cannot be had here, and why.

    ``refusal`` is why the instance may not be started; empty when it may. ``left_out`` are
    variables of its environment that it could not bear.
    """

    confinement: Confinement
    notes: tuple[str, ...] = ()
    refusal: str = ""
    left_out: tuple[str, ...] = ()


def own_variables(confinement: Confinement, paths: InstancePaths) -> dict[str, str]:
    """Variables that name who runs it and where: nobody else's."""
    user = confinement.user
    name = account.name_of(os.geteuid() if user is None else user.uid)
    return {
        "HOME": str(paths.home),
        "TMPDIR": str(paths.temporary),
        "USER": name,
        "LOGNAME": name,
    }


def not_private(home: Home) -> tuple[str, ...]:
    """What a model shares with the machine because of where its home lies, for its owner."""
    return tuple(
        f"{folder} is the machine's, not the model's own, because the home lies below it: the "
        "model sees what others leave there; put the home elsewhere to change that"
        for folder in shared_temporary([str(home.root)])
    )


def confinement_for(
    spec: InstanceSpec, home: Home, launcher: Path, permissions: Permissions = Permissions()
) -> InstanceConfinement:
    """How to confine an instance. Looks at the machine's files, changes nothing."""
    paths = InstancePaths(home.instances / spec.id)
    artifact, digest = _artifact_of(spec, home)
    interpreters = list(interpreter_files(spec.workload.interpreter))
    passed = [home.instances, home.unpacked] if digest else [home.instances]
    read = [launcher, *interpreters] if digest else [artifact, launcher, *interpreters]
    number = user_of(spec.deployment_id)
    own = User(number, number, (group_of(digest),) if digest else ())
    choice = users.choose(own, passed=passed, read=read, as_root=permissions.models_as_root)
    user = choice.user
    # Raising one's own oom_score_adj is a write below /proc; root could write other things there.
    is_root = user is None and os.geteuid() == 0
    proc = () if is_root else ("/proc",)
    confinement = Confinement(
        user=user,
        memory_bytes=min(spec.memory_bytes, max_memory_bytes()),
        cpus=spec.cpus,
        processes=PROCESSES + PROCESSES_PER_COPY * spec.copies,
        open_files=OPEN_FILES,
        readable=unique(
            [
                *system_files(as_root=is_root),
                *interpreters,
                artifact,
                launcher.parent,
                paths.folder,
            ]
        ),
        writable=unique([*paths.owned, SHARED_MEMORY, *proc]),
        devices=unique([*DEVICES, *sorted(Path("/dev").glob(GPUS))]),
        hidden=(str(home.run),),
        temporary=str(paths.temporary),
        closed_ports=own_port(home),
        opened=choice.opened,
        unix_sockets=permissions.models_unix_sockets,
    )
    notes = [choice.note] if choice.note else []
    left_out = tuple(name for name in PINNING if user is None and name in spec.variables)
    if left_out:
        notes.append(
            f"{', '.join(left_out)} is left out: a model that shares the server's user cannot pin "
            "its threads to processors"
        )
    return InstanceConfinement(confinement, tuple(notes), choice.refusal, left_out)


def _artifact_of(spec: InstanceSpec, home: Home) -> tuple[Path, str]:
    """The whole unpacked artifact, and its digest; of one kept elsewhere its folder, and ``""``."""
    if spec.workload.artifact.is_relative_to(home.unpacked):
        digest = spec.workload.artifact.relative_to(home.unpacked).parts[0]
        return home.unpacked / digest, digest
    return spec.workload.artifact, ""
