"""Finds the Pythons of this machine. Nothing is ever downloaded.

Searched, first hit wins: the folders of the setting ``python_paths``, PATH, pyenv, and the Pythons
that uv keeps. A virtual environment's python counts as the one it was made from; pyenv's shims
(scripts) do not count.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from havre.domain.errors import EnvironmentFault
from havre.environments.confinement import Enclosure
from havre.environments.definition import python_order

OLDEST = (3, 7)
"""The oldest Python that a copy runs on."""

_NAME = re.compile(r"python(3(\.\d{1,2})?)?")
_VERSION = re.compile(r"3\.\d{1,3}\.\d{1,3}")
_ASK_TIMEOUT_S = 20.0
_ASK = """
import sys, sysconfig
v = sys.version_info
usable = (sys.implementation.name == "cpython" and v.releaselevel == "final"
          and sys.maxsize > 2**32 and not sysconfig.get_config_var("Py_GIL_DISABLED"))
print("%d.%d.%d" % v[:3] if usable else "")
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """``version`` is exact (``3.8.18``); ``path`` is the executable itself, not a link to it."""

    version: str
    path: Path

    @property
    def python(self) -> str:
        """Two numbers: ``3.8``."""
        return ".".join(self.version.split(".")[:2])


class Interpreters:
    """The interpreters found; searched for once per process, and again on ``rescan``."""

    def __init__(
        self, python_paths: Sequence[str], *, environ: Mapping[str, str] | None = None
    ) -> None:
        self._python_paths = python_paths
        self._environ = os.environ if environ is None else environ
        self._lock = Lock()
        self._interpreters: list[Interpreter] | None = None

    def all(self) -> list[Interpreter]:
        """All usable interpreters, the preferred ones first."""
        with self._lock:
            if self._interpreters is None:
                self._interpreters = self._scan()
            return list(self._interpreters)

    def rescan(self) -> list[Interpreter]:
        """Look again: the machine may have got another Python since."""
        with self._lock:
            self._interpreters = None
        return self.all()

    def has(self, python: str) -> bool:
        return any(interpreter.python == python for interpreter in self.all())

    def find(self, python: str) -> Interpreter:
        """The preferred interpreter of a version (``3.8``).

        Raises EnvironmentFault listing what there is and how to provide the version.
        """
        for search in (self.all, self.rescan):
            for interpreter in search():
                if interpreter.python == python and interpreter.path.exists():
                    return interpreter
        raise EnvironmentFault(self.missing(python))

    def missing(self, python: str) -> str:
        """The sentence for a version that is not there."""
        versions = sorted({interpreter.version for interpreter in self.all()}, key=python_order)
        there = f"found here: {', '.join(versions)}" if versions else "no Python was found here"
        return (
            f"Python {python} is needed and not on this machine ({there}). Install it, for example "
            f"with 'pyenv install {python}' or 'uv python install {python}', or name the folder "
            "that holds it in the setting python_paths (HAVRE_PYTHON_PATHS), or publish a pack "
            "that brings its own ('havre env publish SLUG --pack FILE')"
        )

    def _scan(self) -> list[Interpreter]:
        groups = [self._configured(), self._on_path(), self._of_pyenv(), self._of_uv()]
        ranks: dict[Path, int] = {}
        for rank, group in enumerate(groups):
            for candidate in group:
                executable = _executable(candidate)
                if executable is not None:
                    ranks.setdefault(executable, rank)
        paths = list(ranks)
        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="ask-python") as pool:
            versions = list(pool.map(python_of, paths))
        interpreters = [
            Interpreter(version, path)
            for path, version in zip(paths, versions, strict=True)
            if version and python_order(version) >= OLDEST
        ]
        # Within one source the newest patch of a version comes first.
        interpreters.sort(
            key=lambda interpreter: [-part for part in python_order(interpreter.version)]
        )
        interpreters.sort(key=lambda interpreter: ranks[interpreter.path])
        return interpreters

    def _configured(self) -> Iterator[Path]:
        for folder in self._python_paths:
            yield from _in_folder(Path(folder).expanduser())
            yield from _in_folder(Path(folder).expanduser() / "bin")

    def _on_path(self) -> Iterator[Path]:
        for folder in self._environ.get("PATH", os.defpath).split(os.pathsep):
            if os.path.isabs(folder):
                yield from _in_folder(Path(folder))

    def _of_pyenv(self) -> Iterator[Path]:
        root = self._environ.get("PYENV_ROOT") or self._beneath_home(".pyenv")
        for version in _versions(Path(root) / "versions", "3."):
            yield from _in_folder(version / "bin")

    def _of_uv(self) -> Iterator[Path]:
        data = self._environ.get("XDG_DATA_HOME") or self._beneath_home(".local/share")
        root = self._environ.get("UV_PYTHON_INSTALL_DIR") or f"{data}/uv/python"
        for version in _versions(Path(root), "cpython-3."):
            yield from _in_folder(version / "bin")

    def _beneath_home(self, name: str) -> str:
        return os.path.join(self._environ.get("HOME") or os.path.expanduser("~"), name)


def version_of(enclosure: Enclosure, executable: Path) -> str:
    """The exact version of an environment's own Python, or empty if it does not run or is none.

    It is foreign code, and asked confined.
    """
    output = enclosure.ask(executable, _ASK)
    return output if _VERSION.fullmatch(output) else ""


def python_of(executable: Path) -> str:
    """The exact version of a Python of this machine, or empty if it does not run or is none."""
    # -I -S: neither the caller's variables nor anything in site-packages takes part.
    try:
        completed = subprocess.run(
            [str(executable), "-I", "-S", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_TIMEOUT_S,
            env={"LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return completed.stdout.strip() if completed.returncode == 0 else ""


def _versions(folder: Path, begin: str) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name.startswith(begin)]
    except OSError:  # another user's, perhaps
        return []


def _in_folder(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if _NAME.fullmatch(name):
            yield folder / name


def _executable(candidate: Path) -> Path | None:
    """The program behind a candidate, or None for a script (a shim) or a copy inside a venv."""
    path = Path(os.path.realpath(candidate))
    if not os.access(path, os.X_OK) or (path.parent.parent / "pyvenv.cfg").exists():
        return None
    try:
        with path.open("rb") as file:
            return None if file.read(2) == b"#!" else path
    except OSError:
        return None
