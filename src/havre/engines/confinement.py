"""What an instance may use of the machine: its own folders, its environment, the system's files.

Decides only; the supervisor carries it out. See docs/explanation/isolation.md.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from havre.domain.instance import InstanceSpec
from havre.home import Home
from havre.supervisor.protocol import Confinement, User
from havre.unprivileged import group_of, unreachable_part, user_of, why_models_run_as_us

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt"),
    *("/nix/store", "/gnu/store", "/proc", "/sys"),
)
LINKED_FROM_ETC = ("/etc/resolv.conf", "/etc/hosts", "/etc/localtime")
"""On many machines these lead to files elsewhere."""
OF_AN_INTERPRETER = ("bin", "lib", "lib64", "libexec", "share", "include", "ssl", "etc")
"""An interpreter may be installed into somebody's own folder: only these are read of it."""
SIGNS_OF_AN_ENVIRONMENT = ("pyvenv.cfg", "conda-meta")
SHARED_MEMORY = "/dev/shm"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
GPUS = "nvidia*"

MEMORY_SHARE = 0.9
"""A shape may be larger than the machine; this part of the machine is the most one instance gets,
so that it is ended, not the machine's other work."""
PROCESSES, PROCESSES_PER_COPY = 256, 64
"""Threads included; an idle PyTorch copy has about 5, so this is far beyond any model's need."""
OPEN_FILES = 8192
MOST_LINKS = 40


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one instance: ``folder`` is ours, the others are the model's own."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "spec.json"

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
class Plan:
    """``notes`` are for the deployment's owner: what cannot be had here, and why."""

    confinement: Confinement
    notes: tuple[str, ...] = ()


def plan(spec: InstanceSpec, home: Home, launcher: Path) -> Plan:
    """How to confine an instance. Looks at the machine's files, changes nothing."""
    places = Places(home.instances / spec.id)
    artifact, digest = _artifact_of(spec, home)
    interpreters = list(_interpreter_files(spec.interpreter))
    user: User | None = None
    notes: tuple[str, ...] = ()
    passed = [home.instances, home.unpacked] if digest else [home.instances]
    read = [launcher, *interpreters] if digest else [artifact, launcher, *interpreters]
    obstacle = why_models_run_as_us() or _obstacle(passed, read)
    if not obstacle:
        number = user_of(spec.deployment_id)
        user = User(number, number, (group_of(digest),) if digest else ())
    elif os.geteuid() == 0:
        notes = (f"the model runs as the server's own user, root, without its powers: {obstacle}",)
    # Raising one's own oom_score_adj is a write below /proc; root could write other things there.
    proc = ("/proc",) if user is not None or os.geteuid() != 0 else ()
    confinement = Confinement(
        user=user,
        memory_bytes=min(spec.memory_bytes, int(MEMORY_SHARE * _machine_memory())),
        cpus=spec.cpus,
        processes=PROCESSES + PROCESSES_PER_COPY * spec.copies,
        open_files=OPEN_FILES,
        readable=_unique(
            [
                *SYSTEM,
                *(os.path.realpath(path) for path in LINKED_FROM_ETC),
                *interpreters,
                artifact,
                launcher.parent,
                places.folder,
            ]
        ),
        writable=_unique([*places.owned, SHARED_MEMORY, *proc]),
        devices=_unique([*DEVICES, *sorted(Path("/dev").glob(GPUS))]),
        hidden=(str(home.run),),
        temporary=str(places.temporary),
        closed_ports=_own_port(home),
    )
    return Plan(confinement, notes)


def _artifact_of(spec: InstanceSpec, home: Home) -> tuple[Path, str]:
    """The whole unpacked artifact, and its digest; of one kept elsewhere its folder, and ``""``."""
    if spec.artifact.is_relative_to(home.unpacked):
        digest = spec.artifact.relative_to(home.unpacked).parts[0]
        return home.unpacked / digest, digest
    return spec.artifact, ""


def _interpreter_files(interpreter: Path) -> Iterable[Path]:
    """The program, by every link that leads to it, and the libraries beside each."""
    here = interpreter
    prefix = interpreter.parent.parent
    if any((prefix / sign).exists() for sign in SIGNS_OF_AN_ENVIRONMENT):
        yield prefix
    for _ in range(MOST_LINKS):
        yield here
        yield from _libraries(here.parent.parent)
        if not here.is_symlink():
            break
        here = here.parent / here.readlink()
    try:
        lines = (prefix / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "home":
            yield from _libraries(Path(value.strip()).parent)


def _libraries(prefix: Path) -> Iterable[Path]:
    folders = (prefix / name for name in OF_AN_INTERPRETER)
    return (folder for folder in folders if folder.is_dir())


def _obstacle(passed: Sequence[Path], read: Sequence[Path]) -> str:
    wanted = [(path, False) for path in passed] + [(path, True) for path in read]
    for path, is_read in wanted:
        if part := unreachable_part(path, is_read=is_read):
            return f"{path} is needed, and {part} is closed to other users"
    return ""


def _own_port(home: Home) -> tuple[int, ...]:
    try:
        return (int(json.loads(home.server_file.read_bytes())["port"]),)
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _unique(paths: Iterable[Path | str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(path) for path in paths))
