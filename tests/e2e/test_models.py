"""Real models of five frameworks answer as they do at home, many requests at once."""

import json
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from tests.e2e.artifacts import EXAMPLES, IRIS_ANSWER, IRIS_ROWS, folder, packed, scored
from tests.e2e.havre_server import HAVRE
from tests.support.gate import WAIT_AT
from tests.support.gate import gate as gate

FRAMEWORKS = Path(__file__).with_name("frameworks")
COPIES = 4
REQUESTS = 160
AT_ONCE = 16
ANSWER_WITHIN_S = 30

GATED = (
    WAIT_AT
    + """
import os

def load_model():
    wait_at(os.environ["GATE"])

def predict(data):
    return {}
"""
)

RESULTS = """
import datetime
import numpy as np
import pandas as pd

KINDS = {
    "scalar": lambda: np.float32(0.5),
    "whole": lambda: {"n": np.int64(7)},
    "array": lambda: np.arange(4).reshape(2, 2),
    "frame": lambda: pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
    "series": lambda: pd.Series([1.5, 2.5]),
    "missing": lambda: {"values": [float("nan"), float("inf"), None, 1.0]},
    "date": lambda: datetime.date(2026, 3, 4),
    "text": lambda: "çà et là",
    "nothing": lambda: None,
    "bytes": lambda: b"\\x00\\xff",
    "unknown": lambda: object(),
}

def load_model():
    return KINDS

def predict(data, model=load_model()):
    return model[data]()
"""

MEETING = """
import tempfile, time
from pathlib import Path

def load_model():
    return Path(tempfile.gettempdir(), "meeting")  # the one folder that copies share

def predict(data, model=load_model()):
    model.mkdir(exist_ok=True)
    (model / str(data["me"])).touch()
    while len(list(model.iterdir())) < data["guests"]:
        time.sleep(0.01)
    return data["me"]
"""

SLOW_STREAM = """
import tempfile, time
from pathlib import Path

def load_model():
    return Path(tempfile.gettempdir(), "gate")

def predict(data, model=load_model()):
    if data == "open":
        model.touch()
        return "opened"
    return parts(data, model)

def parts(data, gate):
    yield "first"
    while not gate.exists():
        time.sleep(0.01)
    yield "second"
    if data == "fail":
        raise RuntimeError("the model has lost its voice")
"""


@pytest.fixture
def deploy(oracle):
    """Deployments that are deleted after the test."""
    made = []

    def act(archive, **choices):
        made.append(oracle.deploy(oracle.save(archive), **choices))
        return made[-1]

    yield act
    for deployment_id in made:
        oracle.delete(deployment_id)


@pytest.fixture
def caller(server):
    with httpx.Client(
        base_url=server.url,
        timeout=ANSWER_WITHIN_S,
        trust_env=False,
        limits=httpx.Limits(max_connections=AT_ONCE),
    ) as client:
        yield client


@pytest.mark.parametrize("framework", ["sklearn", "xgboost", "lightgbm", "onnx", "torch"])
def test_four_copies_answer_many_at_once_as_the_estimator_does(
    request, framework, deploy, caller, tmp_path
):
    where = request.getfixturevalue("torch_notebook" if framework == "torch" else "notebook")
    artifact = tmp_path / "artifact"
    shutil.copytree(
        FRAMEWORKS / framework, artifact, ignore=shutil.ignore_patterns("train.py", "__pycache__")
    )
    trained = where.run(str(FRAMEWORKS / framework / "train.py"), str(artifact))
    deployment_id = deploy(packed(artifact), copies=COPIES, name=framework)

    def ask(number):
        chosen = slice(number % 100, number % 100 + 1 + number % 7)
        answer = caller.post(f"/{deployment_id}/predict", json={"rows": trained["rows"][chosen]})
        assert answer.status_code == 200, answer.text
        wanted = trained["expected"][chosen]
        assert answer.json()["prediction"] == pytest.approx(wanted, abs=1e-5)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, range(REQUESTS)))


def test_every_copy_works_at_the_same_time(deploy, caller):
    """Each request waits in predict() until as many as there are copies have come."""
    deployment_id = deploy(scored(MEETING), copies=COPIES)

    def ask(number):
        body = {"me": number, "guests": COPIES}
        return caller.post(f"/{deployment_id}/predict", json=body).json()

    with ThreadPoolExecutor(COPIES) as pool:
        assert list(pool.map(ask, range(COPIES))) == list(range(COPIES))


def test_what_predict_returns_reaches_the_client(deploy, caller, subtests):
    deployment_id = deploy(scored(RESULTS), copies=1)
    for kind, wanted in {
        "scalar": 0.5,
        "whole": {"n": 7},
        "array": [[0, 1], [2, 3]],
        "frame": {"a": {"x": 1, "y": 2}},
        "series": [1.5, 2.5],
        "missing": {"values": [None, None, None, 1.0]},
        "date": "2026-03-04",
        "text": "çà et là",
        "nothing": None,
    }.items():
        with subtests.test(kind):
            answer = caller.post(f"/{deployment_id}/predict", json=kind)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "application/json"
            assert answer.json() == wanted
    raw = caller.post(f"/{deployment_id}/predict", json="bytes")
    assert raw.headers["content-type"] == "application/octet-stream"
    assert raw.content == b"\x00\xff"
    refused = caller.post(f"/{deployment_id}/predict", json="unknown")
    assert (refused.status_code, refused.json()["code"]) == (500, "InternalServerError")
    assert "object" in refused.json()["message"]


def test_parts_of_a_stream_arrive_when_they_are_produced(deploy, caller):
    deployment_id = deploy(scored(SLOW_STREAM), copies=2)
    streamed, whole = f"/{deployment_id}/predictWithResponseStream", f"/{deployment_id}/predict"
    with caller.stream("POST", streamed, json="go") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = (line for line in answer.iter_lines() if line)
        assert next(lines) == "data: first"  # the second cannot have been produced yet
        assert caller.post(whole, json="open").json() == "opened"
        assert next(lines) == "data: second"
        assert list(lines) == []
    collected = caller.post(whole, json="go").text
    assert "first" in collected
    assert "second" in collected


def test_a_stream_that_fails_half_way_leaves_the_copy_serving(deploy, caller):
    deployment_id = deploy(scored(SLOW_STREAM), copies=1)
    streamed = f"/{deployment_id}/predictWithResponseStream"
    assert caller.post(f"/{deployment_id}/predict", json="open").json() == "opened"
    with caller.stream("POST", streamed, json="fail") as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert [next(lines), next(lines)] == ["data: first", "data: second"]
    assert "data: second" in caller.post(streamed, json="go").text


def test_the_example_is_deployed_and_asked_from_the_command_line(server):
    told = server.havre("deploy", str(EXAMPLES / "iris"), "--name", "from-a-shell").stdout
    assert f"{server.url}/ocid1.datasciencemodeldeployment." in told
    answer = server.havre("predict", "from-a-shell", json.dumps(IRIS_ROWS)).stdout
    assert json.loads(answer) == IRIS_ANSWER
    assert json.loads(
        server.havre("predict", "from-a-shell", text="[5.1, 3.5, 1.4, 0.2]").stdout
    ) == {"prediction": ["setosa"]}
    rows = json.loads(server.havre("list", "--json").stdout)
    assert [row["lifecycleState"] for row in rows if row["displayName"] == "from-a-shell"] == [
        "ACTIVE"
    ]
    server.havre("delete", "from-a-shell", "--model", "--yes")
    gone = server.havre("predict", "from-a-shell", "[1]", check=False)
    assert gone.returncode == 1
    assert "no deployment called 'from-a-shell'" in gone.stderr


def test_a_deploy_that_is_interrupted_goes_on_and_the_next_one_waits_for_it(server, tmp_path, gate):
    first, second = (
        folder(tmp_path / str(number), {"score.py": GATED.replace("{}", str(number))})
        for number in (1, 2)
    )
    deploy = (HAVRE, "deploy", "--name", "slow", "--env", f"GATE={gate.port}")
    deploy += ("--home", str(server.home))
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell lets what it runs in the background ignore Ctrl-C, and so would all below it.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        [*deploy, str(first)], env=server.environment, preexec_fn=heeding, **said
    ) as deploying:
        assert deploying.stdout is not None
        while "Accepted." not in deploying.stdout.readline():
            assert deploying.poll() is None, deploying.communicate()
        deploying.send_signal(signal.SIGINT)
        _, told = deploying.communicate(timeout=60)
    assert deploying.returncode == 130, told
    assert "the change of slow goes on" in told
    assert "`havre cancel slow` cancels it" in told
    refused = server.havre("deploy", str(second), "--name", "slow", "--no-wait", check=False)
    assert "slow has been CREATING for" in refused.stderr
    with subprocess.Popen(
        [*deploy, str(second), "--instances", "2"],
        env=server.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stdout is not None
        try:
            while "waiting for that to be over" not in (line := waiting.stdout.readline()):
                assert line, "it has ended, or does not wait"
        except BaseException:
            waiting.kill()
            raise
        finally:
            gate.open()
        told = waiting.stdout.read()
    assert waiting.returncode == 0, told
    assert "instances 1 → 2" in told
    assert server.havre("predict", "slow", "[]").stdout == "2"
    rows = json.loads(server.havre("list", "--json").stdout)
    assert [row["lifecycleState"] for row in rows if row["displayName"] == "slow"] == ["ACTIVE"]
    server.havre("delete", "slow", "--model", "--yes")
    left = server.havre("logs", "slow", "--access")
    assert "slow was deleted" in left.stderr
    assert "POST predict" in left.stdout


def test_a_folder_deployed_again_replaces_what_serves(server, tmp_path):
    for number in (1, 2):
        source = folder(
            tmp_path / str(number), {"score.py": f"def predict(data):\n    return {number}\n"}
        )
        told = server.havre("deploy", str(source), "--name", "again", "--env", "WEB_CONCURRENCY=1")
        assert ("updating" in told.stdout) is (number == 2)
        assert server.havre("predict", "again", "[]").stdout == str(number)
    server.havre("delete", "again", "--model", "--yes")
