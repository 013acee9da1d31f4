"""The code that runs beside a model's, ``havre_copy``: installed into the home for each Python.

The installed package may be out of a model's reach, and an upgrade replaces it while keepers run
that may still restart. A copy per content, never changed, has neither trouble. Each Python has
one of its own, because it writes the byte code there: what a pack's Python writes is read by no
other.

Beside it lies our own ``orjson``: half of the time that a request of many rows takes is JSON. Its
name has the Python in it that it is for, so that other interpreters pass it by. A model's own code
does not meet it: it is a module of ``havre_copy``.
"""

import hashlib
import os
import re
import secrets
import stat
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

from havre import temporary
from havre.durable import remove_tree, sync_tree
from havre.home import Home
from havre.supervisor.confined import started
from havre.supervisor.protocol import Confinement, ProcessSpec, User
from havre.supervisor.reach import (
    DEVICES,
    interpreter_files,
    max_memory_bytes,
    obstacle,
    system_files,
    unique,
)
from havre.supervisor.spawn import SpawnFault
from havre.unprivileged import build_user_of, why_not_separate_users

NAME = "havre_copy"
JSON = "orjson"
BYTE_CODE = "__pycache__"
COMPILE_S = 30.0
MAX_COMPILED = 16 * 1024 * 1024  # bytes of a file

_TAG = re.compile(r"[\w-]+\.pyc")


_COMPILE = """
import os, py_compile, sys
from importlib.util import cache_from_source
folder, into = sys.argv[1:]
for name in sorted(os.listdir(folder)):
    if name.endswith(".py"):
        source = os.path.join(folder, name)
        compiled = os.path.join(into, os.path.basename(cache_from_source(source)))
        py_compile.compile(source, compiled, doraise=True)
"""


def install(home: Home, interpreter: Path) -> Path:
    """The program that this interpreter is started with. Raises OSError."""
    package = _package(NAME)
    assert package is not None
    files = [*sorted(package.glob("*.py")), *_json_library()]
    sources = {path.name: path.read_bytes() for path in files}
    digest = hashlib.sha256()
    for name, content in sources.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    # Not the environment's name for it: environments of one Python share the copy.
    python = Path(os.path.realpath(interpreter))
    digest.update(os.fsencode(python))
    target = home.lib / digest.hexdigest()[:16]
    if not target.is_dir():
        _write(sources, target, home, python)
    return target / NAME / "launch.py"


def _json_library() -> list[Path]:
    folder = _package(JSON)
    return [] if folder is None else sorted(folder.glob(f"{JSON}{EXTENSION_SUFFIXES[0]}"))


def _package(name: str) -> Path | None:
    spec = find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _write(sources: dict[str, bytes], target: Path, home: Home, python: Path) -> None:
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        folder = aside / NAME
        folder.mkdir(parents=True)
        for name, content in sources.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o444)
        for path in (folder, aside):
            path.chmod(0o755)
        _compile(folder, home, python)
        sync_tree(aside)
        aside.rename(target)
    except OSError:
        remove_tree(aside)
        if not target.is_dir():  # another control plane was quicker
            raise


def _compile(folder: Path, home: Home, python: Path) -> None:
    """Write the byte code, now: keepers may not write it themselves.

    Without it every start takes a tenth of a second longer: a failure is no more than that. The
    Python may be a pack's, so it is run confined; with -I and -S no packages' code runs here.
    """
    with temporary.folder("compile", is_passable=True) as kept:
        scratch, log = kept / "scratch", kept / "log"
        scratch.mkdir()
        kept.chmod(0o711)
        read = [folder, *interpreter_files(python)]
        user = None
        if not why_not_separate_users() and not obstacle([scratch], [*read, python]):
            number = build_user_of(f"compiling for {python}")
            user = User(number, number)
            os.chown(scratch, number, number)
        as_root = user is None and os.geteuid() == 0
        spec = ProcessSpec(
            name="compile",
            argv=(str(python), "-I", "-S", "-c", _COMPILE, str(folder), str(scratch)),
            environment={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            folder=str(scratch),
            log=str(log),
            stop_grace_s=0.0,
            confinement=Confinement(
                user=user,
                memory_bytes=max_memory_bytes(),
                readable=unique([*system_files(as_root=as_root), *read]),
                writable=(str(scratch),),
                devices=DEVICES,
                hidden=(str(home.run),),
                temporary=str(scratch),
                network=False,
            ),
        )
        with suppress(SpawnFault, OSError):
            with started(spec, home) as running:
                code = running.wait(COMPILE_S)
            if code == 0:
                _take(scratch, folder)


def _take(scratch: Path, folder: Path) -> None:
    """Copies of what was compiled: regular files by the names that were wanted. Raises OSError."""
    byte_code = folder / BYTE_CODE
    byte_code.mkdir(mode=0o755)
    byte_code.chmod(0o755)
    modules = {path.stem for path in folder.glob("*.py")}
    for name in os.listdir(scratch):
        stem, _, rest = name.partition(".")
        if stem not in modules or not _TAG.fullmatch(rest):
            continue
        descriptor = os.open(scratch / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_COMPILED:
                (byte_code / name).write_bytes(file.read(MAX_COMPILED))
                (byte_code / name).chmod(0o444)
