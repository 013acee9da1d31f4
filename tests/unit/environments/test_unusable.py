"""Packs whose Python does not serve here: each kind gets words of its own."""

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from havre.environments.confinement import Enclosure
from havre.environments.elf import MACHINES
from havre.environments.unusable import at_sight, too_old, when_asked

HERE = os.uname().machine
OTHER = "aarch64" if HERE == "x86_64" else "x86_64"


def _program(content: bytes) -> Callable[[Path], None]:
    def make(prefix: Path) -> None:
        (prefix / "bin").mkdir()
        (prefix / "bin/python").write_bytes(content)

    return make


def _of_machine(prefix: Path) -> None:
    """This Python's own program, said to be for another machine."""
    data = bytearray(Path(os.path.realpath(sys.executable)).read_bytes())
    struct.pack_into("H", data, 18, MACHINES[OTHER])
    _program(bytes(data))(prefix)


def _link(prefix: Path) -> None:
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to("python3.11")


def _nested(prefix: Path) -> None:
    (prefix / "my_env/bin").mkdir(parents=True)
    (prefix / "my_env/bin/python").touch()


def _folders(*names: str) -> Callable[[Path], None]:
    def make(prefix: Path) -> None:
        for name in names:
            (prefix / name).mkdir()

    return make


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(_nested, "lies below my_env/: pack what is in that folder", id="nested"),
        pytest.param(_folders("conda-meta"), "conda environment without Python", id="no Python"),
        pytest.param(_folders("Scripts"), "it is for Windows", id="Windows"),
        pytest.param(_folders("src", "docs"), "its top holds docs, src", id="no environment"),
        pytest.param(_link, "a link to python3.11, which is not in it", id="a link"),
        pytest.param(_program(b"#!/bin/sh\n"), "is a script", id="a script"),
        pytest.param(_program(b"MZ\0\0"), "a program for Windows", id="a program of Windows"),
        pytest.param(_program(b"\xcf\xfa\xed\xfe1"), "a program for macOS", id="macOS"),
        pytest.param(_program(b"\x7fELF\x01"), "32-bit", id="32 bits"),
        pytest.param(_program(b"text"), "is no program of this machine", id="damaged"),
        pytest.param(_of_machine, f"is for {OTHER}, and this machine is {HERE}", id="machine"),
    ],
)
def test_at_sight(tmp_path: Path, make: Callable[[Path], None], told: str) -> None:
    make(tmp_path)
    assert told in at_sight(tmp_path, HERE)


def test_nothing_is_said_of_a_python_of_this_machine(tmp_path: Path) -> None:
    _program(Path(os.path.realpath(sys.executable)).read_bytes())(tmp_path)
    assert not at_sight(tmp_path, HERE)


class _Says:
    def __init__(self, code: int | None, said: str) -> None:
        self.answer = (code, said)

    def run_python(self, *_: Any) -> tuple[int | None, str]:
        return self.answer


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (0, "PyPy 3.10.14 final 64 gil\n", "is PyPy 3.10.14: models are served with CPython"),
        (0, "CPython 2.7.18 final 64 gil\n", "its Python is 2.7.18: models are served from"),
        (0, "CPython 3.6.15 final 64 gil\n", "its Python is 3.6.15: models are served from"),
        (0, "CPython 3.15.0 alpha 64 gil\n", "is a pre-release"),
        (0, "CPython 3.11.7 final 32 gil\n", "is for 32 bits"),
        (0, "CPython 3.14.0 final 64 free\n", "a free-threaded one"),
        (
            127,
            "python: error while loading shared libraries: libpython3.11.so.1.0: cannot open\n",
            "does not start on this machine: libpython3.11.so.1.0: cannot open",
        ),
        (1, "python: /lib/libc.so.6: version `GLIBC_2.38' not found (required by x)", "GLIBC_2.38"),
        (-4, "", "was ended by SIGILL when it started: it may be compiled for a newer processor"),
        (-11, "", "was ended by SIGSEGV"),
        (None, "", "did not answer in time"),
        (
            1,
            "Fatal Python error: init_fs_encoding: failed\nModuleNotFoundError: No module named "
            "'encodings'\n",
            "failed; ModuleNotFoundError: No module named 'encodings'",
        ),
        (3, "", "it exited with code 3"),
    ],
)
def test_when_asked(code: int | None, said: str, told: str) -> None:
    assert told in when_asked(cast("Enclosure", _Says(code, said)), Path("python"))


def test_which_versions_are_too_old() -> None:
    assert too_old("3.6.15")
    assert not too_old("3.7.0")
