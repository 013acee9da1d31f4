"""Virtual environments, one per peer, and the load generator; made on demand and kept.

They lie below the user's cache folder, named by the digest of what they are made from.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from havre.durable import file_lock, remove_tree

UV = Path(sys.executable).with_name("uv")
INSTALL_LIMIT_S = 1200
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "havre-bench"


class NotInstallable(Exception):
    """What a peer needs cannot be had here; the text says why."""


def environment(name: str, requirements: Path, python: str) -> Path:
    """The Python of an environment with exactly these packages. Raises NotInstallable."""
    digest = _digest(requirements.read_bytes(), python.encode())
    prefix = CACHE / f"{name}-{digest}"

    def make() -> None:
        _run(UV, "venv", "-q", "--python", python, str(prefix))
        _run(
            *(UV, "pip", "install", "-q", "--python", str(prefix / "bin" / "python")),
            *_wheels_at_hand(),
            *("--requirements", str(requirements)),
        )

    _once(prefix, make)
    return prefix / "bin" / "python"


def generator(source: Path) -> Path:
    """The compiled load generator. Raises NotInstallable."""
    folder = CACHE / f"load-{_digest(source.read_bytes())}"
    compiler = shutil.which("cc") or shutil.which("gcc")

    def make() -> None:
        if compiler is None:
            raise NotInstallable("no C compiler for the load generator: apt-get install gcc")
        folder.mkdir()
        _run(Path(compiler), "-O2", "-o", str(folder / "load"), str(source))

    _once(folder, make)
    return folder / "load"


def _once(folder: Path, make: Callable[[], None]) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    complete = folder.with_name(f"{folder.name}.complete")
    with file_lock(folder.with_name(f"{folder.name}.lock"), waiting=lambda: None):
        if not complete.exists():
            remove_tree(folder)
            make()
            complete.touch()


def _wheels_at_hand() -> list[str]:
    """uv does not read what tells pip where wheels lie."""
    places = os.environ.get("PIP_FIND_LINKS", "").split()
    return [word for place in places for word in ("--find-links", place)]


def _run(program: Path, *words: str) -> None:
    done = subprocess.run(
        [program, *words], capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise NotInstallable(done.stderr.strip()[-800:])


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
