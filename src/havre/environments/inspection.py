"""Whether an environment is what it claims: it runs, its packages fit, each can be imported."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from havre import temporary
from havre.domain.progress import silent
from havre.environments.confinement import Enclosure
from havre.environments.definition import BuiltEnvironment
from havre.environments.libraries import lent_variables
from havre.environments.machine_pythons import version_of
from havre.environments.uv import Uv, UvFailed
from havre.supervisor.reach import interpreter_files
from havre.supervisor.spawn import SpawnFault

IMPORT_LIMIT_S = 300.0
MAX_OUTPUT_BYTES = 16 * 1024 * 1024

_VARIABLES = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
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
class EnvironmentCheck:
    """One check; ``problem`` is empty if it passed."""

    subject: str
    problem: str = ""


def inspect(built: BuiltEnvironment, enclosure: Enclosure) -> Iterator[EnvironmentCheck]:
    """Look at the interpreter, then at what the packages require, then import each of them.

    All of it runs the environment's code: confined, as a user of its own where there can be one.
    """
    version = version_of(enclosure, built.interpreter)
    if version != built.python_version:
        problem = (
            f"it answers {version}, not {built.python_version}" if version else "it does not run"
        )
        yield EnvironmentCheck("interpreter", problem)
        return
    yield EnvironmentCheck("interpreter")
    yield EnvironmentCheck("requirements of the packages", _conflicts(built, enclosure))
    yield from _imports(built, enclosure)


def _conflicts(built: BuiltEnvironment, enclosure: Enclosure) -> str:
    read = list(interpreter_files(built.interpreter))
    stranger = enclosure.stranger(f"checking {built.digest}", reads=[Path(find_uv_bin()), *read])
    with temporary.folder("check") as folder, enclosure.scratch() as own:
        command = ["pip", "check", "--python", str(built.interpreter)]
        try:
            Uv(enclosure).run_foreign(
                command,
                stranger=stranger,
                scratch=own,
                log=folder / "check.log",
                folder=Path("/"),
                progress=silent,
                readable=read,
                network=False,
            )
        except UvFailed as failure:
            lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
            return "; ".join(line for line in lines if line.startswith("The package")) or lines[-1]
    return ""


def _imports(built: BuiltEnvironment, enclosure: Enclosure) -> Iterator[EnvironmentCheck]:
    names = sorted(set(_modules(built.prefix)))
    while names:
        done = _run_imports(built, names, enclosure)
        for name, problem in done.items():
            yield EnvironmentCheck(f"import {name}", problem)
        names = [name for name in names if name not in done]


def _run_imports(built: BuiltEnvironment, names: list[str], enclosure: Enclosure) -> dict[str, str]:
    """The outcome by module; the one that ends the process is the last."""
    read = [built.prefix, *interpreter_files(built.interpreter)]
    stranger = enclosure.stranger(f"checking {built.digest}", reads=read)
    with (
        enclosure.scratch(stranger) as scratch,
        temporary.folder("check") as kept,
    ):
        try:
            with enclosure.run_foreign(
                [str(built.interpreter), "-I", "-c", _IMPORT, *names],
                stranger=stranger,
                log=kept / "log",
                folder=scratch,
                environment=_VARIABLES | lent_variables(built.interpreter),
                scratch=scratch,
                readable=read,
            ) as running:
                code = running.wait(IMPORT_LIMIT_S)
        except SpawnFault as fault:
            return {names[0]: str(fault)}
        with (kept / "log").open("rb") as log:
            output = log.read(MAX_OUTPUT_BYTES)
    how = "took too long" if code is None else f"ended Python with code {code}"
    outcome: dict[str, str] = {}
    for line in output.splitlines():
        try:
            name, problem = json.loads(line)
        except (ValueError, TypeError):  # what a package itself prints
            continue
        if name in names:
            outcome[name] = how if problem is None else str(problem)
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
