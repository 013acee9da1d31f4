"""What `havre deploy` records of an artifact that names no environment."""

from pathlib import Path

import pytest
import yaml

from havre.catalog.manifest import read_manifest
from havre.cli.recording import Recording, record
from havre.domain.manifest import RuntimeManifest
from havre.packing import pack
from havre.provenance import Package, PythonAtHand

PYTHON = PythonAtHand(
    "3.11",
    "/notebook",
    {
        "scikit-learn": Package("1.5.1", frozenset({"sklearn"}), frozenset({"numpy"})),
        "numpy": Package("2.1.0", frozenset({"numpy"}), frozenset()),
        "mine": Package("0.1", frozenset({"mine"}), frozenset(), from_index=False),
    },
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "score.py").write_text("import sklearn\n")
    return tmp_path


def recorded(folder: Path, *, slug: str = "", default: str = "", python=PYTHON) -> Recording:
    return record(folder, slug=slug, default_slug=default, pythons=lambda: [python])


def never() -> list[PythonAtHand]:
    raise AssertionError("no Python was to be asked")


def written(folder: Path, recording: Recording) -> RuntimeManifest:
    for name, content in recording.files.items():
        (folder / name).write_bytes(content)
    return read_manifest(folder)


def test_python_and_versions_are_recorded(folder: Path) -> None:
    recording = recorded(folder)
    manifest = written(folder, recording)
    assert manifest == RuntimeManifest(python="3.11")
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert lines[0].startswith("# Recorded by havre deploy")
    assert lines[1:] == ["numpy==2.1.0", "scikit-learn==1.5.1"]
    assert recording.notes == ("recorded: Python 3.11 and scikit-learn 1.5.1",)


def test_a_runtime_yaml_that_names_no_environment_keeps_the_rest(folder: Path) -> None:
    (folder / "runtime.yaml").write_text(
        "MODEL_ARTIFACT_VERSION: '3.0'\nMODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n"
        "    INFERENCE_ENV_SLUG: ''\nMODEL_PROVENANCE:\n  PROJECT_OCID: ocid1.x\n"
    )
    assert written(folder, recorded(folder)).python == "3.11"
    document = yaml.safe_load((folder / "runtime.yaml").read_text())
    assert document["MODEL_PROVENANCE"] == {"PROJECT_OCID": "ocid1.x"}
    assert document["MODEL_ARTIFACT_VERSION"] == "3.0"


@pytest.mark.parametrize("manifest", ["INFERENCE_ENV_SLUG: x", "INFERENCE_ENV_PATH: oci://a@b/c"])
def test_what_names_its_environment_is_left_alone(folder: Path, manifest: str) -> None:
    text = f"MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n    {manifest}\n"
    (folder / "runtime.yaml").write_text(text)
    assert record(folder, slug="", default_slug="", pythons=never) == Recording()


def test_a_default_that_somebody_set_goes_first(folder: Path) -> None:
    assert record(folder, slug="", default_slug="lab", pythons=never) == Recording()


def test_another_python_that_is_stated_is_not_given_these_versions(folder: Path) -> None:
    (folder / "runtime.yaml").write_text(
        "MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n    INFERENCE_PYTHON_VERSION: '3.9'\n"
    )
    assert recorded(folder) == Recording()


def test_requirements_of_its_own_get_the_python_alone(folder: Path) -> None:
    (folder / "requirements.txt").write_text("six\n")
    recording = recorded(folder)
    assert set(recording.files) == {"runtime.yaml"}
    assert written(folder, recording).python == "3.11"
    assert "Python 3.11 for requirements.txt" in recording.notes[0]
    assert record(folder, slug="", default_slug="", pythons=never) == Recording()  # stated now


def test_the_option_goes_before_all_that_runtime_yaml_says(folder: Path) -> None:
    (folder / "runtime.yaml").write_text(
        "MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n    INFERENCE_ENV_SLUG: old\n"
        "    INFERENCE_ENV_TYPE: published\n    INFERENCE_PYTHON_VERSION: '3.8'\n"
    )
    recording = record(folder, slug="lab", default_slug="other", pythons=never)
    assert written(folder, recording) == RuntimeManifest(slug="lab")


@pytest.mark.parametrize(
    ("score", "told"),
    [
        ("import torch\n", ["it has no torch", "activate the environment", "--environment SLUG"]),
        ("import mine\n", ["mine came from a folder", "havre env publish"]),
        ("import json\n", []),
    ],
)
def test_without_versions_the_python_is_recorded_and_why(
    folder: Path, score: str, told: list[str]
) -> None:
    (folder / "score.py").write_text(score)
    recording = recorded(folder)
    assert set(recording.files) == {"runtime.yaml"}
    assert recording.notes[0] == "recorded: Python 3.11, that of /notebook"
    assert len(recording.notes) == (2 if told else 1)
    for part in told:
        assert part in recording.notes[1]


def test_a_python_that_has_no_general_environment_is_not_recorded_alone(folder: Path) -> None:
    (folder / "score.py").write_text("import json\n")
    assert recorded(folder, python=PythonAtHand("3.99", "/new", {})) == Recording()


def test_a_folder_that_is_no_artifact_is_left_to_packing(tmp_path: Path) -> None:
    assert record(tmp_path / "absent", slug="x", default_slug="", pythons=never) == Recording()


def test_what_is_recorded_is_in_the_archive_and_not_in_the_folder(folder: Path) -> None:
    import zipfile

    (folder / "runtime.yaml").write_text("MODEL_ARTIFACT_VERSION: '3.0'\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    archive = folder.parent / "a.zip"
    recording = recorded(folder)
    assert pack(folder, archive, recording.files) == 3
    with zipfile.ZipFile(archive) as packed:
        assert sorted(packed.namelist()) == ["requirements.txt", "runtime.yaml", "score.py"]
        assert packed.read("runtime.yaml") == recording.files["runtime.yaml"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    again = folder.parent / "b.zip"
    pack(folder, again, recorded(folder).files)
    assert again.read_bytes() == archive.read_bytes()
