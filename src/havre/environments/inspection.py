"""Whether an environment is what it claims: it runs, its packages fit, each can be imported."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from havre.environments.definition import BuiltEnvironment
from havre.environments.interpreters import python_of
from havre.environments.uv import UvFailed, run_uv, silent

IMPORT_LIMIT_S = 300.0

_ENDS = (".py", ".so", ".pyd")
_IMPORT = """
import importlib, json, sys
for name in sys.argv[1:]:
    print(json.dumps([name, None]), flush=True)
    try:
        importlib.import_module(name)
        problem = ""
    except BaseException as error:
        problem = "%s: %s" % (type(error).__name__, error)
    print(json.dumps([name, problem]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; ``problem`` is empty if it is as it should be."""

    subject: str
    problem: str = ""


def inspect(built: BuiltEnvironment) -> Iterator[Finding]:
    """Look at the interpreter, then at what the packages require, then import each of them.

    Importing runs the packages' code, as the user that havre runs as.
    """
    version = python_of(built.interpreter)
    if version != built.python_version:
        said = f"it answers {version}, not {built.python_version}" if version else "it does not run"
        yield Finding("interpreter", said)
        return
    yield Finding("interpreter")
    yield Finding("requirements of the packages", _conflicts(built))
    yield from _imports(built)


def _conflicts(built: BuiltEnvironment) -> str:
    with tempfile.TemporaryDirectory(prefix="havre-check-") as folder:
        log = Path(folder) / "check.log"
        command = ["pip", "check", "--python", str(built.interpreter)]
        try:
            run_uv(command, log=log, folder=Path(folder), progress=silent)
        except UvFailed as failure:
            lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
            return "; ".join(line for line in lines if line.startswith("The package")) or lines[-1]
    return ""


def _imports(built: BuiltEnvironment) -> Iterator[Finding]:
    names = sorted(set(_modules(built.prefix)))
    while names:
        with tempfile.TemporaryDirectory(prefix="havre-check-") as folder:
            done = _run_imports(built, names, folder)
        for name, problem in done.items():
            yield Finding(f"import {name}", problem)
        names = [name for name in names if name not in done]


def _run_imports(built: BuiltEnvironment, names: list[str], folder: str) -> dict[str, str]:
    """The outcome by module; the one that ends the process is the last."""
    how = "took too long"
    try:
        ended = subprocess.run(
            [str(built.interpreter), "-I", "-c", _IMPORT, *names],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"LC_ALL": "C.UTF-8", "HOME": folder, "TMPDIR": folder, "PATH": "/usr/bin:/bin"},
            timeout=IMPORT_LIMIT_S,
            check=False,
        )
        said, how = ended.stdout, f"ended Python with code {ended.returncode}"
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
    outcome: dict[str, str] = {}
    for line in said.splitlines():
        try:
            name, problem = json.loads(line)
        except ValueError:  # what a package itself prints
            continue
        if name in names:
            outcome[name] = how if problem is None else problem
    return outcome or {names[0]: how}


def _modules(prefix: Path) -> Iterator[str]:
    """The public modules and packages at the top, by the records of the installed files."""
    for record in prefix.glob("lib/python3*/site-packages/*.dist-info/RECORD"):
        for line in record.read_text(errors="replace").splitlines():
            path = line.partition(",")[0]
            top, slash, rest = path.partition("/")
            name = top if slash else next((top[: -len(e)] for e in _ENDS if top.endswith(e)), "")
            name = name.partition(".")[0] if not slash else name
            if (slash and rest != "__init__.py") or not name.isidentifier():
                continue
            if not name.startswith("_") and name not in ("tests", "test", "examples"):
                yield name
