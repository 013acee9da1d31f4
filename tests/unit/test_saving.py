"""``havre.save``: from a model in memory to an artifact that answers."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import havre
from havre.catalog.manifest import read_manifest
from havre.domain.errors import Conflict, InvalidParameter
from havre.domain.manifest import RuntimeManifest
from havre_copy.faults import HttpError
from havre_copy.input_schema import checker

FRAME = pd.DataFrame({"size": [1.0, 2.0, 3.0], "town": ["a", "b", "a"], "n": [1, 2, 3]})
PRICES = [10.0, 30.0, 20.0]


def fitted():
    # Here, so that only who runs these tests waits for scikit-learn.
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    towns = make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough")
    return make_pipeline(towns, LinearRegression()).fit(FRAME, PRICES)


def score(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_of_test", folder / "score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_pipeline_on_a_frame_becomes_an_artifact_that_answers(tmp_path: Path) -> None:
    folder = havre.save(fitted(), tmp_path / "prices", sample=FRAME)
    sample = json.loads((folder / "test_input.json").read_text())
    assert sample == FRAME.head(2).to_dict(orient="records")
    answer = score(folder).predict(sample)["prediction"]
    assert list(answer) == pytest.approx(PRICES[:2])
    # Columns in another order, a float that JSON writes as an integer.
    turned = [{"n": 1, "town": "a", "size": 1}]
    assert list(score(folder).predict(turned)["prediction"]) == pytest.approx(PRICES[:1])
    with pytest.raises(KeyError, match="town"):
        score(folder).predict([{"n": 1, "size": 1}])


def test_requests_are_held_to_the_columns_of_the_sample(tmp_path: Path) -> None:
    folder = havre.save(fitted(), tmp_path / "prices", sample=FRAME)
    check = checker(str(folder), {})
    check([{"size": 1, "town": "a", "n": 1}])
    with pytest.raises(HttpError, match="row 1, column 'size': \"x\" is not a number"):
        check([{"size": 1, "town": "a", "n": 1}, {"size": "x", "town": "a", "n": 1}])
    with pytest.raises(HttpError, match="town"):
        check([{"size": 1, "n": 1}])
    assert checker(str(havre.save(abs, tmp_path / "m", sample=1)), {}) is None


def test_its_python_and_versions_are_recorded(tmp_path: Path) -> None:
    folder = havre.save(fitted(), tmp_path / "prices", sample=FRAME)
    own = "{}.{}".format(*sys.version_info)
    assert read_manifest(folder) == RuntimeManifest(python=own)
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert f"scikit-learn=={__import__('sklearn').__version__}" in lines
    assert f"pandas=={pd.__version__}" in lines
    assert f"numpy=={np.__version__}" in lines
    assert lines[0].startswith("# Recorded by havre.save")


def test_an_array_keeps_its_dtype(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(np.eye(3, dtype="float32"), [1.0, 2.0, 3.0])
    folder = havre.save(model, tmp_path / "m", sample=np.eye(3, dtype="float32"))
    rows = json.loads((folder / "test_input.json").read_text())
    assert list(score(folder).predict(rows)["prediction"]) == pytest.approx([1.0, 2.0], abs=1e-5)
    assert "float32" in (folder / "score.py").read_text()


def test_what_is_there_is_replaced_only_when_told(tmp_path: Path) -> None:
    folder = havre.save(abs, tmp_path / "m", sample=1)
    with pytest.raises(Conflict, match="overwrite=True"):
        havre.save(fitted(), folder)
    havre.save(fitted(), folder, overwrite=True)
    assert not (folder / "test_input.json").exists()  # the sample of another model


@pytest.mark.parametrize(
    ("model", "sample", "said"),
    [
        (object(), None, "no predict"),
        ((n for n in [1]).__next__, None, "cannot be pickled"),
        (abs, object(), "sample cannot be a request"),
    ],
)
def test_what_cannot_be_saved_says_why_and_leaves_nothing(
    tmp_path: Path, model: object, sample: object, said: str
) -> None:
    with pytest.raises(InvalidParameter, match=said):
        havre.save(model, tmp_path / "m", sample=sample)
    assert not (tmp_path / "m").exists()


def test_nothing_else_is_offered() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        havre.load  # noqa: B018
