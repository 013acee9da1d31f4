"""The system's libraries that an environment's packages need and that this machine lacks.

Most wheels bring their libraries along; LightGBM's, and OpenCV's, do not. What such a package needs
is often there all the same: another wheel of the environment brought it, under a name of its own
(``scikit_learn.libs/libgomp-e985bcbb.so.1.0.0``). Then it is lent: a link with the name that is
needed is put into a folder where the loader looks when a model of the environment runs. It is a
link so that all packages share one copy of the library. A library that is nowhere is named in a
warning, with the system package that brings it.

Nothing of the environment is run to find out.
"""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from havre.domain.progress import Progress
from havre.environments.elf import MACHINES, SharedObject, read_shared_object
from havre.environments.system_packages import PACKAGES

LENT = Path("lib", "havre")
"""The folder of what is lent, below an environment's prefix."""

_OF_OTHER_MACHINES = re.compile(
    r"lib(cuda|cud|cublas|cufft|curand|cusolver|cusparse|cutensor|cupti|nv|nccl|"
    r"amd|hip|roc|rccl|hsa|MIOpen|ze_|OpenCL|tpu|mpi)"
)
"""Libraries of graphics cards and of clusters: whoever has neither does not miss them."""

_IS_LIBRARY = re.compile(r".+\.so(\.[\w.]+)?")
_NAME = re.compile(r"(?P<stem>[^/]+?)\.so(?P<version>[\d.]*)")
_SORTS = {"x86_64": "x86-64", "aarch64": "AArch64"}
"""What ldconfig calls the libraries of this machine, beside those of another word size."""

_LDCONFIG = ("/sbin/ldconfig", "/usr/sbin/ldconfig")
_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Lack:
    """A library that this machine lacks, and the packages of the environment that need it.

    ``lender`` is the file of the environment, relative to its prefix, that can stand in for it.
    """

    library: str
    needed_by: tuple[str, ...]
    lender: str = ""


@dataclass(slots=True)
class _Contents:
    """What lies in an environment: shared objects by their path, and all names they go by."""

    objects: dict[Path, SharedObject] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def complete(prefix: Path, log: Path, progress: Progress) -> None:
    """Lend what can be lent to a new environment; report that, and what is still missing.

    Raises OSError (a full disk).
    """
    lacks = lacking(prefix)
    lines = []
    for lack in lacks:
        if lack.lender:
            folder = prefix / LENT
            folder.mkdir(parents=True, exist_ok=True)
            (folder / lack.library).symlink_to(os.path.relpath(prefix / lack.lender, folder))
            lines.append(
                f"this machine has no {lack.library}, which {_listed(lack.needed_by)} needs: "
                f"{Path(lack.lender).name} of this environment is lent for it"
            )
    lines += warnings(lack for lack in lacks if not lack.lender)
    with log.open("a") as written:
        written.writelines(f"{line}\n" for line in lines)
    for line in lines:
        progress(line)


def warnings(lacks: Iterable[Lack]) -> list[str]:
    """A sentence for each group of packages that lacks the same: what, and what to install."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for lack in lacks:
        groups.setdefault(lack.needed_by, []).append(lack.library)
    return [
        f"{_listed(packages)} may not work: this machine has no {_listed(libraries)}; "
        f"{_remedy(libraries)}"
        for packages, libraries in groups.items()
    ]


def lent_variables(interpreter: Path, searched: str = "") -> dict[str, str]:
    """The variables with which the loader finds what is lent to an interpreter's environment.

    ``searched`` is an ``LD_LIBRARY_PATH`` of the owner's, which comes first.
    """
    folder = interpreter.parent.parent / LENT
    if not folder.is_dir():
        return {}
    return {"LD_LIBRARY_PATH": f"{searched}:{folder}" if searched else str(folder)}


def lacking(prefix: Path, *, system: frozenset[str] | None = None) -> list[Lack]:
    """What the packages of an environment need and neither it nor this machine has.

    ``system`` are the names of the libraries that the machine has; default: those of this machine.
    """
    machine = MACHINES.get(platform.machine())
    system = system_libraries() if system is None else system
    if machine is None or not system:
        return []  # unknown kind of machine
    contents = _contents(prefix, machine)
    missing: dict[str, list[tuple[Path, SharedObject]]] = {}
    for path, shared in contents.objects.items():
        for name in shared.needed:
            if not (
                "/" in name
                or name in system
                or name in contents.names
                or name.startswith(("ld-linux", "ld64"))
                or _OF_OTHER_MACHINES.match(name)
                or _is_beside(path, shared, name)
            ):
                missing.setdefault(name, []).append((path, shared))
    return [
        Lack(
            name,
            tuple(sorted({_package(prefix, path) for path, _ in needing})),
            _lender(prefix, name, (shared for _, shared in needing), contents),
        )
        for name, needing in sorted(missing.items())
    ]


def system_libraries() -> frozenset[str]:
    """The names that the loader finds on this machine by itself."""
    sort = _SORTS.get(platform.machine(), "")
    names = set()
    for line in _list_of_loader().splitlines():
        name, _, rest = line.strip().partition(" (")
        kind, arrow, path = rest.partition(") => ")
        if arrow and (not sort or sort in kind) and os.path.exists(path):
            names.add(name)
    if not names:
        for folder in _FOLDERS:
            with suppress(OSError):
                names |= {name for name in os.listdir(folder) if _IS_LIBRARY.fullmatch(name)}
    return frozenset(names)


def _list_of_loader() -> str:
    for program in _LDCONFIG:
        try:
            return subprocess.run(
                [program, "-p"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                timeout=_LIMIT_S,
                env={"LC_ALL": "C"},
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
    return ""


def _contents(prefix: Path, machine: int) -> _Contents:
    contents = _Contents()
    for folder in _own_folders(prefix):
        contents.names |= {name for name in _listing(folder) if _IS_LIBRARY.fullmatch(name)}
    for root, _, names in os.walk(prefix):
        for name in names:
            if not _IS_LIBRARY.fullmatch(name):
                continue
            contents.names.add(name)
            path = Path(root, name)
            shared = read_shared_object(path)
            if shared is not None and shared.machine == machine:
                contents.objects[path] = shared
                contents.names.add(shared.soname)
    return contents


def _own_folders(prefix: Path) -> Iterator[Path]:
    """Where the interpreter that an environment is made from has its libraries."""
    try:
        lines = (prefix / "pyvenv.cfg").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "home":
            yield Path(value.strip()).parent / "lib"


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_beside(path: Path, shared: SharedObject, name: str) -> bool:
    """Whether the loader finds it where the object itself has it look."""
    for written in shared.paths:
        folder = re.sub(r"\$ORIGIN|\$\{ORIGIN\}", lambda _: str(path.parent), written)
        if folder and os.path.exists(os.path.join(folder, name)):
            return True
    return False


def _package(prefix: Path, path: Path) -> str:
    """What the owner knows the object by: the package, or the file in the environment."""
    parts = path.relative_to(prefix).parts
    if "site-packages" in parts[:-1]:
        return parts[parts.index("site-packages") + 1].partition(".")[0]
    return "/".join(parts)


def _lender(prefix: Path, name: str, needing: Iterable[SharedObject], contents: _Contents) -> str:
    """The file of a library that a wheel brought as ``libgomp-<digits>.so.1.0.0``, or ``""``.

    It has every version of a symbol that is wanted of it. Of several it is the newest, which has
    the most: OpenMP's can end its threads only since GCC 9, without which copies are not forked.
    The digits are auditwheel's.
    """
    asked = _NAME.fullmatch(name)
    if asked is None:
        return ""
    stem, version = re.escape(asked["stem"]), re.escape(asked["version"])
    pattern = re.compile(rf"{stem}-[0-9a-f]{{6,16}}\.so{version}(\.\d+)*")
    needed_versions = frozenset[str]().union(*(shared.wants.get(name, ()) for shared in needing))
    fitting = [
        (len(shared.has), str(path.relative_to(prefix)))
        for path, shared in contents.objects.items()
        if pattern.fullmatch(path.name) and needed_versions <= shared.has
    ]
    return max(fitting)[1] if fitting else ""


def _remedy(libraries: Sequence[str]) -> str:
    known = [PACKAGES[library] for library in libraries if library in PACKAGES]
    if len(known) < len(libraries):
        return "install the system's packages that bring what the model needs of them"
    debian, fedora = (" ".join(dict.fromkeys(names)) for names in zip(*known, strict=True))
    return f"install {debian} (Debian, Ubuntu) or {fedora} (Fedora)"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
