import json
from dataclasses import replace

import pytest

from havre.domain.deployment import DeploymentSpec
from havre.domain.shape import choose_shape

SPEC = DeploymentSpec(
    model_id="m",
    artifact_digest="d",
    shape=choose_shape("VM.Standard.E4.Flex", ocpus=2, memory_gb=16),
    environment_variables={"A": "1", "B": "2"},
)


@pytest.mark.parametrize(
    ("variables", "copies"),
    [({}, 4), ({"WEB_CONCURRENCY": "3"}, 3), ({"WEB_CONCURRENCY": ""}, 4)],
)
def test_copies(variables, copies):
    assert replace(SPEC, environment_variables=variables).copies == copies


@pytest.mark.parametrize(
    "change",
    [
        {"model_id": "n"},
        {"artifact_digest": "e"},
        {"shape": choose_shape("VM.Standard2.1")},
        {"environment_variables": {"A": "1"}},
    ],
)
def test_what_instances_are_started_from_makes_a_revision(change):
    assert replace(SPEC, **change).revision != SPEC.revision


@pytest.mark.parametrize(
    "change",
    [
        {"instance_count": 3},
        {"bandwidth_mbps": 20},
        {"maximum_bandwidth_mbps": 20},
        {"environment_variables": {"B": "2", "A": "1"}},
    ],
)
def test_everything_else_keeps_it(change):
    assert replace(SPEC, **change).revision == SPEC.revision


def test_a_spec_survives_being_stored():
    stored = json.loads(json.dumps(SPEC.to_json()))
    assert DeploymentSpec.from_json(stored) == SPEC
    assert DeploymentSpec.from_json(stored).revision == SPEC.revision
