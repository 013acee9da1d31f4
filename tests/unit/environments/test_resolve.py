"""Which environment an artifact gets, and what its owner is told."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from havre.domain.errors import ArtifactInvalid, EnvironmentFault
from havre.domain.manifest import RuntimeManifest
from havre.environments.definition import (
    EnvironmentDefinition,
    ExternalEnvironment,
    PackEnvironment,
    builtin_definitions,
)
from havre.environments.resolve import LARGEST_REQUIREMENTS, Available, resolve
from havre.environments.stand_ins import Hardware

PUBLISHED = {
    "mine": EnvironmentDefinition("mine", "3.12", ("six==1.17.0",)),
    "lab": ExternalEnvironment("lab", "3.11", Path("/opt/lab")),
}
ALL = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
ONNX = (
    "oci://service-conda-packs@id19sfcrra6z/service_pack/cpu/"
    "ONNX 1.10 for CPU on Python 3.7/1.0/onnx110_p37_cpu_v1"
)
PACK = "oci://bucket@ns/prefix/env"
PATH = "oci://service-conda-packs@ns/service_pack/cpu/General/1.0/"


def available(*pythons: str, default: str = "", **more: EnvironmentDefinition) -> Available:
    return Available(
        {**PUBLISHED, **more}, builtin_definitions(), (pythons or ALL).__contains__, default
    )


def manifest(slug: str = "", kind: str = "", path: str = "", python: str = "") -> RuntimeManifest:
    return RuntimeManifest(slug=slug, kind=kind, path=path, python=python)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (manifest("mine", "published"), "mine"),
        (manifest("lab"), "lab"),
        (manifest(path="oci://bucket@ns/conda/cpu/mine/1.0/mine"), "mine"),
        (manifest(path="oci://bucket@ns/packs/mine.tar.gz", kind="published"), "mine"),
        (manifest("unknown", "published", "oci://bucket@ns/x/mine/"), "mine"),
        (manifest("generalml_p39_cpu_x86_64_v1", "data_science"), "generalml_p39_cpu_x86_64_v1"),
        (manifest("generalml_p38_cpu_v1", "data_science"), "generalml_p38_cpu_x86_64_v1"),
        (manifest(path=PATH + "generalml_p311_cpu_v1"), "generalml_p311_cpu_x86_64_v1"),
        (
            manifest(path="oci://b@ns/Python_3.12/generalml_p38_cpu_v1"),
            "generalml_p312_cpu_x86_64_v1",
        ),
        (manifest("tensorflow28_p38_cpu_v1", "data_science"), "tensorflow_p38_cpu_x86_64_v1"),
        (manifest("sklearnex202130_p37_cpu_v1"), "sklearnex_p37_cpu_x86_64_v1"),
        (manifest("onnx110_p39_cpu_v1"), "onnx110_p39_cpu_x86_64_v1"),
        (manifest("onnxruntime_p312_cpu_x86_64_v1"), "onnx_p312_cpu_x86_64_v1"),
        (manifest("onnx17_p37_cpu_v1"), "onnx_p37_cpu_x86_64_v1"),
        (manifest("generalml_p311_cpu_x86_64_v6"), "generalml_p311_cpu_x86_64_v1"),
        (manifest("envslug", "data_science", ONNX, "3.7"), "onnx110_p37_cpu_x86_64_v1"),
        (manifest("envslug", "data_science", ONNX.rpartition("/")[0]), "onnx110_p37_cpu_x86_64_v1"),
        (manifest(path=ONNX.replace(" ", "%20")), "onnx110_p37_cpu_x86_64_v1"),
        (
            manifest("x", path="oci://b@ns/cpu/General Machine Learning/2.0/x", python="3.9"),
            "generalml_p39_cpu_x86_64_v1",
        ),
        (manifest("mine", python="3.12"), "mine"),
        (manifest(), "generalml_p38_cpu_x86_64_v1"),
        (manifest(python="3.10"), "generalml_p310_cpu_x86_64_v1"),
        (manifest(kind="data_science"), "generalml_p38_cpu_x86_64_v1"),
    ],
)
def test_the_first_hit_wins(tmp_path: Path, asked: RuntimeManifest, expected: str) -> None:
    resolution = resolve(asked, tmp_path, available())
    assert resolution.definition.slug == expected
    assert expected in " ".join(resolution.messages)


def test_a_published_environment_wins_over_ours_of_the_same_name(tmp_path: Path) -> None:
    slug = "generalml_p38_cpu_x86_64_v1"
    own = EnvironmentDefinition(slug, "3.8", ("six",))
    resolution = resolve(manifest(slug), tmp_path, available(**{slug: own}))
    assert resolution.definition is own


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        (("3.13", "3.8"), "3.8"),
        (("3.7", "3.12", "3.10"), "3.10"),
        (("3.13",), "3.13"),
        (("3.7",), "3.7"),
    ],
)
def test_the_default_is_the_nearest_python_that_the_machine_has(
    tmp_path: Path, pythons: tuple[str, ...], expected: str
) -> None:
    resolution = resolve(manifest(), tmp_path, available(*pythons))
    assert resolution.definition.python == expected
    told = " ".join(resolution.messages)
    assert "names no environment" in told
    assert "INFERENCE_ENV_SLUG" in told
    assert ("no Python 3.8" in told) == (expected != "3.8")


def test_a_pack_in_the_object_store_comes_before_ours_and_after_what_is_published(
    tmp_path: Path,
) -> None:
    pack = PackEnvironment("onnx110_p37_cpu_v1", ONNX, "etag", 5 << 20)
    has = replace(available(), pack_at={ONNX: pack}.get)
    for kind in ("data_science", "published", ""):
        resolution = resolve(manifest("envslug", kind, ONNX, "3.7"), tmp_path, has)
        assert resolution.definition is pack
        assert resolution.python == "3.7"
        assert resolution.messages == (
            "resolving envslug or onnx110_p37_cpu_v1",
            f"environment onnx110_p37_cpu_v1: a pack of 5 MiB at {ONNX}",
        )
    assert resolve(manifest("mine", "published", ONNX), tmp_path, has).definition.slug == "mine"


def test_a_pack_that_may_not_be_named_is_not_looked_up(tmp_path: Path) -> None:
    def look(address: str) -> PackEnvironment:
        raise AssertionError(address)

    there = replace(available(), pack_at=look, pack_refused=lambda address: f"{address} may not")
    with pytest.raises(EnvironmentFault, match=r"oci://b@ns/theirs may not"):
        resolve(RuntimeManifest("", "published", "oci://b@ns/theirs"), tmp_path, there)
    with pytest.raises(EnvironmentFault, match=r"oci://b@ns/theirs may not"):
        resolve(RuntimeManifest("theirs", "data_science", "oci://b@ns/theirs"), tmp_path, there)
    # What stands in for the original service's own packs does so all the same.
    ours = resolve(RuntimeManifest("", "data_science", ONNX), tmp_path, there)
    assert isinstance(ours.definition, EnvironmentDefinition)
    assert f"{ONNX} may not" in ours.messages


def test_the_setting_chooses_the_default(tmp_path: Path) -> None:
    resolution = resolve(manifest(), tmp_path, available(default="lab"))
    assert resolution.definition is PUBLISHED["lab"]


@pytest.mark.parametrize(
    ("asked", "has", "said"),
    [
        (
            manifest("nope", "published"),
            available(),
            "nope.*Published here: lab, mine.*env publish",
        ),
        (manifest("dataexpl_p37_cpu_v2"), available(), "nearest is generalml_p37_cpu.*env publish"),
        (manifest("pytorch110_p38_cpu_v1"), available(), "nearest is pytorch_p311_cpu"),
        (manifest("pytorch20_p39_gpu_v2"), available(), "The nearest is pytorch_p311"),
        (manifest("pyspark32_p38_cpu_v3"), available(), "The nearest is pyspark35_p311"),
        (manifest("forecast_p38_cpu_v2"), available(), "The nearest is forecast_p311"),
        (
            manifest("mlcpuv1"),
            available(),
            "3.7 is the oldest it runs. The nearest is generalml_p37",
        ),
        (manifest("envslug", "published", PACK, "3.7"), available(), f"envslug' or 'env'.*{PACK}"),
        (manifest("generalml_p38_cpu_v1", "published"), available(), "published environment"),
        (manifest("mine", python="3.8"), available(), "Python 3.8.*mine has Python 3.12"),
        (manifest("generalml_p38_cpu_v1", python="3.9"), available(), "make them agree"),
        (manifest(python="3.6"), available(), "asks for Python 3.6.*3.7, 3.8"),
        (manifest(python="3.9"), available(default="mine"), "mine has Python 3.12"),
        (manifest(), available("3.6"), "none of the Pythons 3.7, .*python_paths"),
        (manifest(), available(default="gone"), "default_environment names 'gone'"),
    ],
)
def test_what_cannot_be_says_what_was_looked_for_and_what_to_do(
    tmp_path: Path, asked: RuntimeManifest, has: Available, said: str
) -> None:
    with pytest.raises(EnvironmentFault, match=said):
        resolve(asked, tmp_path, has)


def test_an_artifact_brings_its_own_requirements(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "# mine\nnumpy==1.24.4\nscikit-learn [alldeps] >=1,<2\nxgboost; python_version > '3'\nsix\n"
    )
    by_default = resolve(manifest(), tmp_path, available("3.9", "3.11")).definition
    assert by_default.python == "3.9"
    stated = resolve(manifest(python="3.7"), tmp_path, available()).definition
    assert isinstance(stated, EnvironmentDefinition)
    assert stated.python == "3.7"
    assert stated.wheels_only
    assert len(stated.requirements) == 4
    assert stated.slug != by_default.slug


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_requirements_as_powershell_writes_them(tmp_path: Path, encoding: str) -> None:
    text = "numpy==1.24.4\r\nscikit-learn \\\r\n  ==1.3.2\r\n"
    (tmp_path / "requirements.txt").write_bytes(text.encode(encoding))
    definition = resolve(RuntimeManifest(python="3.8"), tmp_path, available("3.8")).definition
    assert isinstance(definition, EnvironmentDefinition)
    assert definition.requirements == ("numpy==1.24.4", "scikit-learn    ==1.3.2")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_requirements_that_cannot_be_read_say_how_to_save_them(
    tmp_path: Path, encoding: str
) -> None:
    (tmp_path / "requirements.txt").write_bytes("# é\nsix\n".encode(encoding))
    with pytest.raises(ArtifactInvalid, match=r"requirements\.txt.*save it as UTF-8"):
        resolve(RuntimeManifest(), tmp_path, available("3.8"))


def test_requirements_by_another_name_are_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "Requirements.TXT").write_text("six\n")
    with pytest.raises(ArtifactInvalid, match=r"Requirements\.TXT is not read: call it"):
        resolve(RuntimeManifest(), tmp_path, available("3.8"))


def test_a_named_environment_wins_over_requirements_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n")
    resolution = resolve(manifest("mine"), tmp_path, available())
    assert resolution.definition.slug == "mine"
    assert "requirements.txt of the artifact is not used" in resolution.messages[-1]


@pytest.mark.parametrize(
    "line",
    [
        "-r /etc/passwd",
        "--index-url http://evil/simple",
        "-e .",
        "./evil-1.0.tar.gz",
        "/etc/passwd",
        "file:///etc/passwd",
        "evil @ file:///tmp/evil.whl",
        "evil@http://evil/x.whl",
        "git+https://evil/x.git",
        "x ; python_version > '3' @ http://evil/x.whl",
        "x" * LARGEST_REQUIREMENTS,
    ],
)
def test_an_artifacts_requirements_may_only_name_packages(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"six\n{line}\n")
    with pytest.raises(ArtifactInvalid, match=r"requirements\.txt"):
        resolve(manifest(), tmp_path, available())


ACTIVE = {
    "armml_p312_cpu_aarch64_v1": "generalml_p312_cpu_x86_64_v1",
    "forecast_p311_cpu_x86_64_v13": "forecast_p311_cpu_x86_64_v1",
    "generalml_p311_cpu_x86_64_v3": "generalml_p311_cpu_x86_64_v1",
    "generalml_p312_cpu_x86_64_v1": "generalml_p312_cpu_x86_64_v1",
    "onnxruntime_p312_gpu_x86_64_v1": "onnx_p312_cpu_x86_64_v1",
    "pyspark35_p311_cpu_x86_64_v1": "pyspark35_p311_cpu_x86_64_v1",
    "pyspark35_p312_cpu_x86_64_v1": "pyspark35_p312_cpu_x86_64_v1",
    "python_p310_any_x86_64_v2": "python_p310_any_x86_64_v1",
    "python_p311_any_x86_64_v3": "python_p311_any_x86_64_v1",
    "python_p312_any_x86_64_v2": "python_p312_any_x86_64_v1",
    "pytorch28_p312_gpu_x86_64_v1": "pytorch28_p312_cpu_x86_64_v1",
    "tensorflow220_p312_gpu_x86_64_v1": "tensorflow220_p312_cpu_x86_64_v1",
}
"""Each environment that the original service's list calls active, and ours without a GPU or Arm."""
LACKING = {slug: "a GPU" for slug in ACTIVE if "_gpu_" in slug}
LACKING["armml_p312_cpu_aarch64_v1"] = "an Arm processor"


def test_the_active_environments_are_those_of_the_list() -> None:
    text = files("havre.environments").joinpath("definitions", "oracle_slugs.tsv").read_text()
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert {slug for slug, _, _, replacement in rows if replacement == "-"} == set(ACTIVE)


@pytest.mark.parametrize("slug", ACTIVE)
@pytest.mark.parametrize("by_path", [False, True], ids=["by slug", "by path"])
def test_every_active_environment_resolves(tmp_path: Path, slug: str, by_path: bool) -> None:
    asked = manifest(path=PATH + slug) if by_path else manifest(slug, "data_science")
    resolution = resolve(asked, tmp_path, available())
    assert resolution.definition.slug == ACTIVE[slug]
    told = " ".join(resolution.messages)
    assert (f"lacks {LACKING.get(slug)}" in told) == (slug in LACKING)
    if slug in LACKING:
        assert f"{ACTIVE[slug]} (" in told
        assert f"stands in for {slug}" in told
        assert "environment_stand_ins = false" in told


@pytest.mark.parametrize("slug", LACKING)
def test_a_machine_that_has_what_it_is_made_for_gets_the_environment_itself(
    tmp_path: Path, slug: str
) -> None:
    has = replace(available(), hardware=Hardware(gpus=1, processor="aarch64"), stand_ins=False)
    resolution = resolve(manifest(slug, "data_science"), tmp_path, has)
    assert resolution.definition.slug == slug
    assert "stands in" not in " ".join(resolution.messages)


@pytest.mark.parametrize("slug", LACKING)
def test_the_setting_refuses_stand_ins_for_other_hardware(tmp_path: Path, slug: str) -> None:
    strict = replace(available(), stand_ins=False)
    with pytest.raises(EnvironmentFault) as refused:
        resolve(manifest(slug, "data_science"), tmp_path, strict)
    for part in (slug, LACKING[slug], "environment_stand_ins", ACTIVE[slug]):
        assert part in refused.value.message


def test_the_setting_does_not_refuse_what_stands_in_on_the_same_hardware(tmp_path: Path) -> None:
    strict = replace(available(), stand_ins=False)
    resolution = resolve(manifest("generalml_p38_cpu_v1"), tmp_path, strict)
    assert resolution.definition.slug == "generalml_p38_cpu_x86_64_v1"


def test_a_gpu_slug_of_which_there_is_none_for_gpus_gets_its_stand_in_even_with_a_gpu(
    tmp_path: Path,
) -> None:
    has = replace(available(), hardware=Hardware(gpus=1))
    resolution = resolve(manifest("tensorflow28_p38_gpu_v1"), tmp_path, has)
    assert resolution.definition.slug == "tensorflow_p38_cpu_x86_64_v1"
    assert "none of that kind for GPUs" in resolution.messages[-1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("PySpark 3.5 and Data Flow CPU on Python 3.11", "pyspark35_p311_cpu_x86_64_v1"),
        ("AI Forecasting Operator for CPU on Python 3.11", "forecast_p311_cpu_x86_64_v1"),
        ("Base Environment for CPU or GPU on Python 3.12", "python_p312_any_x86_64_v1"),
        ("PyTorch 2.8 for GPU on Python 3.12", "pytorch28_p312_cpu_x86_64_v1"),
        ("ONNX Runtime for GPU on Python 3.12", "onnx_p312_cpu_x86_64_v1"),
    ],
)
def test_the_words_of_a_path_name_the_new_families_too(
    tmp_path: Path, words: str, expected: str
) -> None:
    path = f"oci://service-conda-packs@ns/service_pack/{words}/1.0/x"
    assert resolve(manifest("x", path=path), tmp_path, available()).definition.slug == expected
