"""Models of many Pythons and packages side by side on one server, as users bring them.

Where no package index answers, what needs one is skipped and says so.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from tests.e2e import artifacts
from tests.e2e.havre_server import HavreServer
from tests.support.packs import make_pack, movable
from uv import find_uv_bin

from havre.environments.definition import builtin_definitions
from havre.environments.machine_pythons import Interpreters

PYTHONS = sorted({one.python for one in Interpreters([]).all()}, key=lambda python: int(python[2:]))
OLD_STACK = "scikit-learn==0.23.2\nnumpy==1.19.5\nscipy==1.5.4\njoblib==1.1.1\nthreadpoolctl==3.1.0"
TELL = """
import os, sys

def load_model():
    import {module}
    return {module}.{attribute}

def predict(data, model=load_model()):
    return {{"python": "%d.%d" % sys.version_info[:2], "found": model, "user": os.getuid()}}
"""
RUNTIME = """MODEL_ARTIFACT_VERSION: '3.0'
MODEL_DEPLOYMENT:
  INFERENCE_CONDA_ENV:
    INFERENCE_ENV_SLUG: {slug}
    INFERENCE_ENV_TYPE: {kind}
    INFERENCE_ENV_PATH: {path}
    INFERENCE_PYTHON_VERSION: '{python}'
"""
ONNX_PATH = (
    "oci://service-conda-packs@id19sfcrra6z/service_pack/cpu/"
    "ONNX 1.10 for CPU on Python 3.7/1.0/onnx110_p37_cpu_v1"
)
PACK_PATH = "oci://my-bucket@my-namespace/my-prefix/my-env"


@pytest.fixture(scope="module")
def plain_server() -> Iterator[HavreServer]:
    """A server with nothing set: its environments are the ones that havre brings."""
    started = HavreServer({})
    try:
        started.up()
        yield started
    finally:
        started.down()


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("index")
    (folder / "in.txt").write_text("six==1.17.0\n")
    command = [find_uv_bin(), "pip", "compile", "-q", "in.txt"]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode != 0:
        pytest.skip("no package index can be reached")


def deploy(server: HavreServer, folder: Path, name: str) -> str:
    """Where it answers."""
    said = server.havre("deploy", str(folder), "--name", name).stdout
    print(said)
    return said.strip().splitlines()[-1]


def ask(url: str, data: object = 1) -> dict[str, object]:
    answer = httpx.post(url, json=data, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def needs(python: str) -> None:
    if python not in PYTHONS:
        pytest.skip(f"no Python {python} on this machine")


def test_a_slug_for_gpus_is_served_by_its_stand_in_and_the_log_says_so(
    index: None, plain_server: HavreServer, tmp_path: Path
) -> None:
    needs("3.11")
    runtime = RUNTIME.format(
        slug="generalml_p311_gpu_x86_64_v1", kind="data_science", path="", python="3.11"
    )
    score = TELL.format(module="sklearn", attribute="__version__")
    folder = artifacts.folder(tmp_path / "gpu", {"score.py": score, "runtime.yaml": runtime})
    said = plain_server.havre("deploy", str(folder), "--name", "gpu").stdout
    assert "generalml_p311_cpu_x86_64_v1" in said
    assert "stands in for generalml_p311_gpu_x86_64_v1" in said
    assert "environment_stand_ins = false" in said
    assert ask(said.strip().splitlines()[-1])["python"] == "3.11"


def test_without_a_word_a_model_is_served_with_what_it_was_made_with(
    index: None, plain_server: HavreServer, tmp_path: Path
) -> None:
    score = TELL.format(module="numpy", attribute="__version__")
    folder = artifacts.folder(tmp_path / "unsaid", {"score.py": score})
    said = plain_server.havre("deploy", str(folder), "--name", "unsaid").stdout
    own = "{}.{}".format(*sys.version_info)
    assert f"recorded: Python {own} and numpy {version('numpy')}" in said
    found = ask(said.strip().splitlines()[-1])
    assert (found["python"], found["found"]) == (own, version("numpy"))
    assert sorted(path.name for path in folder.iterdir()) == ["score.py"]

    told = plain_server.havre("verify", str(folder), "--json")
    environment = next(c for c in json.loads(told.stdout) if c["key"] == "environment")
    assert environment["message"].startswith("requirements_")

    other = "generalml_p311_cpu_x86_64_v1"
    needs("3.11")
    said = plain_server.havre("deploy", str(folder), "--name", "unsaid", "--environment", other)
    assert f"environment {other}" in said.stdout
    lines = builtin_definitions()[other].requirements
    locked = next(line.partition("==")[2] for line in lines if line.startswith("numpy=="))
    assert ask(said.stdout.strip().splitlines()[-1])["found"] == locked

    refused = plain_server.havre(
        "deploy", str(folder), "--name", "unsaid", "--environment", "no_such_p311", check=False
    )
    assert refused.returncode != 0
    assert "no_such_p311" in refused.stdout + refused.stderr


def test_every_python_of_the_machine_serves_at_once_with_packages_of_its_own(
    index: None, plain_server: HavreServer, tmp_path: Path
) -> None:
    versions = {python: f"1.{10 + number}.0" for number, python in enumerate(PYTHONS)}
    folders = {
        python: artifacts.folder(
            tmp_path / python,
            {
                "score.py": TELL.format(module="six", attribute="__version__"),
                "requirements.txt": f"six=={version}\n",
                "runtime.yaml": RUNTIME.format(slug="", kind="", path="", python=python),
            },
        )
        for python, version in versions.items()
    }
    with ThreadPoolExecutor(3) as pool:
        urls = dict(
            zip(
                folders,
                pool.map(lambda p: deploy(plain_server, folders[p], f"python-{p}"), folders),
                strict=True,
            )
        )
    answers = {python: ask(url) for python, url in urls.items()}
    assert {python: answer["python"] for python, answer in answers.items()} == {
        python: python for python in PYTHONS
    }
    assert {python: answer["found"] for python, answer in answers.items()} == versions
    for python in PYTHONS:
        plain_server.havre("delete", f"python-{python}")


def test_a_model_of_years_ago_is_trained_and_served_in_its_old_stack(
    index: None, plain_server: HavreServer, tmp_path: Path
) -> None:
    needs("3.8")
    (tmp_path / "old.txt").write_text(OLD_STACK + "\n")
    requirements = str(tmp_path / "old.txt")
    plain_server.havre("env", "publish", "old", "--requirements", requirements, "--python", "3.8")
    environment = json.loads(plain_server.havre("env", "show", "old", "--json").stdout)
    folder = artifacts.folder(
        tmp_path / "old",
        {
            "runtime.yaml": RUNTIME.format(slug="old", kind="published", path="", python="3.8"),
            "score.py": """
import os, pickle, sys
import sklearn

def load_model():
    with open(os.path.join(os.path.dirname(__file__), "model.pkl"), "rb") as file:
        return pickle.load(file)

def predict(data, model=load_model()):
    return {"prediction": model.predict(data).tolist(), "sklearn": sklearn.__version__,
            "python": sys.version.split()[0], "user": os.getuid()}
""",
        },
    )
    train = """
import pickle, sys
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
features, labels = load_iris(return_X_y=True)
model = RandomForestClassifier(20, random_state=0).fit(features, labels)
pickle.dump(model, open(sys.argv[1], "wb"))
"""
    python = Path(environment["prefix"]) / "bin" / "python"
    subprocess.run([python, "-I", "-c", train, folder / "model.pkl"], check=True)
    answer = ask(deploy(plain_server, folder, "old"), artifacts.IRIS_ROWS)
    assert answer["prediction"] == [0, 1, 2]
    assert answer["sklearn"] == "0.23.2"
    assert str(answer["python"]).startswith("3.8.")
    if os.geteuid() == 0:
        assert answer["user"] != 0
    refused = plain_server.havre("env", "remove", "old", check=False)
    assert refused.returncode == 1
    assert "environment old is used by instance" in refused.stderr
    assert "removed old" not in plain_server.havre("env", "clean").stdout
    plain_server.havre("delete", "old")
    plain_server.havre("env", "remove", "old")
    assert not python.exists()


def test_a_runtime_yaml_with_a_placeholder_and_a_path_with_spaces(
    index: None, plain_server: HavreServer, tmp_path: Path
) -> None:
    needs("3.7")
    score = """
import sys
import numpy, onnxruntime
from onnx import TensorProto, helper

def load_model():
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", values[:1],
                              values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return onnxruntime.InferenceSession(model.SerializeToString())

def predict(data, model=load_model()):
    twice = model.run(None, {"x": numpy.array(data, dtype=numpy.float32)})[0]
    return {"prediction": twice.tolist(), "runtime": onnxruntime.__version__,
            "python": "%d.%d" % sys.version_info[:2]}
"""
    runtime = RUNTIME.format(slug="envslug", kind="data_science", path=ONNX_PATH, python="3.7")
    folder = artifacts.folder(tmp_path / "onnx", {"score.py": score, "runtime.yaml": runtime})
    said = plain_server.havre("deploy", str(folder), "--name", "onnx").stdout
    assert "resolving envslug or onnx110_p37_cpu_v1" in said
    assert "environment onnx110_p37_cpu_x86_64_v1 (ONNX 1.10" in said
    assert "building onnx110_p37_cpu_x86_64_v1: " in said
    answer = ask(said.strip().splitlines()[-1], [1, 2])
    assert answer == {"prediction": [2.0, 4.0], "runtime": "1.10.0", "python": "3.7"}
    plain_server.havre("delete", "onnx")


def test_a_runtime_yaml_with_a_pack_in_the_object_store(
    plain_server: HavreServer, tmp_path: Path
) -> None:
    interpreters = [one for one in Interpreters([]).all() if one.python == "3.7"]
    found = movable(Interpreters([str(one.path.parent) for one in interpreters]), tmp_path / "copy")
    if found is None or found.python != "3.7":
        pytest.skip("no Python 3.7 that runs from another folder")
    place = plain_server.home / "objects/my-namespace/my-bucket/my-prefix"
    place.mkdir(parents=True, exist_ok=True)
    make_pack(found, tmp_path / "my-env")
    runtime = RUNTIME.format(slug="envslug", kind="published", path=PACK_PATH, python="3.7")
    score = TELL.format(module="packed", attribute="x")
    folder = artifacts.folder(tmp_path / "packed", {"score.py": score, "runtime.yaml": runtime})
    refused = plain_server.havre("deploy", str(folder), "--name", "packed", check=False)
    assert refused.returncode != 0
    assert "neither here nor in the object store" in refused.stdout + refused.stderr
    (tmp_path / "my-env").rename(place / "my-env")
    said = plain_server.havre("deploy", str(folder), "--name", "packed").stdout
    assert "unpacking my-env: " in said
    answer = ask(said.strip().splitlines()[-1])
    assert (answer["python"], answer["found"]) == ("3.7", "from the pack")
    plain_server.havre("delete", "packed")


@pytest.mark.parametrize(
    ("slug", "python", "module"),
    [
        ("tensorflow28_p38_cpu_v1", "3.8", "tensorflow"),
        ("onnxruntime_p312_cpu_x86_64_v1", "3.12", "onnxruntime"),
        ("sklearnex202130_p37_cpu_v1", "3.7", "sklearn"),
        ("pytorch28_p311_cpu_x86_64_v1", "3.11", "torch"),
    ],
)
def test_a_slug_of_the_original_service_gets_an_environment(
    index: None, plain_server: HavreServer, tmp_path: Path, slug: str, python: str, module: str
) -> None:
    needs(python)
    folder = artifacts.folder(
        tmp_path / module,
        {
            "score.py": TELL.format(module=module, attribute="__version__"),
            "runtime.yaml": RUNTIME.format(slug=slug, kind="data_science", path="", python=python),
        },
    )
    said = plain_server.havre("deploy", str(folder), "--name", module, check=False)
    if "torch==2.13.0+cpu" in said.stdout + said.stderr and said.returncode:
        pytest.skip("no index here has PyTorch's own CPU builds")
    assert said.returncode == 0, said.stdout + said.stderr
    answer = ask(said.stdout.strip().splitlines()[-1])
    assert answer["python"] == python
    assert answer["found"]
    plain_server.havre("delete", module)


WRITES = """
from pathlib import Path
def load_model(): return Path(__file__).with_name("cache.txt").write_text("loaded")
def predict(data, model=load_model()): return data
"""

LISTS = """
from pathlib import Path
TOP = Path(__file__).parent
def predict(data): return [str(path.relative_to(TOP)) for path in TOP.rglob("*")]
"""


def test_verify_says_what_a_deployment_would(plain_server: HavreServer, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("# nothing\n", encoding="utf-16")
    version = PYTHONS[0]
    requirements = str(tmp_path / "none.txt")
    plain_server.havre(
        "env", "publish", "bare", "--requirements", requirements, "--python", version
    )
    runtime = RUNTIME.format(slug="bare", kind="published", path="oci://b@n/bare", python=version)
    good = {"score.py": artifacts.DOUBLE, "runtime.yaml": runtime, "test_input.json": "[1, 2]"}
    folder = artifacts.folder(tmp_path / "good", good)
    said = plain_server.havre("verify", str(folder), "--strict", "--json")
    states = {check["key"]: check for check in json.loads(said.stdout)}
    assert {check["state"] for check in states.values()} == {"passed"}
    assert states["predict"]["message"] == '{"prediction":[2,4]}'
    for number, score in enumerate(
        (artifacts.UNLOADABLE, "def predict(:\n", "def predict(data, more): pass\n")
    ):
        bad = artifacts.folder(tmp_path / f"bad{number}", {**good, "score.py": score})
        found = plain_server.havre("verify", str(bad), "--json", check=False)
        assert found.returncode == 1
        failed = json.loads(found.stdout)[-1]
        assert failed["state"] == "failed"
        refused = plain_server.havre("deploy", str(bad), "--name", f"bad{number}", check=False)
        assert failed["message"] in " ".join((refused.stdout + refused.stderr).split())
    writes = artifacts.folder(tmp_path / "writes", {**good, "score.py": WRITES})
    found = plain_server.havre("verify", str(writes), "--json", check=False)
    assert "the artifact is read-only" in json.loads(found.stdout)[-1]["message"]
    assert sorted(os.listdir(writes)) == sorted(good)
    data = tmp_path / "data.json"
    data.write_text('"text"')
    found = plain_server.havre("verify", str(folder), "--data", str(data), check=False)
    assert found.returncode == 0
    data.write_text("3")
    found = plain_server.havre("verify", str(folder), "--data", str(data), check=False)
    assert found.returncode == 1
    assert "TypeError" in found.stdout
    doubtful = artifacts.folder(
        tmp_path / "doubtful",
        {"score.py": LISTS, "runtime.yaml": runtime + "inference_conda_env: {}\n"},
    )
    (doubtful / "modèles" / "empty").mkdir(parents=True)
    found = plain_server.havre("verify", str(doubtful), "--json")
    states = {check["key"]: check for check in json.loads(found.stdout)}
    warned = "inference_conda_env should be INFERENCE_CONDA_ENV, below MODEL_DEPLOYMENT"
    assert states["runtime_yaml"]["state"] == "warning"
    assert warned in states["runtime_yaml"]["message"]
    deployed = plain_server.havre("deploy", str(doubtful), "--name", "doubtful")
    assert warned in " ".join((deployed.stdout + deployed.stderr).split())
    answer = plain_server.havre("predict", "doubtful", "[]")
    assert "modèles/empty" in json.loads(answer.stdout)
    plain_server.havre("delete", "doubtful")
