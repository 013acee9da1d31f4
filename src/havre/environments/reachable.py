"""Interpreters that an unprivileged user can reach.

When havre runs as root its copies run as another user, who cannot enter /root: an interpreter that
lies in such a place (pyenv's, uv's) is copied once into the home, without tests and packages, and
environments are built on the copy. Aside, synchronised, renamed: a copy is whole or not there.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from havre.domain.progress import Progress
from havre.durable import file_lock, remove_tree, sync_folder, sync_tree
from havre.environments.machine_pythons import Interpreter, python_of
from havre.unprivileged import unreachable_part

CHECK_LIMIT_S = 30.0

_LIBRARY = re.compile(r".*\.so(\.\d+)*")
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo"})
_CHECK = """
import sys, ssl, ctypes, sqlite3, zlib, hashlib, socket, select
inside = sys.base_prefix == sys.argv[1]
away = sys.argv[2] + "/"
mapped = any(away in line for line in open("/proc/self/maps"))
print("ok" if inside and not mapped else "it still uses files of " + sys.argv[2])
"""


class ReachableInterpreters:
    """The copies of one home: ``root/<version>-<digest of the path>``."""

    def __init__(self, root: Path, *, as_root: bool | None = None) -> None:
        self._root = root
        self._as_root = os.geteuid() == 0 if as_root is None else as_root

    def reachable(self, interpreter: Interpreter, progress: Progress) -> Interpreter:
        """The interpreter, or its copy when copies of models could not reach it.

        If the copy does not run, that is reported and the original is used. Raises OSError (a full
        disk).
        """
        if not self._as_root or unreachable_part(interpreter.path) is None:
            return interpreter
        folder = self._folder(interpreter)
        copied = Interpreter(interpreter.version, folder / "bin" / interpreter.path.name)
        if copied.path.is_file():
            return copied
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o711)
        with file_lock(self._root / f".{folder.name}.lock"):
            if copied.path.is_file():
                return copied
            progress(f"copying Python {interpreter.version} to where models can reach it")
            problem = self._copy(interpreter, folder)
        if problem:
            progress(
                f"Python {interpreter.version} stays at {interpreter.path}, out of reach for "
                f"unprivileged users: {problem}"
            )
            return interpreter
        return copied

    def remove_unused(self, bases: set[str]) -> list[str]:
        """Remove the copies that none of ``bases`` lies in; returns their names."""
        removed = []
        for folder in sorted(self._root.glob("[!.]*")):
            if not any(Path(base).is_relative_to(folder) for base in bases):
                with file_lock(self._root / f".{folder.name}.lock"):
                    aside = self._aside(folder)
                    folder.rename(aside)
                    remove_tree(aside)
                removed.append(folder.name)
        return removed

    def _copy(self, interpreter: Interpreter, folder: Path) -> str:
        """Make the copy; returns what is wrong with it, empty if it stands."""
        aside = self._aside(folder)
        remove_tree(aside)
        try:
            copy_interpreter(interpreter, aside)
            if problem := _check(aside / "bin" / interpreter.path.name, aside, interpreter):
                return problem
            sync_tree(aside)
            aside.rename(folder)
            sync_folder(self._root)
        finally:
            remove_tree(aside)
        return ""

    def _folder(self, interpreter: Interpreter) -> Path:
        status = interpreter.path.stat()
        identity = f"{interpreter.path}:{status.st_size}:{status.st_mtime_ns}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        return self._root / f"{interpreter.version}-{digest}"

    def _aside(self, folder: Path) -> Path:
        return self._root / f".{folder.name}.aside"


def copy_interpreter(interpreter: Interpreter, into: Path) -> None:
    """An interpreter with its standard library, headers and libraries, without any packages.

    Links are followed where they lead out. Raises OSError.
    """
    prefix = interpreter.path.parent.parent
    library = f"python{interpreter.python}"
    (into / "bin").mkdir(parents=True)
    shutil.copy2(interpreter.path, into / "bin" / interpreter.path.name)
    shutil.copytree(
        prefix / "lib" / library,
        into / "lib" / library,
        ignore=shutil.ignore_patterns(*_LEFT_OUT, "config-*"),
        ignore_dangling_symlinks=True,
    )
    for file in sorted((prefix / "lib").iterdir()):
        if file.is_file() and _LIBRARY.fullmatch(file.name):
            beside = file.is_symlink() and "/" not in os.readlink(file)
            shutil.copy2(file, into / "lib" / file.name, follow_symlinks=not beside)
    headers = prefix / "include" / library
    if headers.is_dir():
        shutil.copytree(headers, into / "include" / library, ignore_dangling_symlinks=True)
    for program in (*(into / "bin").iterdir(), *(into / "lib").glob("libpython*")):
        _find_libraries_beside(program, prefix / "lib")
    for folder, _, names in os.walk(into):
        os.chmod(folder, 0o755)
        for name in names:
            path = os.path.join(folder, name)
            os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)


def _find_libraries_beside(program: Path, original: Path) -> None:
    """Have a program look for its shared libraries in ``../lib`` instead of the original folder.

    The folder's name stands in the file, ended by a zero byte; a shorter one takes its place.
    """
    content = program.read_bytes()
    stated = b"\0%s\0" % os.fsencode(original)
    beside = b"\0$ORIGIN/../lib\0"
    if stated in content and len(beside) <= len(stated):
        program.chmod(0o755)
        program.write_bytes(content.replace(stated, beside.ljust(len(stated), b"\0")))


def _check(executable: Path, folder: Path, original: Interpreter) -> str:
    """What is wrong with a copy at ``folder``: it must run on its own files alone."""
    if python_of(executable) != original.version:
        return "its copy does not run"
    try:
        completed = subprocess.run(
            [
                *(str(executable), "-I", "-S", "-c", _CHECK),
                *(str(folder), str(original.path.parent.parent)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHECK_LIMIT_S,
            env={"LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    output = completed.stdout.strip() or completed.stderr.strip().rpartition("\n")[2]
    return "" if output == "ok" else output
