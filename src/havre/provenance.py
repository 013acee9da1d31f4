"""With which Python and which versions of its libraries an artifact's model was made.

What the artifact uses is read from its modules' imports and from its pickled files; nothing of it
is run. The versions are those of the Python at hand that has all of it.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from havre import installed
from havre.packing import LEFT_OUT
from havre.pickled import modules_in, pickles, sklearn_version

ASK_LIMIT_S = 30.0
SKLEARN = "scikit-learn"
_GUARDS = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package. ``from_index`` is false for folders, repositories and single files."""

    version: str
    modules: frozenset[str]
    requires: frozenset[str]
    from_index: bool = True


@dataclass(frozen=True, slots=True)
class PythonAtHand:
    """A Python and its packages by name; ``python`` is two numbers."""

    python: str
    prefix: str
    packages: Mapping[str, Package]

    def owner(self, module: str) -> str:
        """The package that brings a top-level module, or empty."""
        for name, package in self.packages.items():
            if module in package.modules:
                return name
        return ""


@dataclass(frozen=True, slots=True)
class Used:
    """``imported`` are modules that are neither Python's nor the artifact's; ``pickled`` are dotted
    names in its pickled files, ``sklearn`` the version that saved them, with the file's name.
    """

    imported: frozenset[str]
    pickled: frozenset[str] = frozenset()
    sklearn: str = ""
    sklearn_file: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """``pins`` are lines of a requirements file; ``main`` those of what the artifact itself uses.

    ``absent`` are modules that the Python has not, ``unpinnable`` packages that no index has.
    ``differs`` says that another version saved the model than the Python has, or is empty.
    """

    python: str
    prefix: str
    pins: tuple[str, ...] = ()
    main: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unpinnable: tuple[str, ...] = ()
    differs: str = ""


def used_by(folder: Path) -> Used:
    """What the artifact in a folder uses."""
    own = {path.name.partition(".")[0] for path in folder.iterdir()}
    imported: set[str] = set()
    for path in sorted(folder.rglob("*.py")):
        if not LEFT_OUT & set(path.relative_to(folder).parts):
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError, RecursionError, OSError):
                continue  # loading says so, in the words of the right Python
            imported |= set(_imports(tree))
    pickled: set[str] = set()
    version, file = "", ""
    for name, content in pickles(folder):
        pickled |= modules_in(content)
        if not version and (saved_by := sklearn_version(content)):
            version, file = saved_by, name
    foreign = imported - own - sys.stdlib_module_names
    return Used(frozenset(foreign), frozenset(pickled - own), version, file)


def provenance(used: Used, pythons: Sequence[PythonAtHand]) -> Provenance:
    """By the first Python that has all that is used, else by the first of them. Pure."""
    tried = [_of(used, python) for python in pythons]
    for result in tried:
        if not result.absent and not result.differs:
            return result
    return tried[0]


def pythons_at_hand(environ: Mapping[str, str] | None = None) -> list[PythonAtHand]:
    """The Python that runs this, then that of the activated environment if it is another."""
    environ = os.environ if environ is None else environ
    pythons = [this_python()]
    known = {os.path.realpath(pythons[0].prefix)}
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        prefix = os.path.realpath(environ[variable]) if environ.get(variable) else ""
        if prefix and prefix not in known and (other := _ask(Path(prefix, "bin", "python"))):
            pythons.append(other)
            known.add(prefix)
    return pythons


def this_python() -> PythonAtHand:
    """The Python that runs this."""
    return _read(installed.look())  # type: ignore[no-untyped-call]


def _of(used: Used, python: PythonAtHand) -> Provenance:
    owners = {module: python.owner(module) for module in sorted(used.imported)}
    absent = tuple(module for module, owner in owners.items() if not owner)
    tops = {name.partition(".")[0] for name in used.pickled if "." in name}
    direct = {owner for owner in owners.values() if owner}
    direct |= {owner for top in tops if (owner := python.owner(top))}
    here = python.packages.get(SKLEARN)
    differs = ""
    if used.sklearn and (here is None or here.version != used.sklearn):
        there = f"scikit-learn {here.version}" if here else "no scikit-learn"
        differs = (
            f"scikit-learn {used.sklearn} saved {used.sklearn_file}, {python.prefix} has {there}"
        )
        pins = [f"{SKLEARN}=={used.sklearn}", *sorted(direct - {SKLEARN})]
        return Provenance(
            python.python, python.prefix, tuple(pins), tuple(pins), absent, (), differs
        )
    all_of_it = _closure(direct, python)
    unpinnable = tuple(name for name in all_of_it if not python.packages[name].from_index)
    pins = [f"{n}=={python.packages[n].version}" for n in all_of_it if n not in unpinnable]
    main = tuple(pin for pin in pins if pin.partition("==")[0] in direct)
    return Provenance(python.python, python.prefix, tuple(pins), main, absent, unpinnable)


def _closure(direct: Iterable[str], python: PythonAtHand) -> list[str]:
    """Packages and what they require, as far as it is installed."""
    names: set[str] = set()
    waiting = list(direct)
    while waiting:
        name = waiting.pop()
        if name in python.packages and name not in names:
            names.add(name)
            waiting += python.packages[name].requires
    return sorted(names)


def _imports(tree: ast.AST) -> Iterator[str]:
    """The top-level names imported anywhere in it, but for those that it can do without."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module:
                yield node.module.partition(".")[0]
        elif isinstance(node, ast.Try) and any(_is_guard(handler) for handler in node.handlers):
            for other in (*node.handlers, *node.orelse, *node.finalbody):
                yield from _imports(other)
        else:
            yield from _imports(node)


def _is_guard(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in _GUARDS for kind in caught)


def _ask(interpreter: Path) -> PythonAtHand | None:
    """What another Python has; None if it does not say: it is no CPython 3.8 or newer, say."""
    program = Path(installed.__file__).read_text()
    try:
        completed = subprocess.run(
            [str(interpreter), "-I", "-c", program],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_LIMIT_S,
            check=True,
        )
        return _read(json.loads(completed.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def _read(report: dict[str, Any]) -> PythonAtHand:
    packages = {
        name: Package(
            package["version"],
            frozenset(package["modules"]),
            frozenset(package["requires"]),
            package["from_index"],
        )
        for name, package in report["packages"].items()
    }
    return PythonAtHand(report["python"], report["prefix"], packages)
