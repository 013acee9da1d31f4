"""The house rules of CONTRIBUTING that a program can check and no other tool does."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.support.documents import ROOT

LONGEST = {"src": 400, "bench": 264, "tests": 625}
"""Lines of the longest module that each may hold. The rule is 400; where a test file is longer,
that is today's longest: lower it when that file is split, never raise it."""
DRAWERS = {"util", "utils", "helper", "helpers", "common", "misc"}


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize(("folder", "longest"), LONGEST.items())
def test_no_module_is_too_long(folder: str, longest: int) -> None:
    lines = {
        str(module.relative_to(ROOT)): len(module.read_text(encoding="utf-8").splitlines())
        for module in modules(folder)
    }
    assert {name: count for name, count in lines.items() if count > longest} == {}


@pytest.mark.parametrize("folder", LONGEST)
def test_no_module_is_a_drawer(folder: str) -> None:
    """A file or folder is named after what is in it."""
    names = {
        name
        for module in modules(folder)
        for name in (*module.relative_to(ROOT).parent.parts, module.stem)
    }
    assert {name for name in names if DRAWERS & set(name.lower().split("_"))} == set()


def test_what_the_project_names_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [project["readme"], *project["license-files"], "SECURITY.md"]
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_tests_of_slower_rings_can_be_loaded() -> None:
    """Else a name that was changed in the code alone is found by `make test`, after minutes."""
    slower = [f"tests/{ring}" for ring in ("chaos", "e2e", "hostile", "matrix", "integration")]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", *slower]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
