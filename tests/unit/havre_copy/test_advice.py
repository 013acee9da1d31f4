"""What a data scientist is told to do about a model that cannot be loaded."""

import ctypes
import errno
import json
import os
import pickle
from pathlib import Path

import pytest

import havre_copy
from havre_copy.faults import MAX_TEXT_LENGTH, explain_load


def _saved(module, name):
    """What was pickled where the class was to be found."""
    return f"c{module}\n{name}\n.".encode()


def _cannot_open(kind, library):
    raise kind(f"{library}: cannot open shared object file: No such file or directory")


def _told(tmp_path, load):
    try:
        load()
    except Exception as error:
        return explain_load(error, str(tmp_path)).partition("; ")[2]
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("load", "told"),
    [
        (lambda: pickle.loads(_saved("__main__", "Logs")), "define it in a module beside score.py"),
        (lambda: pickle.loads(_saved("json.encoder", "Gone")), "another version of json than"),
        (lambda: pickle.loads(_saved("json.gone", "Gone")), "another version of json than"),
        (lambda: pickle.loads(_saved("nowhere", "Gone")), "neither the artifact nor its"),
        (lambda: __import__("nowhere.part"), "neither the artifact nor its inference environment"),
        (lambda: exec("from .features import x", {"__package__": ""}), "by name, without a dot"),
        (lambda: os.stat("weights.bin"), "put os.path.dirname(__file__) before its name"),
        (lambda: os.stat("nowhere.bin"), ""),
        (lambda: json.loads("{"), ""),
        (lambda: json.gone, ""),
        (lambda: os.stat(10**6), ""),
        (
            lambda: _cannot_open(OSError, "libgomp.so.1"),
            "install libgomp1 (Debian, Ubuntu) or libg",
        ),
        (lambda: _cannot_open(ImportError, "libGL.so.1"), "no libGL.so.1: install libgl1 (Debian"),
        (lambda: _cannot_open(OSError, "libown.so.3"), "no libown.so.3: install the system's pack"),
        (lambda: ctypes.CDLL("libnobody-has-it.so.1"), "the machine has no libnobody-has-it.so.1"),
        (lambda: ctypes.CDLL("/nowhere/libown.so.3"), ""),
    ],
)
def test_advice(tmp_path, load, told):
    (tmp_path / "weights.bin").touch()
    assert told in _told(tmp_path, load)
    assert bool(told) == bool(_told(tmp_path, load))


def test_what_the_artifact_has_itself_is_no_matter_of_versions(tmp_path):
    (tmp_path / "json.py").touch()
    assert not _told(tmp_path, lambda: pickle.loads(_saved("json.encoder", "Gone")))
    assert not _told(tmp_path, lambda: __import__("json.gone"))


def test_the_artifact_is_read_only(tmp_path):
    def load():
        raise PermissionError(13, "Permission denied", str(tmp_path / "cache.txt"))

    assert "HOME or TMPDIR" in _told(tmp_path, load)


def test_a_long_text_leaves_the_advice(tmp_path):
    def load():
        raise ModuleNotFoundError("x" * 2 * MAX_TEXT_LENGTH, name="nowhere")

    assert "neither the artifact" in _told(tmp_path, load)


def test_both_packages_name_the_same_packages_of_the_system():
    folder = Path(havre_copy.__file__).parents[1]
    name = "system_packages.py"
    ours, theirs = (folder / "havre" / "environments" / name, folder / "havre_copy" / name)
    assert ours.read_text() == theirs.read_text()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_code_that_writes_into_the_artifact_gets_advice(tmp_path, code):
    def load():
        raise OSError(code, os.strerror(code), str(tmp_path / "cache.txt"))

    assert "the artifact is read-only" in _told(tmp_path, load)
