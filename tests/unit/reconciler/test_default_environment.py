"""What is said of a failure in an environment that nobody chose."""

import pickle
from importlib.metadata import version
from pathlib import Path

import pytest

from havre.domain.workload import PythonWorkload
from havre.reconciler.default_environment import fitting, with_default_environment_note
from havre.reconciler.snapshot import PreparedRevision

DEFAULT = "generalml_p38_cpu_x86_64_v1"
SKLEARN_HERE = version("scikit-learn")
TRAINED = """MODEL_PROVENANCE:
  TRAINING_CONDA_ENV:
    TRAINING_PYTHON_VERSION: '{}'
"""


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedRevision:
    """An artifact that names nothing, and the default environment, of Python 3.8."""
    prefix, artifact = tmp_path / "prefix", tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "score.py").write_text("")
    for package in ("scikit_learn-1.3.2", "numpy-1.24.4"):
        (prefix / "lib/python3.8/site-packages" / f"{package}.dist-info").mkdir(parents=True)
    (prefix / "havre-environment.json").write_text(f'{{"slug": "{DEFAULT}"}}')
    return PreparedRevision(PythonWorkload(prefix / "bin" / "python", "3.8.18", artifact))


def test_a_version_that_differs_is_named_with_what_to_type(prepared: PreparedRevision) -> None:
    model = _pickled()
    (prepared.workload.artifact / "model.pkl").write_bytes(model + b"\x8c\x11numpy._core.multi")
    told = with_default_environment_note("load_model() failed: KeyError: 0", prepared)
    assert told.startswith("load_model() failed: KeyError: 0. ")
    assert f"this was the default, {DEFAULT} with Python 3.8.18" in told
    assert f"scikit-learn {SKLEARN_HERE}, not 1.3.2" in told
    assert "NumPy 2 or newer, not 1.24.4" in told
    assert "havre deploy FOLDER --environment generalml_p3" in told
    assert "INFERENCE_ENV_SLUG" in told


@pytest.mark.parametrize(
    ("reason", "is_told"),
    [
        ("score.py line 1: ModuleNotFoundError: No module named 'numpy._core'", True),
        ("score.py line 3: SyntaxError: invalid syntax", True),
        ("load_model() failed: ValueError: unsupported pickle protocol: 5", True),
        ("load_model() failed: ZeroDivisionError: division by zero", False),
        ("no instance became ready within 300 s", False),
    ],
)
def test_only_what_versions_explain_is_put_down_to_the_default(
    prepared: PreparedRevision, reason: str, is_told: bool
) -> None:
    told = with_default_environment_note(reason, prepared)
    assert (told == reason) != is_told
    assert ("this was the default" in told) == is_told


@pytest.mark.parametrize(
    "key",
    ["INFERENCE_ENV_SLUG: x", "INFERENCE_ENV_PATH: oci://a@b/c", "INFERENCE_PYTHON_VERSION: '3.8'"],
)
def test_who_chose_is_not_told_so(prepared: PreparedRevision, key: str) -> None:
    text = f"MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n    {key}\n"
    (prepared.workload.artifact / "runtime.yaml").write_text(text)
    assert with_default_environment_note("ImportError: x", prepared) == "ImportError: x"


def test_who_brought_requirements_is_not_told_so(prepared: PreparedRevision) -> None:
    (prepared.workload.artifact / "requirements.txt").write_text("six\n")
    assert with_default_environment_note("ImportError: x", prepared) == "ImportError: x"


def test_the_python_that_trained_it_is_told_where_the_artifact_says_it(
    prepared: PreparedRevision,
) -> None:
    (prepared.workload.artifact / "runtime.yaml").write_text(TRAINED.format("3.12"))
    told = with_default_environment_note("TypeError: x", prepared)
    assert "made with Python 3.12, not 3.8.18" in told
    assert "--environment generalml_p312_cpu_x86_64_v1" in told
    (prepared.workload.artifact / "runtime.yaml").write_text(TRAINED.format("3.8"))
    assert with_default_environment_note("TypeError: x", prepared) == "TypeError: x"


def test_the_environment_named_has_the_scikit_learn_that_saved_the_model(tmp_path: Path) -> None:
    content = _pickled().replace(SKLEARN_HERE.encode(), b"1.3.2")
    (tmp_path / "m.pkl").write_bytes(content)
    assert fitting(tmp_path, "x") == DEFAULT


def _pickled() -> bytes:
    """A model. Only who runs these tests waits for scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    return pickle.dumps(LogisticRegression())
