"""Where the code lies that runs beside a model's: a copy of ``havre_copy`` in the home.

The installed package may be out of a model's reach, and an upgrade replaces it while keepers run
that may still start anew. A copy per content, never changed, has neither trouble.

Beside it lies our own ``orjson``: half of the time that a request of many rows takes is JSON. Its
name has the Python in it that it is for, so that other interpreters pass it by. A model's own code
does not meet it: it is a module of ``havre_copy``.
"""

import contextlib
import hashlib
import os
import secrets
import subprocess
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

from havre.durable import remove_tree, sync_tree
from havre.home import Home

NAME = "havre_copy"
JSON = "orjson"
COMPILE_S = 30.0


def install(home: Home) -> Path:
    """The program that a model's interpreter is started with. Raises OSError."""
    package = _package(NAME)
    assert package is not None
    files = [*sorted(package.glob("*.py")), *_json_library()]
    sources = {path.name: path.read_bytes() for path in files}
    digest = hashlib.sha256()
    for name, content in sources.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    place = home.lib / digest.hexdigest()[:16]
    if not place.is_dir():
        _write(sources, place)
    return place / NAME / "launch.py"


def compile_for(interpreter: Path, launcher: Path) -> None:
    """Write the byte code for an environment's Python, once: keepers may not write it themselves.

    Without it every start takes a tenth of a second longer: a failure is no more than that. With -I
    and -S no code of the environment's packages runs here. What lies there unmarked may be torn, by
    a power cut, and look whole to Python: it is written anew.
    """
    marks = launcher.parents[1]
    mark = marks / f"compiled-{hashlib.sha256(os.fsencode(interpreter)).hexdigest()[:16]}"
    if mark.exists():
        return
    options = ("-I", "-S", "-m", "compileall", "-q", "-f")
    command = [str(interpreter), *options, str(launcher.parent)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            umask=0o022,
            timeout=COMPILE_S,
            check=True,
        )
        sync_tree(launcher.parent)
        mark.touch()


def _json_library() -> list[Path]:
    folder = _package(JSON)
    return [] if folder is None else sorted(folder.glob(f"{JSON}{EXTENSION_SUFFIXES[0]}"))


def _package(name: str) -> Path | None:
    found = find_spec(name)
    return None if found is None or found.origin is None else Path(found.origin).parent


def _write(sources: dict[str, bytes], place: Path) -> None:
    aside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        folder = aside / NAME
        folder.mkdir(parents=True)
        for name, content in sources.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o444)
        for each in (folder, aside):
            each.chmod(0o755)
        sync_tree(aside)
        aside.rename(place)
    except OSError:
        remove_tree(aside)
        if not place.is_dir():  # another control plane was quicker
            raise
