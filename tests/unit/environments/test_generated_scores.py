"""What oracle-ads writes into score.py can be imported in the environment that it is meant for."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from havre.environments.definition import (
    EnvironmentDefinition,
    builtin_definitions,
    parse_service_slug,
)

GENERIC = ["templates/score_generic.jinja2", "templates/score-pkl.jinja2"]
ONNX = ["templates/score_onnx.jinja2", "templates/score_onnx_new.jinja2"]
EMBEDDING = "templates/score_embedding_onnx.jinja2"
SKLEARN = "templates/score_scikit-learn.jinja2"
GENERAL = [
    SKLEARN,
    "templates/score_lightgbm.jinja2",
    "templates/score_xgboost.jinja2",
    "templates/score_onnx_new.jinja2",
]
PYTORCH = ["templates/score_pytorch.jinja2", "templates/score_huggingface_pipeline.jinja2"]
TENSORFLOW = ["templates/score_tensorflow.jinja2"]
OPERATOR = "opctl/operator/lowcode"
WRITTEN = {
    "generalml": GENERAL,
    "armml": GENERAL,
    "onnx": [*ONNX, EMBEDDING],
    "onnx110": ONNX,
    "onnxruntime": [*ONNX, EMBEDDING],
    "sklearnex": [SKLEARN],
    "tensorflow": TENSORFLOW,
    "tensorflow220": TENSORFLOW,
    "pytorch": PYTORCH,
    "pytorch28": PYTORCH,
    "pyspark35": ["templates/score_pyspark.jinja2"],
    "forecast": [
        f"{OPERATOR}/forecast/whatifserve/score.py",
        f"{OPERATOR}/forecast/const.py",
        f"{OPERATOR}/common/utils.py",
    ],
    "python": [],
}
"""For each family, the templates of its frameworks, and what is copied or imported beside them."""

IMPORT = re.compile(r"^ *(?:import|from) (\w+)[\w.]*(?: import .+| as \w+)?$", re.M)
PACKAGES = {
    "PIL": {"pillow"},
    "ads": {"oracle-ads"},
    "onnxruntime": {"onnxruntime", "onnxruntime-gpu"},
    "tensorflow": {"tensorflow", "tensorflow-cpu"},
    "xgboost": {"xgboost", "xgboost-cpu"},
}
"""Where a module's package has another name."""


@pytest.mark.parametrize("definition", builtin_definitions().values(), ids=lambda d: d.slug)
def test_an_environment_has_all_that_generated_code_imports(
    definition: EnvironmentDefinition,
) -> None:
    parsed = parse_service_slug(definition.slug)
    assert parsed is not None
    has = {line.partition("==")[0] for line in definition.requirements}
    imported = set[str]().union(
        *(imports_of(written) for written in [*GENERIC, *WRITTEN[parsed.family]])
    )
    lacks = {module for module in imported if not has & PACKAGES.get(module, {module})}
    assert lacks == set()


def imports_of(written: str) -> set[str]:
    """The modules from elsewhere that a file of oracle-ads imports; it may be a template."""
    found = importlib.util.find_spec("ads")
    assert found is not None
    assert found.origin is not None
    text = (Path(found.origin).parent / written).read_text()
    modules = set(IMPORT.findall(text)) - sys.stdlib_module_names
    assert modules, written
    return modules
