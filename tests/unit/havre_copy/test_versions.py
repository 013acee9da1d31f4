"""Which library's version is to blame, and which files are XGBoost's models."""

import sys

import pytest

from havre_copy import misplaced, score_file, versions


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"learner":{"gradient_booster":{}},"version":[3,1,1]}', (3, 1)),
        (
            b"{L..learner{..gradient_booster{..version[#L" + b"\0" * 7 + b"\x03i\x02i\x01i\x04",
            (2, 1),
        ),
        (b'{"learner":{"gradient_booster":{}},"version":[' + b"1" * 6000 + b",2]}", None),
        (b'{"pipeline":{"base_learner":"ridge"},"version":[4,0]}', None),
        (b'{"learner":{},"version":[4,0]}', None),
    ],
    ids=["JSON", "UBJSON", "a long number", "another's file", "half of one"],
)
def test_only_models_of_xgboost_are_taken_for_them(tmp_path, content, found):
    (tmp_path / "model.json").write_bytes(content)
    assert [version for version, _ in versions.xgboost_models(str(tmp_path))] == [found] * bool(
        found
    )


class Frame:
    """As pandas' frames are: a column is an attribute."""

    def __getattr__(self, name):
        raise AttributeError(f"'Frame' object has no attribute {name!r}", name=name, obj=self)


def test_a_column_that_is_not_there_is_no_difference_of_versions(monkeypatch):
    monkeypatch.setitem(versions.DISTRIBUTIONS, __name__.partition(".")[0], "these tests")
    with pytest.raises(AttributeError) as raised:
        Frame().age  # noqa: B018
    assert versions.advice(raised.value, "/artifact", lambda _: False) == ""


def test_a_path_that_leads_out_is_not_sought(tmp_path):
    missing = FileNotFoundError(2, "No such file or directory", f"/zz{'/..' * 20}{sys.executable}")
    assert misplaced.advice([missing], str(tmp_path)) == ""
    assert misplaced.advice([OSError(f"model '{missing.filename}' not found")], str(tmp_path)) == ""


@pytest.mark.parametrize("calls", ["", "\nMODEL = load_model()"])
def test_a_long_sum_in_score_py_is_read(tmp_path, calls):
    score = tmp_path / "score.py"
    score.write_text("X = " + " + ".join(f"'{n}'" for n in range(1200)) + calls + "\n")
    assert score_file._is_called_at_import(str(score)) is bool(calls)
