import pytest

from havre.domain.errors import InvalidParameter
from havre.domain.shape import GIB, SHAPES, choose_shape


def test_names_are_unique():
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)


def test_a_fixed_shape_has_its_own_size_whatever_is_asked():
    choice = choose_shape("VM.Standard2.2", ocpus=99, memory_gb=1)
    assert (choice.ocpus, choice.memory_gb, choice.default_copies) == (2.0, 30.0, 4)


def test_a_flexible_shape_has_the_size_asked_for():
    choice = choose_shape("VM.Standard.E4.Flex", ocpus=1, memory_gb=16)
    assert (choice.cpus, choice.memory_bytes, choice.default_copies) == (2.0, 16 * GIB, 2)


def test_a_baseline_lowers_the_cpus_and_not_the_copies():
    choice = choose_shape("VM.Standard.E4.Flex", ocpus=2, memory_gb=16, baseline="BASELINE_1_2")
    assert (choice.cpus, choice.default_copies) == (2.0, 4)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("VM.Nowhere", {}, ["VM.Nowhere", "modelDeploymentShapes"]),
        ("VM.Standard.E4.Flex", {}, ["ocpus and memoryInGBs"]),
        ("VM.Standard.E4.Flex", {"ocpus": 1}, ["ocpus and memoryInGBs"]),
        ("VM.Standard.E4.Flex", {"ocpus": 0.5, "memory_gb": 8}, ["ocpus must be 1 to 64"]),
        ("VM.Standard.E4.Flex", {"ocpus": 65, "memory_gb": 99}, ["ocpus must be 1 to 64"]),
        ("VM.Standard.E4.Flex", {"ocpus": 2, "memory_gb": 1}, ["memoryInGBs must be 2 to 128"]),
        ("VM.Standard.E4.Flex", {"ocpus": 1, "memory_gb": 65}, ["memoryInGBs must be 1 to 64"]),
        ("VM.Optimized3.Flex", {"ocpus": 18, "memory_gb": 257}, ["18 to 256"]),
        ("VM.Standard2.1", {"baseline": "HALF"}, ["cpuBaseline", "BASELINE_1_2"]),
        (
            "VM.Standard.E4.Flex",
            {"ocpus": 0, "memory_gb": 1, "baseline": "HALF"},
            ["cpuBaseline", "ocpus"],
        ),
    ],
)
def test_refusals_say_what_would_do(name, options, words):
    with pytest.raises(InvalidParameter) as caught:
        choose_shape(name, **options)
    for word in words:
        assert word in caught.value.message
