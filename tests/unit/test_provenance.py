"""With what a model was made: read from an artifact's files, none of which is run."""

import bz2
import gzip
import lzma
import pickle
import sys
import time
import zlib
from collections import OrderedDict
from pathlib import Path

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from havre import provenance as tested
from havre.pickled import modules_in, pickles, sklearn_version
from havre.provenance import (
    Package,
    PythonAtHand,
    Used,
    provenance,
    pythons_at_hand,
    used_by,
)

SKLEARN = __import__("sklearn").__version__


def package(version: str, *modules: str, requires: tuple[str, ...] = (), index: bool = True):
    return Package(version, frozenset(modules), frozenset(requires), index)


NOTEBOOK = PythonAtHand(
    "3.11",
    "/notebook",
    {
        "scikit-learn": package("1.5.1", "sklearn", requires=("numpy", "scipy", "absent-here")),
        "numpy": package("2.1.0", "numpy"),
        "scipy": package("1.14.0", "scipy", requires=("numpy",)),
        "mine": package("0.1", "mine", index=False),
        "pillow": package("11.0", "PIL"),
    },
)
BARE = PythonAtHand("3.12", "/bare", {"pip": package("24.0", "pip")})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_tells_its_modules_whatever_its_protocol(protocol: int) -> None:
    content = pickle.dumps(LogisticRegression(), protocol)
    assert "sklearn.linear_model._logistic" in modules_in(content)
    if protocol:
        assert sklearn_version(content) == SKLEARN


def test_raw_bytes_in_a_pickle_do_not_hide_what_comes_after_them() -> None:
    content = b"\x00\xff\x8c\x05\x8c" * 1000 + pickle.dumps(StandardScaler(), 4)
    assert sklearn_version(content) == SKLEARN
    assert "sklearn.preprocessing._data" in modules_in(content)


@pytest.mark.parametrize(
    "packed",
    [bytes, zlib.compress, gzip.compress, bz2.compress, lzma.compress],
    ids=["plain", "zlib", "gzip", "bzip2", "xz"],
)
def test_pickles_are_found_below_a_folder_however_they_are_packed(tmp_path: Path, packed) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.joblib").write_bytes(packed(pickle.dumps(LogisticRegression())))
    (tmp_path / "other.txt").write_bytes(pickle.dumps(LogisticRegression()))
    (tmp_path / "link.pkl").symlink_to(tmp_path / "other.txt")
    ((name, content),) = pickles(tmp_path)
    assert name == "models/m.joblib"
    assert sklearn_version(content) == SKLEARN


@pytest.mark.parametrize("content", [b"", b"\x78", b"\x1f\x8b\x00", b"BZh9", b"\xfd7zXZ\x00", b"c"])
def test_damaged_pickles_tell_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pkl").write_bytes(content)
    ((_, read),) = pickles(tmp_path)
    assert modules_in(read) == set()
    assert sklearn_version(read) == ""


def test_what_an_artifact_uses_is_what_it_imports_and_cannot_do_without(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(
        "import os, json, features, PIL.Image as image\n"
        "from sklearn import base\n"
        "from . import nothing\n"
        "try:\n    import cupy\nexcept ImportError:\n    import numpy\n"
        "try:\n    import scipy\nexcept ValueError:\n    pass\n"
        "def load_model():\n    import joblib\n"
    )
    (tmp_path / "features.py").write_text("import pandas\n")
    (tmp_path / "broken.py").write_text("import (\n")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "old.py").write_text("import unused\n")
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(LogisticRegression()))
    used = used_by(tmp_path)
    assert used.imported == {"PIL", "sklearn", "numpy", "scipy", "joblib", "pandas"}
    assert (used.sklearn, used.sklearn_file) == (SKLEARN, "m.pkl")


def test_versions_are_those_of_the_python_that_has_all_that_is_used() -> None:
    used = Used(frozenset({"sklearn", "PIL"}))
    for pythons in ([NOTEBOOK], [BARE, NOTEBOOK], [NOTEBOOK, BARE]):
        made = provenance(used, pythons)
        assert (made.python, made.prefix) == ("3.11", "/notebook")
        assert made.main == ("pillow==11.0", "scikit-learn==1.5.1")
        # What they require, as far as it is there, has the version that it was tried with.
        assert made.pins == (
            *("numpy==2.1.0", "pillow==11.0"),
            *("scikit-learn==1.5.1", "scipy==1.14.0"),
        )


def test_what_only_the_pickle_names_counts_too() -> None:
    used = Used(frozenset(), frozenset({"sklearn.svm._classes", "scipy"}), "1.5.1", "m.pkl")
    made = provenance(used, [BARE, NOTEBOOK])
    assert made.main == ("scikit-learn==1.5.1",)


def test_what_no_python_has_is_named() -> None:
    made = provenance(Used(frozenset({"sklearn", "torch"})), [BARE, NOTEBOOK])
    assert (made.python, made.absent) == ("3.12", ("sklearn", "torch"))


def test_the_version_that_saved_the_model_goes_before_the_one_at_hand() -> None:
    used = Used(frozenset({"sklearn", "PIL"}), frozenset(), "1.3.2", "m.pkl")
    made = provenance(used, [NOTEBOOK])
    assert made.pins == ("scikit-learn==1.3.2", "pillow")
    assert "scikit-learn 1.3.2 saved m.pkl" in made.differs
    assert "1.5.1" in made.differs


def test_what_came_from_no_index_cannot_be_pinned() -> None:
    made = provenance(Used(frozenset({"mine", "numpy"})), [NOTEBOOK])
    assert made.unpinnable == ("mine",)


def test_the_python_that_runs_this_is_the_first_at_hand() -> None:
    (own,) = pythons_at_hand({"VIRTUAL_ENV": sys.prefix, "CONDA_PREFIX": "/nowhere"})
    assert own.python == "{}.{}".format(*sys.version_info)
    assert own.owner("sklearn") == "scikit-learn"
    assert own.packages["scikit-learn"].version == SKLEARN
    assert "numpy" in own.packages["scikit-learn"].requires
    assert own.packages["numpy"].from_index


def test_what_an_activated_environment_tells_is_read_and_what_it_says_otherwise_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = PythonAtHand("3.9", str(tmp_path), {})
    asked: list[Path] = []
    monkeypatch.setattr(tested, "_ask", lambda python: asked.append(python) or told)
    found = pythons_at_hand({"VIRTUAL_ENV": str(tmp_path), "CONDA_PREFIX": str(tmp_path)})
    assert asked == [tmp_path.resolve() / "bin" / "python"]
    assert found[1:] == [told]


@pytest.mark.parametrize(
    "run",
    [b"c", b"ca\n", b"a\n", b"\x8ca", b"c.", b"_sklearn_version\x94\x8c", b"cc\n", b"\n", b"q"],
    ids=repr,
)
def test_what_is_no_pickle_costs_no_more_than_its_length(run: bytes) -> None:
    content = run * (4_000_000 // len(run))
    began = time.process_time()
    modules_in(content)
    sklearn_version(content)
    assert time.process_time() - began < 10.0


def test_modules_of_every_protocol_are_found() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert "collections" in modules_in(pickle.dumps([1, OrderedDict(a=1)], protocol=protocol))
