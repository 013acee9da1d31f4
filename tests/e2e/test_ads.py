"""oracle-ads, unpatched: its model classes and its builder drive the server as they drive OCI.

Each test is a notebook session in a process of its own, because oracle-ads keeps its settings in
globals. The score.py that serves is the one that oracle-ads generated.
"""

import sys
from pathlib import Path

import oci
import pytest
from tests.e2e.artifacts import scored

from havre.environments.definition import builtin_definitions

SLUG = "generalml_p{}{}_cpu_x86_64_v1".format(*sys.version_info)
"""The built-in environment of the Python that models are trained in."""

MODEL_SESSION = Path(__file__).with_name("ads_model.py")
BUILDER_SESSION = Path(__file__).with_name("ads_builder.py")

WITH_ENVIRONMENT = """
import os

def load_model():
    return {factor}

def predict(data, model=load_model()):
    return {{"prediction": [model * number for number in data], "who": os.environ.get("WHO")}}
"""


@pytest.mark.parametrize("framework", ["sklearn", "lightgbm", "xgboost", "generic"])
def test_a_model_from_fit_to_farewell(oracle, notebook, framework):
    profile = oracle.server.profile
    told = notebook.run(
        *(str(MODEL_SESSION), framework, profile["file"], profile["profile"]),
        *(oracle.server.url, oracle.compartment_id, oracle.project_id),
    )
    assert len(told["estimator"]) == 8
    assert told["predicted"] == pytest.approx(told["estimator"])
    assert told["predicted"] == told["verified"] == told["again"]
    assert told["states"] == ["ACTIVE", "INACTIVE", "ACTIVE", "DELETED"]
    assert told["description"] == "changed"
    assert oracle.state(told["id"]) == "DELETED"
    saved = oracle.data_science.get_model(told["model"]).data
    assert saved.display_name == framework
    provenance = oracle.data_science.get_model_provenance(told["model"])
    assert isinstance(provenance.data, oci.data_science.models.ModelProvenance)


@pytest.mark.skipif(SLUG not in builtin_definitions(), reason=f"there is no {SLUG}")
def test_a_data_frame_reaches_a_model_in_a_built_in_environment(oracle, notebook):
    profile = oracle.server.profile
    told = notebook.run(
        *(str(MODEL_SESSION), "sklearn", profile["file"], profile["profile"]),
        *(oracle.server.url, oracle.compartment_id, oracle.project_id),
        SLUG,
    )
    assert told["predicted"] == told["verified"] == told["again"]


def test_the_builder(oracle, notebook):
    profile = oracle.server.profile
    models = [oracle.save(scored(WITH_ENVIRONMENT.format(factor=factor))) for factor in (2, 3)]
    told = notebook.run(
        *(str(BUILDER_SESSION), profile["file"], profile["profile"]),
        *(oracle.compartment_id, oracle.project_id, *models, "[1, 2]"),
        environment={"OCI_ODSC_SERVICE_ENDPOINT": oracle.server.url},
    )
    assert told["first"] == {"prediction": [2, 4], "who": "ads"}
    assert told["second"] == told["third"] == {"prediction": [3, 6], "who": "ads"}
    assert told["states"] == ["ACTIVE", "ACTIVE", "INACTIVE", "DELETED"]
    assert told["read"] == ["rebuilt", "by the builder", {"team": "ads"}]
    assert told["id"] in told["listed"]
    assert oracle.state(told["id"]) == "DELETED"
