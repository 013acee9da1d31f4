"""None of the usual frameworks may ever hang in a copy, whatever it did while loading."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.copy_instance import PREDICT
from tests.support.framework_environments import framework_python

from havre.environments.libraries import lent_variables

TREES = (
    "scikit-learn==1.7.2",
    "xgboost-cpu==3.0.5",
    "lightgbm==4.6.0",
    "onnxruntime==1.23.2",
    "skl2onnx==1.19.1",
    "orjson==3.11.4",
)
TORCH = ("torch==2.13.0+cpu", "numpy")
FRAMEWORKS = ("sklearn", "histgradient", "xgboost", "lightgbm", "lightgbm_sklearn", "onnx", "torch")

TRAIN = """
import os, sys
import numpy as np
folder = sys.argv[1]
x = np.random.RandomState(0).rand(500, 10).astype("float32")
y = (x[:, 0] > 0.5).astype(int)
if sys.argv[2] == "torch":
    import torch
    net = torch.nn.Sequential(torch.nn.Linear(10, 512), torch.nn.ReLU(), torch.nn.Linear(512, 1))
    torch.jit.script(net).save(os.path.join(folder, "torch"))
    sys.exit()
import joblib, lightgbm, xgboost
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.neural_network import MLPClassifier
joblib.dump(RandomForestClassifier(20, n_jobs=1).fit(x, y), os.path.join(folder, "sklearn"))
joblib.dump(HistGradientBoostingClassifier().fit(x, y), os.path.join(folder, "histgradient"))
xgboost.XGBClassifier().fit(x, y).get_booster().save_model(os.path.join(folder, "xgboost.json"))
light = lightgbm.LGBMClassifier(verbose=-1).fit(x, y)
light.booster_.save_model(os.path.join(folder, "lightgbm"))
joblib.dump(light, os.path.join(folder, "lightgbm_sklearn"))
net = MLPClassifier((256, 256), max_iter=2).fit(x, y)
open(os.path.join(folder, "onnx"), "wb").write(to_onnx(net, x[:1]).SerializeToString())
"""

SCORE = """
import numpy as np
FRAMEWORK, FOLDER, WARM = {framework!r}, {folder!r}, {warm!r}

def load_model():
    path = FOLDER + "/" + FRAMEWORK
    if FRAMEWORK in ("sklearn", "histgradient", "lightgbm_sklearn"):
        import joblib
        return joblib.load(path).predict
    if FRAMEWORK == "xgboost":
        import xgboost
        model = xgboost.Booster()
        model.load_model(path + ".json")
        return lambda rows: model.predict(xgboost.DMatrix(rows))
    if FRAMEWORK == "lightgbm":
        import lightgbm
        return lightgbm.Booster(model_file=path).predict
    if FRAMEWORK == "onnx":
        import onnxruntime
        model = onnxruntime.InferenceSession(path)
        return lambda rows: model.run(None, {{model.get_inputs()[0].name: rows}})[0]
    import torch
    model = torch.jit.load(path)
    return lambda rows: model(torch.from_numpy(rows)).detach()

def predict(data, model=load_model()):
    rows = np.random.rand(data, 10).astype("float32")
    return {{"prediction": model(rows)}}

if WARM:
    predict(2000)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """``trained(framework)``: the interpreter and the folder of its models."""
    made: dict[tuple[str, ...], tuple[Path, Path]] = {}

    def train(framework: str) -> tuple[Path, Path]:
        requirements = TORCH if framework == "torch" else TREES
        if requirements not in made:
            python = framework_python(*requirements)
            folder = tmp_path_factory.mktemp("models")
            kind = "torch" if framework == "torch" else "trees"
            command = [python, "-W", "ignore", "-c", TRAIN, folder, kind]
            subprocess.run(command, check=True, env={**os.environ, **lent_variables(python)})
            made[requirements] = python, folder
        return made[requirements]

    return train


@pytest.mark.parametrize(
    ("warm", "threads"),
    [(True, "1"), (False, "4"), (True, "4")],
    ids=["warm-1", "cold-4", "warm-4"],
)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_never_hangs(launch, trained, framework, warm, threads):
    python, folder = trained(framework)
    score = SCORE.format(framework=framework, folder=str(folder), warm=warm)
    variables = {"OMP_NUM_THREADS": threads, **lent_variables(python)}
    instance = launch(score, python=python, environment=variables, predict_timeout_s=25).ready()
    seen = set()
    for _ in range(40):
        response = instance.post(1500, PREDICT, timeout=20)
        assert response.status == 200, instance.log
        assert len(response.json["prediction"]) == 1500
        seen.add(response.headers["x-havre-copy"].split("/")[1])
        if len(seen) == 2:
            break
    state = instance.ask("status")
    assert state["restarts"] == 0
    if threads == "1":
        # Its threads are native and many: without a sample nothing shows that it forks well.
        assert state["mode"] == ("per_copy" if framework == "onnx" else "forked")


@pytest.mark.parametrize("framework", ["onnx", "lightgbm"])
def test_a_sample_lets_the_model_be_shared(launch, trained, framework):
    python, folder = trained(framework)
    score = SCORE.format(framework=framework, folder=str(folder), warm=True)
    files = {"score.py": score, "test_input.json": "100"}
    variables = {"OMP_NUM_THREADS": "4", **lent_variables(python)}
    instance = launch(files, python=python, environment=variables).ready()
    assert instance.post(1500).status == 200
    state = instance.ask("status")
    assert state["mode"] == "forked"
    assert any("answered the artifact's sample request" in note for note in state["notes"])
