"""What a data scientist is told to do about a model that cannot be loaded."""

import json
import os
import pickle

import pytest

from havre_copy.faults import LONGEST_TEXT, explain_load


def _saved(module, name):
    """What was pickled where the class was to be found."""
    return f"c{module}\n{name}\n.".encode()


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
        raise ModuleNotFoundError("x" * 2 * LONGEST_TEXT, name="nowhere")

    assert "neither the artifact" in _told(tmp_path, load)
