"""What is put beside a model's own code."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import orjson
import pytest

from havre.engines import copy_code
from havre.home import Home


@pytest.fixture
def program() -> Iterator[Path]:
    # On the disk: who compiles it is confined, and has a shared memory of its own.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hv") as folder:
        home = Home(Path(folder))
        home.lib.mkdir()
        yield copy_code.install(home, Path(sys.executable))


def test_it_brings_orjson_for_this_python_alone(program: Path) -> None:
    [library] = program.parent.glob("*.so")
    assert library.name == f"orjson{EXTENSION_SUFFIXES[0]}"
    original = Path(orjson.__file__).with_name(library.name)
    assert library.read_bytes() == original.read_bytes()


def test_its_byte_code_is_there_and_no_other_python_writes_there(program: Path) -> None:
    assert list((program.parent / "__pycache__").glob("launch.*.pyc"))
    home = Home(program.parents[3])
    assert copy_code.install(home, Path(sys.executable)) == program
    other = copy_code.install(home, Path("/bin/false"))
    assert other.parents[1] != program.parents[1]
    assert other.read_bytes() == program.read_bytes()


def test_it_is_used_where_the_environment_has_none_and_models_do_not_see_it(program: Path) -> None:
    said = told(
        program,
        "from havre_copy.encoding import fastest_codec",
        "print(fastest_codec()._fast_loads.__module__, find_spec('orjson'))",
    )
    assert said == "orjson None"


def test_an_interpreter_that_cannot_load_it_uses_the_standard_library(program: Path) -> None:
    [library] = program.parent.glob("*.so")
    library.unlink()
    library.write_bytes(b"for another machine")
    said = told(
        program,
        "from havre_copy.encoding import fastest_codec",
        "codec = fastest_codec()",
        "print(codec._fast_loads, codec.loads(b'[1]'))",
    )
    assert said == "None [1]"


def told(program: Path, *lines: str) -> str:
    """What a bare Python, without any packages, prints."""
    path = f"import sys; sys.path.insert(0, {str(program.parents[1])!r})"
    script = "\n".join([path, "from importlib.util import find_spec", *lines])
    command = [sys.executable, "-I", "-S", "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
