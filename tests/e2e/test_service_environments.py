"""The environments that the original service calls active: built, and doing what they promise.

They are gigabytes from the package index, so this is asked for: HAVRE_LARGE=1.
"""

import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest
from tests.e2e import artifacts
from tests.e2e.havre_server import HAVRE

from havre.environments.machine_pythons import Interpreters

BUILD_LIMIT_S = 1500
SPARK_SESSION = Path(__file__).with_name("ads_spark.py")
FORECAST = Path(__file__).with_name("ads_forecast.py")
RUNTIME = """MODEL_DEPLOYMENT:
  INFERENCE_CONDA_ENV:
    INFERENCE_ENV_SLUG: {slug}
    INFERENCE_ENV_TYPE: data_science
"""
SCORE = """
import sys
{imports}

def load_model():
    {work}
    return [str(one) for one in found]

def predict(data, model=load_model()):
    return {{"python": "%d.%d" % sys.version_info[:2], "found": model}}
"""
BUILT = {
    "onnxruntime_p312_gpu_x86_64_v1": "onnx_p312_cpu_x86_64_v1",
    "pytorch28_p312_gpu_x86_64_v1": "pytorch28_p312_cpu_x86_64_v1",
    "tensorflow220_p312_gpu_x86_64_v1": "tensorflow220_p312_cpu_x86_64_v1",
    "forecast_p311_cpu_x86_64_v13": "forecast_p311_cpu_x86_64_v1",
    "python_p310_any_x86_64_v2": "python_p310_any_x86_64_v1",
    "python_p311_any_x86_64_v3": "python_p311_any_x86_64_v1",
    "python_p312_any_x86_64_v2": "python_p312_any_x86_64_v1",
    "armml_p312_cpu_aarch64_v1": "generalml_p312_cpu_x86_64_v1",
}
"""What this machine, without a GPU or Arm, builds for each."""

WORK = {
    "onnxruntime": (
        "import jsonschema, onnxruntime\nfrom transformers import AutoTokenizer",
        "found = onnxruntime.get_available_providers()",
    ),
    "pytorch28": (
        "import torch\nfrom transformers import pipeline",
        "found = [torch.__version__, torch.ones(2, 2).sum().item()]",
    ),
    "tensorflow220": (
        "import tensorflow as tf",
        "found = [tf.__version__, float(tf.reduce_sum(tf.ones((2, 2))))]",
    ),
    "forecast": (
        "import ads, pandas, prophet, pmdarima, autots, mlforecast, statsmodels.api\n"
        "from ads.opctl.operator.lowcode.common.utils import load_data\n"
        "from ads.opctl.operator.lowcode.forecast.const import SupportedModels",
        "days = pandas.date_range('2026-01-01', periods=60)\n"
        "    frame = pandas.DataFrame({'ds': days, 'y': range(60)})\n"
        "    model = prophet.Prophet().fit(frame)\n"
        "    found = [round(model.predict(frame.tail(1))['yhat'].iloc[0])]",
    ),
    "python": ("import oci, ads", "found = [oci.__version__, ads.__version__]"),
    "armml": ("import sklearn, lightgbm, xgboost", "found = [sklearn.__version__]"),
}
FOUND = {
    "onnxruntime": "CPUExecutionProvider",
    "pytorch28": "4.0",
    "tensorflow220": "4.0",
    "forecast": "59",
}

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("HAVRE_LARGE") != "1", reason="downloads gigabytes: set HAVRE_LARGE=1"
    ),
    pytest.mark.timeout(2 * BUILD_LIMIT_S),
]


def build(server, slug: str) -> Path:
    """The folder of a built-in environment on the server; skips what this machine cannot have."""
    done = subprocess.run(
        [HAVRE, "env", "build", slug, "--home", str(server.home)],
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        env=server.environment,
        check=False,
    )
    if "a build that its maker keeps on an index of its own" in " ".join(done.stderr.split()):
        pytest.skip("PyTorch's own CPU build is not to be had here: UV_INDEX, UV_FIND_LINKS")
    assert done.returncode == 0, done.stderr
    told = server.havre("env", "show", slug, "--json").stdout
    return Path(json.loads(told)["prefix"])


@pytest.mark.parametrize("slug", BUILT)
def test_an_active_environment_does_what_its_family_promises(server, tmp_path, slug):
    family, _, rest = slug.partition("_p3")
    python = f"3.{rest.partition('_')[0]}"
    if not Interpreters([]).has(python):
        pytest.skip(f"no Python {python} on this machine")
    build(server, BUILT[slug])
    imports, work = WORK[family]
    folder = artifacts.folder(
        tmp_path / family,
        {
            "score.py": SCORE.format(imports=imports, work=work),
            "runtime.yaml": RUNTIME.format(slug=slug),
        },
    )
    said = server.havre("deploy", str(folder), "--name", slug).stdout
    try:
        url = said.strip().splitlines()[-1]
        answer = httpx.post(url, json=1, timeout=60, trust_env=False).json()
        assert answer["python"] == python
        assert FOUND.get(family, answer["found"][-1]) in answer["found"]
    finally:
        server.havre("delete", slug)


def test_a_spark_pipeline_of_oracle_ads_is_deployed_and_predicts(server, oracle):
    slug = "pyspark35_p311_cpu_x86_64_v1"
    prefix = build(server, slug)
    done = subprocess.run(
        [
            *(str(prefix / "bin" / "python"), str(SPARK_SESSION)),
            *(server.profile["file"], server.profile["profile"], server.url),
            *(oracle.compartment_id, oracle.project_id, slug),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == 0, (done.stderr[-3000:], server.tell_logs())
    # What Spark logs at its end comes after it.
    [line] = [line for line in done.stdout.splitlines() if line.startswith("{")]
    told = json.loads(line)
    assert len(told["estimator"]) == 4
    assert told["verified"] == told["predicted"] == told["estimator"]
    assert told["state"] == "ACTIVE"
    # Answers of one copy's session never reach another's caller.
    expected = [told["estimator"][: 1 + number % 4] for number in range(len(told["at_once"]))]
    assert told["at_once"] == expected
    assert told["farewell"] == "DELETED"


def test_the_forecast_operators_own_artifact_forecasts(server, tmp_path):
    slug = "forecast_p311_cpu_x86_64_v1"
    prefix = build(server, slug)
    folder = tmp_path / "forecast"
    done = subprocess.run(
        [str(prefix / "bin" / "python"), str(FORECAST), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = json.loads(done.stdout.splitlines()[-1])
    (folder / "runtime.yaml").write_text(RUNTIME.format(slug=slug))
    said = server.havre("deploy", str(folder), "--name", "operator").stdout
    try:
        # A path is all that its score.py takes. Models see their artifact, and no other folder.
        [future] = server.home.glob("**/future.csv")
        answer = httpx.post(
            said.strip().splitlines()[-1],
            json={"additional_data": {"url": str(future)}},
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        forecasts = json.loads(answer.json()["prediction"])
        assert {kind: len(json.loads(days)) for kind, days in forecasts.items()} == {
            kind: len(days) for kind, days in expected.items()
        }
        for kind in ("prophet", "arima"):  # trees cannot go on rising
            assert json.loads(forecasts[kind]) == pytest.approx(expected[kind], abs=0.5)
    finally:
        server.havre("delete", "operator")
