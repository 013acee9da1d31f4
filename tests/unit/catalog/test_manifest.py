"""runtime.yaml as people write it."""

import re
import time
from pathlib import Path

import pytest
from tests.zoo import manifests

from havre.catalog.manifest import LARGEST, read_manifest
from havre.domain.errors import ArtifactInvalid
from havre.domain.manifest import RuntimeManifest

WRITTEN = """
MODEL_ARTIFACT_VERSION: '3.0'
MODEL_DEPLOYMENT:
  INFERENCE_CONDA_ENV:
    INFERENCE_ENV_PATH: oci://bucket@ns/cpu/General/1.0/generalml_p38_cpu_v1
    INFERENCE_ENV_SLUG: generalml_p38_cpu_v1
    INFERENCE_ENV_TYPE: data_science
    INFERENCE_PYTHON_VERSION: 3.10
MODEL_PROVENANCE:
  PROJECT_OCID: ''
"""


def read(folder: Path, text: str | bytes) -> RuntimeManifest:
    content = text.encode() if isinstance(text, str) else text
    (folder / "runtime.yaml").write_bytes(content)
    return read_manifest(folder)


def test_every_field_is_text_as_written(tmp_path: Path) -> None:
    assert read(tmp_path, WRITTEN) == RuntimeManifest(
        slug="generalml_p38_cpu_v1",
        kind="data_science",
        path="oci://bucket@ns/cpu/General/1.0/generalml_p38_cpu_v1",
        python="3.10",
    )


def field(name: str, value: str) -> str:
    return f"MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n    {name}: {value}\n"


@pytest.mark.parametrize(
    ("written", "python"),
    [("3.8", "3.8"), ("'3.11'", "3.11"), ("3.8.18", "3.8"), ("'3.10 '", "3.10"), ("''", "")],
)
def test_versions_are_two_numbers(tmp_path: Path, written: str, python: str) -> None:
    assert read(tmp_path, field("INFERENCE_PYTHON_VERSION", written)).python == python


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "MODEL_ARTIFACT_VERSION: '3.0'\n",
        "MODEL_DEPLOYMENT:\n",
        "MODEL_DEPLOYMENT: ''\n",
        "MODEL_DEPLOYMENT: null\n",
        "MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n",
        field("INFERENCE_ENV_SLUG", "''"),
        field("INFERENCE_ENV_SLUG", "~"),
        "\ufeffMODEL_DEPLOYMENT: {}\n",
    ],
)
def test_what_is_not_said_is_empty(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == RuntimeManifest()


def test_without_the_file_nothing_is_said(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) == RuntimeManifest()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MODEL_DEPLOYMENT:\n\tINFERENCE_CONDA_ENV: x\n", "line 2.*tab"),
        ("a: b\nc: [d\ne: f\n", "line 3"),
        ("a: b: c\n", "line 1"),
        ("x: !!python/object/apply:os.system ['true']\n- y", "line 2"),
        ("- a\n- b\n", "must be a mapping.*not a list"),
        ("hello", "must be a mapping.*not a text"),
        ("MODEL_DEPLOYMENT: [a]\n", "MODEL_DEPLOYMENT.*not a list"),
        ("MODEL_DEPLOYMENT: yes please\n", "MODEL_DEPLOYMENT.*not a text"),
        (field("INFERENCE_ENV_SLUG", "[a]"), "INFERENCE_ENV_SLUG.*must be text"),
        (field("INFERENCE_ENV_TYPE", "conda"), "data_science or published, not 'conda'"),
        (field("INFERENCE_PYTHON_VERSION", "latest"), "such as '3.10', not 'latest'"),
        (field("INFERENCE_PYTHON_VERSION", "2.7"), "not '2.7'"),
        (b"\xff\xfe\xff\xff", "not UTF-8"),
        (b"a: \x00", "not UTF-8|cannot be read|special characters"),
        ("[" * 5000, "YAML"),
        ("&a [*a]", "cannot be read"),
        ("? [a]\n: b\n", "line 1"),
        ("a: 'x'\n" * LARGEST, "larger than 64 KiB"),
    ],
)
def test_what_cannot_be_understood_says_where_and_how_to_mend_it(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    with pytest.raises(ArtifactInvalid, match=f"(?s){said}"):
        read(tmp_path, text)


@pytest.mark.parametrize(("text", "fields"), manifests.READ)
def test_a_manifest_of_the_zoo_is_read(tmp_path: Path, text: str, fields: dict[str, str]) -> None:
    assert read(tmp_path, text) == RuntimeManifest(**fields)


@pytest.mark.parametrize(("text", "fields", "said"), manifests.WARNED)
def test_a_key_that_changes_nothing_is_warned_of(
    tmp_path: Path, text: str, fields: dict[str, str], said: str
) -> None:
    found = read(tmp_path, text)
    assert len(found.warnings) == 1
    assert said in found.warnings[0]
    assert found == RuntimeManifest(**fields, warnings=found.warnings)


@pytest.mark.parametrize(("text", "said"), manifests.REFUSED)
def test_a_key_that_would_lead_to_another_environment_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ArtifactInvalid, match=re.escape(said)):
        read(tmp_path, text)


def test_a_manifest_in_utf_16_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, manifests.full("INFERENCE_ENV_SLUG: a").encode("utf-16")).slug == "a"


@pytest.mark.parametrize("name", ["runtime.yml", "Runtime.yaml", "RUNTIME.YML", "runtime.yaml.txt"])
def test_a_manifest_by_another_name_is_not_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(WRITTEN)
    with pytest.raises(ArtifactInvalid, match=f"{name} is not read: call it runtime.yaml"):
        read_manifest(tmp_path)
    (tmp_path / "runtime.yaml").write_text(WRITTEN)
    assert read_manifest(tmp_path).slug == "generalml_p38_cpu_v1"


def test_many_faults_are_told_shortly(tmp_path: Path) -> None:
    text = "".join(f"k{i}:\n  INFERENCE_ENV_SLUG: a{i}\n" for i in range(500))
    with pytest.raises(ArtifactInvalid) as refused:
        read(tmp_path, text)
    assert len(refused.value.message) < 500


def test_many_warnings_are_told_shortly(tmp_path: Path) -> None:
    keys = [f"'{'k' * 900}'", *(f"x{i}" for i in range(500))]
    text = manifests.full("INFERENCE_ENV_SLUG: a\n" + "\n".join(f"{key}: 1" for key in keys))
    found = read(tmp_path, text)
    assert len(found.warnings) == 11
    assert found.warnings[-1] == "runtime.yaml has 491 more keys that are not read"
    assert all(len(warning) < 200 for warning in found.warnings)


def test_a_tag_runs_nothing(tmp_path: Path) -> None:
    text = f"x: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n"
    assert read(tmp_path, text) == RuntimeManifest()
    assert not (tmp_path / "made").exists()


def test_aliases_do_not_multiply(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    started = time.process_time()
    assert read(tmp_path, "\n".join(lines)) == RuntimeManifest()
    assert time.process_time() - started < 2
