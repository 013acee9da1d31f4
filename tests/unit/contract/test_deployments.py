import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from havre.contract.deployments import (
    CreateModelDeploymentDetails,
    UpdateModelDeploymentDetails,
    merged,
)
from havre.domain.ocid import Kind, new_ocid

CONFIGURATION = "modelDeploymentConfigurationDetails"
MODEL = (CONFIGURATION, "modelConfigurationDetails")
INSTANCE = (*MODEL, "instanceConfiguration")
FIGURES = (*INSTANCE, "modelDeploymentInstanceShapeConfigDetails")
SCALING = (*MODEL, "scalingPolicy")
ENVIRONMENT = (CONFIGURATION, "environmentConfigurationDetails")
VARIABLES = (*ENVIRONMENT, "environmentVariables")

REQUEST: dict[str, Any] = {
    "displayName": "iris",
    "projectId": new_ocid(Kind.PROJECT),
    "compartmentId": new_ocid(Kind.TENANCY),
    CONFIGURATION: {
        "deploymentType": "SINGLE_MODEL",
        "modelConfigurationDetails": {
            "modelId": new_ocid(Kind.MODEL),
            "instanceConfiguration": {
                "instanceShapeName": "VM.Standard.E4.Flex",
                "modelDeploymentInstanceShapeConfigDetails": {"ocpus": 1.0, "memoryInGBs": 16.0},
            },
            "scalingPolicy": {"policyType": "FIXED_SIZE", "instanceCount": 1},
            "bandwidthMbps": 10,
        },
        "environmentConfigurationDetails": {
            "environmentConfigurationType": "DEFAULT",
            "environmentVariables": {"COLOUR": "red"},
        },
    },
}
ABSENT = object()


def request_with(*changes: tuple[tuple[str, ...], Any]) -> dict[str, Any]:
    """The request with each (path, value) set, or taken away where the value is ABSENT."""
    request = copy.deepcopy(REQUEST)
    for path, value in changes:
        part = request
        for key in path[:-1]:
            part = part[key]
        if value is ABSENT:
            del part[path[-1]]
        else:
            part[path[-1]] = value
    return request


def read(*changes) -> CreateModelDeploymentDetails:
    return CreateModelDeploymentDetails.model_validate(request_with(*changes))


def at(stored: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        stored = stored[key]
    return stored


def echo(details: CreateModelDeploymentDetails) -> dict[str, Any]:
    return {CONFIGURATION: details.configuration}


def problems(*changes) -> str:
    with pytest.raises(ValidationError) as caught:
        read(*changes)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in caught.value.errors(include_url=False)
    )


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("displayName",), 5, "displayName"),
        (("displayName",), "x" * 256, "displayName"),
        (("displayName",), 7, "displayName"),
        (("description",), "x" * 4001, "description"),
        (("projectId",), ABSENT, "projectId"),
        (("projectId",), "iris", "OCID"),
        (("compartmentId",), ABSENT, "compartmentId"),
        (("compartmentId",), "root", "OCID"),
        (("compartmentId",), "ocid1.tenancy.oc1.." + "a" * 255, "255"),
        ((CONFIGURATION,), ABSENT, CONFIGURATION),
        ((CONFIGURATION,), [], CONFIGURATION),
        ((CONFIGURATION, "deploymentType"), ABSENT, "needs deploymentType"),
        ((CONFIGURATION, "deploymentType"), "MODEL_GROUP", "MODEL_GROUP' is not available"),
        ((CONFIGURATION, "deploymentType"), "SINGLE_MODEL_FLEX", "not available"),
        ((CONFIGURATION, "deploymentType"), ["x"], "not available"),
        (MODEL, ABSENT, "modelConfigurationDetails"),
        ((*MODEL, "modelId"), ABSENT, "modelId"),
        ((*MODEL, "modelId"), "", "modelId"),
        ((*MODEL, "modelArtifactSignatureId"), "ocid1.x", "not available"),
        (INSTANCE, ABSENT, "instanceConfiguration"),
        ((*INSTANCE, "instanceShapeName"), ABSENT, "instanceShapeName"),
        ((*INSTANCE, "instanceShapeName"), "VM.Nowhere", "VM.Nowhere"),
        ((*INSTANCE, "subnetId"), "ocid1.subnet", "subnetId is not available"),
        ((*INSTANCE, "privateEndpointId"), "ocid1.pe", "privateEndpointId is not available"),
        ((*INSTANCE, "capacityReservationIds"), ["x"], "capacityReservationIds is not available"),
        ((*INSTANCE, "networkAccessType"), "CUSTOM_NETWORKING", "not available"),
        (FIGURES, ABSENT, "needs ocpus and memoryInGBs"),
        ((*FIGURES, "ocpus"), 0, "ocpus must be"),
        ((*FIGURES, "ocpus"), True, "must be a number"),
        ((*FIGURES, "ocpus"), "many", "ocpus"),
        ((*FIGURES, "memoryInGBs"), "NaN", "memoryInGBs"),
        ((*FIGURES, "memoryInGBs"), 65, "memoryInGBs must be"),
        ((*FIGURES, "cpuBaseline"), "HALF", "cpuBaseline"),
        ((*SCALING, "policyType"), "AUTOSCALING", "AUTOSCALING' is not available"),
        ((*SCALING, "policyType"), ABSENT, "needs policyType"),
        ((*SCALING, "instanceCount"), 0, "instanceCount"),
        ((*SCALING, "instanceCount"), 1001, "instanceCount"),
        ((*SCALING, "instanceCount"), 1.5, "instanceCount"),
        ((*SCALING, "instanceCount"), True, "must be a number"),
        ((*MODEL, "bandwidthMbps"), 9, "bandwidthMbps"),
        ((*MODEL, "bandwidthMbps"), 8001, "bandwidthMbps"),
        ((*MODEL, "maximumBandwidthMbps"), 10, "at most twice"),
        ((*MODEL, "maximumBandwidthMbps"), 21, "at most twice"),
        ((*ENVIRONMENT, "environmentConfigurationType"), "OCIR_CONTAINER", "not available"),
        ((*ENVIRONMENT, "environmentConfigurationType"), ABSENT, "needs environmentConfig"),
        (VARIABLES, [], "environmentVariables"),
        (VARIABLES, {"A": "1"}, "2 to 31"),
        (VARIABLES, {"A" * 32: "1"}, "2 to 31"),
        (VARIABLES, {"1A": "1"}, "start with a letter"),
        (VARIABLES, {"_A": "1"}, "start with a letter"),
        (VARIABLES, {"TEST_": "1"}, "not end with an underscore"),
        (VARIABLES, {"A-B": "1"}, "letters, digits"),
        (VARIABLES, {"ÄÖ": "1"}, "letters, digits"),
        (VARIABLES, {"AB\n": "1"}, "letters, digits"),
        (VARIABLES, {"": "1"}, "2 to 31"),
        (VARIABLES, {"AB": None}, "value of AB must be text"),
        (VARIABLES, {"AB": True}, "value of AB must be text"),
        (VARIABLES, {"AB": ["x"]}, "value of AB must be text"),
        (VARIABLES, {"AB": "\0"}, "NUL"),
        (VARIABLES, {"AB": "x" * 2047}, "2048 bytes, not 2049"),
        (VARIABLES, {"AB": "ü" * 1024}, "2048 bytes, not 2050"),
        (VARIABLES, {"MODEL_DEPLOYMENT_OCID": "x"}, "MODEL_DEPLOYMENT_OCID is set by the server"),
        (VARIABLES, {"TENANCY_OCID": "x"}, "TENANCY_OCID is set"),
        (VARIABLES, {"MODEL_SERVING_PYTHON_VERSION": "3.8"}, "PYTHON_VERSION is set"),
        (VARIABLES, {"OCI_RESOURCE_PRINCIPAL_RPST": "x"}, "RPST is set"),
        (VARIABLES, {"HAVRE_HOME": "x"}, "HAVRE_HOME is set"),
        (VARIABLES, {"WEB_CONCURRENCY": "0"}, "1 to 1000"),
        (VARIABLES, {"WEB_CONCURRENCY": "1001"}, "1 to 1000"),
        (VARIABLES, {"WEB_CONCURRENCY": " 4"}, "1 to 1000"),
        (VARIABLES, {"MODEL_BATCH_SIZE": "65"}, "1 to 64"),
        (VARIABLES, {"MODEL_BATCH_DELAY_MS": "1.5"}, "0 to 1000"),
        (VARIABLES, {"WEB_CONCURRENCY": "٤"}, "1 to 1000"),
        (VARIABLES, {"WEB_CONCURRENCY": 2.5}, "1 to 1000"),
        (("categoryLogDetails",), {"access": {}}, "logId"),
        (("categoryLogDetails",), {"predict": {"logId": "l"}}, "logGroupId"),
        (("freeformTags",), {"a": 1}, "freeformTags"),
        (("definedTags",), {"a": "b"}, "definedTags"),
    ],
)
def test_what_is_refused_and_why(path, value, word):
    assert word in problems((path, value))


@pytest.mark.parametrize(
    ("path", "value", "stored"),
    [
        ((*FIGURES, "ocpus"), "1", 1.0),
        ((*FIGURES, "memoryInGBs"), "16.0", 16.0),
        ((*FIGURES, "cpuBaseline"), "BASELINE_1_2", "BASELINE_1_2"),
        ((*SCALING, "instanceCount"), "3", 3),
        ((*MODEL, "bandwidthMbps"), "25", 25),
        ((*MODEL, "bandwidthMbps"), None, 10),
        ((*MODEL, "maximumBandwidthMbps"), 20, 20),
        (SCALING, None, {"policyType": "FIXED_SIZE", "instanceCount": 1}),
        (VARIABLES, {"WEB_CONCURRENCY": 4}, {"WEB_CONCURRENCY": "4"}),
        (VARIABLES, {"WEB_CONCURRENCY": ""}, {"WEB_CONCURRENCY": ""}),
        (VARIABLES, {"AB": "", "lower_Case9": "=ü\n"}, {"AB": "", "lower_Case9": "=ü\n"}),
        (VARIABLES, {"AB": "x" * 2046}, {"AB": "x" * 2046}),
        (VARIABLES, None, {}),
        (
            (*INSTANCE, "networkAccessType"),
            "MANAGED_NETWORKING_INTERNET_ACCESS",
            "MANAGED_NETWORKING_INTERNET_ACCESS",
        ),
    ],
)
def test_what_is_tolerated_and_how_it_is_stored(path, value, stored):
    assert at(echo(read((path, value))), path) == stored


def test_defaults_are_filled_in():
    details = read((SCALING, ABSENT), ((*MODEL, "bandwidthMbps"), ABSENT), (ENVIRONMENT, ABSENT))
    assert details.configuration == read((VARIABLES, {})).configuration
    assert at(echo(details), FIGURES)["cpuBaseline"] == "BASELINE_1_1"


@pytest.mark.parametrize(
    "key", ["deploymentMode", "streamConfigurationDetails", "opcRequestId", "unknown"]
)
def test_keys_of_older_clients_are_ignored(key):
    details = read(((key,), "x"), ((CONFIGURATION, key), "x"), ((*INSTANCE, key), {"a": 1}))
    assert details.configuration == read().configuration


@pytest.mark.parametrize(
    ("given_logs", "stored"),
    [
        (None, None),
        ({}, {}),
        ({"access": None}, {}),
        ({"access": {"logId": "l", "logGroupId": "g", "x": 1}},) * 2,
    ],
)
def test_log_details(given_logs, stored):
    logs = read((("categoryLogDetails",), given_logs)).logs
    expected = copy.deepcopy(stored)
    if expected and "access" in expected:
        del expected["access"]["x"]
    assert logs == expected


def test_all_problems_are_told_at_once():
    told = problems(
        (("displayName",), 5),
        ((*INSTANCE, "instanceShapeName"), "VM.Nowhere"),
        ((*INSTANCE, "subnetId"), "x"),
        ((*SCALING, "policyType"), "AUTOSCALING"),
        ((*MODEL, "bandwidthMbps"), 1),
        (VARIABLES, {"A": "x", "TENANCY_OCID": "y"}),
    )
    for word in ("displayName", "Nowhere", "subnetId", "AUTO", "bandwidth", "'A'", "TENANCY_OCID"):
        assert word in told


def test_instances_beside_a_bare_model_are_read():
    model = at(REQUEST, MODEL)
    beside = {key: value for key, value in model.items() if key != "modelId"}
    infrastructure = {"infrastructureType": "INSTANCE_POOL", **beside, "bandwidthMbps": 30}
    path = (CONFIGURATION, "infrastructureConfigurationDetails")
    bare = (MODEL, {"modelId": model["modelId"], "bandwidthMbps": 20})
    details = read(bare, (path, infrastructure))
    assert details.configuration == read(((*MODEL, "bandwidthMbps"), 20)).configuration
    refused = (path, {**infrastructure, "infrastructureType": "MANAGED_COMPUTE_CLUSTER"})
    assert "MANAGED_COMPUTE_CLUSTER' is not available" in problems(bare, refused)


def test_a_fixed_shape_is_echoed_without_figures():
    details = read(((*INSTANCE, "instanceShapeName"), "VM.Standard2.1"))
    assert at(echo(details), INSTANCE) == {"instanceShapeName": "VM.Standard2.1"}


def test_the_spec_has_everything_that_runs():
    details = read(
        ((*SCALING, "instanceCount"), 3),
        ((*MODEL, "bandwidthMbps"), 50),
        ((*MODEL, "maximumBandwidthMbps"), 100),
        (VARIABLES, {"WEB_CONCURRENCY": 5}),
    )
    spec = details.model_deployment_configuration_details.to_spec(artifact_digest="d")
    assert (spec.artifact_digest, spec.model_id) == ("d", at(REQUEST, (*MODEL, "modelId")))
    assert (spec.shape.ocpus, spec.shape.memory_gb) == (1.0, 16.0)
    assert (spec.instance_count, spec.bandwidth_mbps, spec.maximum_bandwidth_mbps) == (3, 50, 100)
    assert (spec.copies, spec.environment_variables) == (5, {"WEB_CONCURRENCY": "5"})


def stored_of(details: CreateModelDeploymentDetails) -> dict[str, Any]:
    """What an echo of the deployment has of the request's keys."""
    return {
        "displayName": details.display_name,
        "description": details.description,
        "projectId": details.project_id,
        "compartmentId": details.compartment_id,
        CONFIGURATION: details.configuration,
        "categoryLogDetails": details.logs,
        "freeformTags": details.freeform_tags or {},
        "definedTags": details.defined_tags or {},
    }


def updated(stored: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    merge = merged(stored, UpdateModelDeploymentDetails.model_validate(update))
    return stored_of(CreateModelDeploymentDetails.model_validate(merge))


STORED = stored_of(
    read(
        (("description",), "old"),
        (("freeformTags",), {"a": "b"}),
        (("categoryLogDetails",), {"access": {"logId": "l", "logGroupId": "g"}}),
        ((*MODEL, "maximumBandwidthMbps"), 20),
    )
)


@pytest.mark.parametrize(
    ("update", "path", "value"),
    [
        ({"displayName": "new"}, ("displayName",), "new"),
        ({"description": None}, ("description",), None),
        ({"freeformTags": {"c": "d"}}, ("freeformTags",), {"c": "d"}),
        ({"freeformTags": {}}, ("freeformTags",), {}),
        (
            {"categoryLogDetails": {"predict": {"logId": "p", "logGroupId": "g"}}},
            ("categoryLogDetails", "predict"),
            {"logId": "p", "logGroupId": "g"},
        ),
        ({"categoryLogDetails": {"access": None}}, ("categoryLogDetails",), {}),
        (
            {CONFIGURATION: {"modelConfigurationDetails": {"bandwidthMbps": "15"}}},
            (*MODEL, "bandwidthMbps"),
            15,
        ),
        (
            {
                CONFIGURATION: {
                    "environmentConfigurationDetails": {"environmentVariables": {"NEW": "1"}}
                }
            },
            VARIABLES,
            {"NEW": "1"},
        ),
        (
            {
                CONFIGURATION: {
                    "infrastructureConfigurationDetails": {
                        "infrastructureType": "INSTANCE_POOL",
                        "scalingPolicy": {"policyType": "FIXED_SIZE", "instanceCount": 2},
                    }
                }
            },
            (*SCALING, "instanceCount"),
            2,
        ),
        (
            {
                CONFIGURATION: {
                    "modelConfigurationDetails": {
                        "instanceConfiguration": {"instanceShapeName": "VM.Standard2.1"}
                    }
                }
            },
            INSTANCE,
            {"instanceShapeName": "VM.Standard2.1"},
        ),
    ],
)
def test_an_update_changes_its_own_part_only(update, path, value):
    expected = copy.deepcopy(STORED)
    part = at(expected, path[:-1])
    part[path[-1]] = value
    assert updated(STORED, update) == expected


def test_a_null_clears_the_upper_bandwidth():
    update = {CONFIGURATION: {"modelConfigurationDetails": {"maximumBandwidthMbps": None}}}
    assert "maximumBandwidthMbps" not in at(updated(STORED, update), MODEL)


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"displayName": None, "freeformTags": None, "categoryLogDetails": None},
        {"categoryLogDetails": {}},
        {CONFIGURATION: None},
        {CONFIGURATION: {}},
        {CONFIGURATION: {"modelConfigurationDetails": {"scalingPolicy": None}}},
        {CONFIGURATION: {"environmentConfigurationDetails": {"environmentVariables": None}}},
        {"compartmentId": "x", "projectId": "y", "lifecycleState": "DELETED"},
    ],
)
def test_what_is_absent_or_null_stays(update):
    assert updated(STORED, update) == STORED


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAMES = st.from_regex(r"[A-Z][A-Z0-9]{1,8}", fullmatch=True)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    least = draw(st.integers(10, 4000))
    ocpus = draw(st.integers(1, 16))
    changes = [
        (("displayName",), draw(TEXTS.filter(bool))),
        (("description",), draw(st.none() | TEXTS)),
        (("freeformTags",), draw(st.none() | st.dictionaries(NAMES, TEXTS, max_size=3))),
        (
            ("categoryLogDetails",),
            draw(st.sampled_from([None, {}, {"predict": {"logId": "l", "logGroupId": "g"}}])),
        ),
        ((*FIGURES, "ocpus"), draw(st.sampled_from([ocpus, str(ocpus), float(ocpus)]))),
        ((*FIGURES, "memoryInGBs"), ocpus * draw(st.integers(1, 64))),
        ((*SCALING, "instanceCount"), draw(st.integers(1, 1000))),
        ((*MODEL, "bandwidthMbps"), least),
        ((*MODEL, "maximumBandwidthMbps"), draw(st.none() | st.integers(least + 1, 2 * least))),
        (VARIABLES, draw(st.dictionaries(NAMES, TEXTS, max_size=4))),
    ]
    if draw(st.booleans()):
        shape = draw(st.sampled_from(["VM.Standard2.1", "VM.GPU.A10.1"]))
        changes.append(((*INSTANCE, "instanceShapeName"), shape))
    return request_with(*changes)


@given(requests())
def test_sending_back_what_was_echoed_changes_nothing(request):
    stored = stored_of(CreateModelDeploymentDetails.model_validate(request))
    stored = json.loads(json.dumps(stored))
    whole = {**stored, "id": "ocid1.x", "lifecycleState": "ACTIVE", "timeCreated": "2026"}
    assert updated(stored, whole) == stored
    assert updated(stored, {}) == stored


@given(before=requests(), after=requests())
def test_a_whole_request_replaces_all_that_it_names(before, after):
    stored = stored_of(CreateModelDeploymentDetails.model_validate(before))
    wanted = stored_of(CreateModelDeploymentDetails.model_validate(after))
    got = updated(stored, after)
    assert at(got, VARIABLES) == at(wanted, VARIABLES)
    assert at(got, SCALING) == at(wanted, SCALING)
    assert at(got, INSTANCE) == at(wanted, INSTANCE)
    assert got["displayName"] == wanted["displayName"]
