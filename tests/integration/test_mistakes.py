"""Each mistake of ``tests/zoo/mistakes.py``, made in an artifact that a real keeper loads."""

import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from tests.support.copy_instance import LAUNCHER, NO_RESPONSE, interpreter, wait_until
from tests.zoo.mistakes import ECHO, LOADING, MANIFESTS, PREDICTING, Mistake

from havre.catalog.manifest import read_manifest
from havre.domain.errors import ArtifactInvalid
from havre.engines.endings import last_line_of


def _files(mistake: Mistake) -> dict[str, str | bytes]:
    return {"score.py": mistake.score, **mistake.files}


def _holds(message: str, mistake: Mistake) -> None:
    assert not [words for words in mistake.told if words not in message], message
    assert not [words for words in mistake.untold if words in message], message
    assert len(message) <= 1000


@pytest.mark.parametrize("mistake", LOADING, ids=lambda each: each.id)
def test_a_model_that_cannot_be_loaded_says_what_to_mend(launch: Any, mistake: Mistake) -> None:
    instance = launch(_files(mistake), copies=1)
    code = instance.process.wait(40)
    # A crash ends the keeper before it can say why: then its log is read.
    _holds(
        instance.state["reason"] if code == 3 else last_line_of(instance.log.splitlines()), mistake
    )


@pytest.mark.parametrize("mistake", PREDICTING, ids=lambda each: each.id)
def test_a_prediction_that_fails_says_what_to_mend(launch: Any, mistake: Mistake) -> None:
    instance = launch(_files(mistake), copies=1).ready()
    answer = instance.post(mistake.body, headers={"opc-request-id": "R7", **mistake.headers})
    assert answer.status == mistake.status, answer.body
    _holds(answer.json["message"], mistake)


@pytest.mark.parametrize(("name", "text", "told"), MANIFESTS, ids=[each[0] for each in MANIFESTS])
def test_a_manifest_that_cannot_be_read_says_what_to_mend(
    tmp_path: Path, name: str, text: str, told: tuple[str, ...]
) -> None:
    (tmp_path / "runtime.yaml").write_text(text)
    with pytest.raises(ArtifactInvalid) as raised:
        read_manifest(tmp_path)
    assert not [words for words in told if words not in raised.value.message], raised.value.message


def test_requests_are_held_to_the_schema_where_the_deployment_asks_for_it(launch: Any) -> None:
    """Alone and in a batch, and never where nobody asked."""
    schema = {"schema": [{"name": "age", "dtype": "int64"}, {"name": "job", "dtype": "object"}]}
    files = {"score.py": ECHO, "input_schema.json": json.dumps(schema)}
    plain = launch(files, copies=1).ready()
    held = launch(files, copies=1, environment={"MODEL_CHECK_INPUT": "1"}).ready()
    lacking = launch(ECHO, copies=1, environment={"MODEL_CHECK_INPUT": "1"}).ready()
    assert "requests are held to input_schema.json before predict() gets them" in held.log
    assert "MODEL_CHECK_INPUT=1 does nothing" in lacking.log
    rows = [{"age": 1, "job": "x"}, {"age": "old", "job": "x"}]
    assert plain.post(rows).json == rows
    assert lacking.post(rows).json == rows
    refused = held.post(rows)
    assert (refused.status, refused.json["code"]) == (400, "InvalidParameter")
    assert refused.json["message"].startswith("row 1, column 'age': \"old\" is not a whole number")
    assert held.post(rows[:1]).json == rows[:1]


def test_an_exception_is_the_models_and_names_its_request_and_log(launch: Any) -> None:
    """Kept for a replay without them: the next revision's request has another name."""
    instance = launch("def predict(data):\n    return data['when']\n", copies=1).ready()
    instance.ask("record", most=5)
    told = instance.post({}, headers={"opc-request-id": "R7"}).json
    assert told == {
        "code": "InternalServerError",
        "message": "KeyError: 'when'",
        "raisedBy": "predict() of the model",
        "opcRequestId": "R7",
        "logs": "havre logs ocid1.test --request R7",
    }
    plain = {"code": told["code"], "message": told["message"]}
    assert instance.post({}).json == plain
    [answer] = [json.loads(body) for _, body in instance.check(b"{}")]
    assert answer == plain
    kept = wait_until(lambda: instance.ask("recorded")["recorded"])
    assert [json.loads(b64decode(each["answer_base64"])) for each in kept][-1] == plain


COUNTS = """
import os
def load_model():
    print("LOADED")
    return {returned}
"""


@pytest.mark.parametrize("returned", ["'weights'", "7", "None", "True", "[1]", "object()"])
@pytest.mark.parametrize(
    "use",
    [
        "def predict(data, model=load_model()):\n    return data\n",
        "MODEL = load_model()\ndef predict(data):\n    return data\n",
        "try:\n    MODEL = load_model()\nexcept OSError:\n    MODEL = None\n"
        "def predict(data):\n    return data\n",
        "def predict(data):\n    return data\n",
        "def predict(data):\n    return data\nif __name__ == '__main__':\n    load_model()\n",
    ],
    ids=["a default", "a module's own", "tried", "nowhere", "as a program only"],
)
def test_load_model_is_called_once_whatever_it_returns(use: str, returned: str, tmp_path) -> None:
    """Loading in the keeper's way, without one: it is the same function."""
    (tmp_path / "score.py").write_text(COUNTS.format(returned=returned) + use)
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, str(LAUNCHER.parents[1]), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.splitlines() == ["LOADED"]


LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
from havre_copy import score_file
score_file.load(sys.argv[2], timeout_s=30)
"""
OLDEST = Mistake(
    "a program for a newer Python",
    "def predict(data):\n    match data:\n        case 1:\n            return data\n",
    ("score.py line 2: SyntaxError", "match statements need Python 3.10", "has 3."),
)


@pytest.mark.parametrize("version", ["3.7", "3.8", "3.9"])
def test_a_program_for_a_newer_python_says_so(launch: Any, version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on PATH or under pyenv")
    _holds(launch({"score.py": OLDEST.score}, copies=1, python=python).failed(), OLDEST)


def test_a_copy_that_crashes_says_where_and_of_which_request(launch: Any) -> None:
    score = "import ctypes\ndef predict(data):\n    return ctypes.string_at(data)\n"
    instance = launch(score, copies=1, output="output").ready()
    with pytest.raises(NO_RESPONSE):
        instance.post(0, headers={"opc-request-id": "DEADLY"})
    died = "request DEADLY: copy 0 "
    line = wait_until(lambda: next((x for x in instance.log.splitlines() if died in x), ""))
    assert "killed by SIGSEGV: Segmentation fault at score.py line 3 in predict" in line
