"""What is stated of a deployment, on top of what it is."""

import pytest

from havre.cli.configuration import (
    DeployOptions,
    configuration_of,
    differences,
    differing_tags,
    read_pairs,
    tags_of,
)
from havre.contract.deployment_configuration import DeploymentConfiguration
from havre.domain.errors import InvalidParameter

MODEL = "ocid1.datasciencemodel.oc1..a"
OTHER = "ocid1.datasciencemodel.oc1..b"


def stored(configuration):
    """As the server stores and tells it."""
    read = DeploymentConfiguration.model_validate(configuration)
    return read.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.fixture
def present():
    stated = DeployOptions(
        ocpus=2, memory_gb=32, instances=3, bandwidth_mbps=100, variables={"AA": "1", "BB": "2"}
    )
    told = stored(configuration_of(stated, MODEL))
    told["modelConfigurationDetails"]["maximumBandwidthMbps"] = 150
    details = told["modelConfigurationDetails"]["instanceConfiguration"]
    details["modelDeploymentInstanceShapeConfigDetails"]["cpuBaseline"] = "BASELINE_1_2"
    return told


def test_a_new_deployment_has_one_instance_and_no_cap():
    told = stored(configuration_of(DeployOptions(), MODEL))
    model = told["modelConfigurationDetails"]
    assert model["bandwidthMbps"] == 8000
    assert model["scalingPolicy"]["instanceCount"] == 1
    assert told["environmentConfigurationDetails"]["environmentVariables"] == {}


def test_an_update_that_states_nothing_changes_only_the_model(present):
    after = stored(configuration_of(DeployOptions(), OTHER, present))
    assert differences(present, after) == []
    assert after["modelConfigurationDetails"].pop("modelId") == OTHER
    assert present["modelConfigurationDetails"].pop("modelId") == MODEL
    assert after == present


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (DeployOptions(instances=1), ["instances 3 → 1"]),
        (DeployOptions(ocpus=4), ["OCPUs 2 → 4"]),
        (DeployOptions(memory_gb=64), ["memory 32 GB → 64 GB"]),
        (
            DeployOptions(shape="VM.Standard.E5.Flex"),
            ["shape VM.Standard.E4.Flex → VM.Standard.E5.Flex"],
        ),
        (DeployOptions(shape="VM.Standard2.1"), ["shape VM.Standard.E4.Flex → VM.Standard2.1"]),
        (
            DeployOptions(bandwidth_mbps=500),
            ["bandwidth 100 Mbps → 500 Mbps", "maximum bandwidth 150 Mbps → none"],
        ),
        (
            DeployOptions(variables={"AA": "other", "BB": None, "CC": "secret", "DD": None}),
            ["variable AA is changed", "variable BB is removed", "variable CC is new"],
        ),
        (
            DeployOptions(resets=True, ocpus=2),
            [
                "memory 32 GB → 16 GB",
                "CPU baseline BASELINE_1_2 → BASELINE_1_1",
                "instances 3 → 1",
                "bandwidth 100 Mbps → no cap",
                "maximum bandwidth 150 Mbps → none",
                "variable AA is removed",
                "variable BB is removed",
            ],
        ),
    ],
)
def test_what_is_stated_changes_and_is_told_and_nothing_else(present, stated, told):
    after = stored(configuration_of(stated, MODEL, present))
    assert differences(present, after) == told


def test_a_shape_that_becomes_flexible_gets_the_standard_size():
    fixed = stored(configuration_of(DeployOptions(shape="VM.Standard2.1"), MODEL))
    after = stored(configuration_of(DeployOptions(shape="VM.Standard.E4.Flex"), MODEL, fixed))
    instance = after["modelConfigurationDetails"]["instanceConfiguration"]
    assert instance["modelDeploymentInstanceShapeConfigDetails"]["ocpus"] == 1


def test_figures_for_a_shape_of_one_size_are_refused():
    with pytest.raises(InvalidParameter, match=r"the size of VM.Standard2.1 is fixed"):
        configuration_of(DeployOptions(shape="VM.Standard2.1", ocpus=4), MODEL)


@pytest.mark.parametrize(
    "stated", [DeployOptions(ocpus=0), DeployOptions(bandwidth_mbps=0), DeployOptions(instances=0)]
)
def test_nought_is_stated_and_the_server_s_to_refuse(present, stated):
    for before in (None, present):
        with pytest.raises(ValueError, match=r"must be 1 to|greater than or equal"):
            stored(configuration_of(stated, MODEL, before))


def test_tags_are_kept_changed_taken_away_and_reset():
    present = {"a": "1", "b": "2"}
    after = tags_of(DeployOptions(tags={"b": None, "c": "3", "a": "0"}), present)
    assert after == {"a": "0", "c": "3"}
    assert differing_tags(present, after) == ["tag a 1 → 0", "tag b 2 → none", "tag c none → 3"]
    assert tags_of(DeployOptions(), present) == present
    assert tags_of(DeployOptions(resets=True, tags={"c": "3"}), present) == {"c": "3"}


def test_pairs_are_read():
    assert read_pairs(["A=1", "B=", "C=x=y-", "D-", "e-=f"], "--env") == {
        "A": "1",
        "B": "",
        "C": "x=y-",
        "D": None,
        "e-": "f",
    }


@pytest.mark.parametrize("text", ["FOO", "=x", "-", ""])
def test_what_is_no_pair_is_refused(text):
    with pytest.raises(InvalidParameter, match="must be NAME=VALUE"):
        read_pairs([text], "--env")
