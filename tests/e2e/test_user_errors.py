"""What a user does wrong is told where that user looks, in words that say what to mend.

A refused call: the service error. A deployment that fails: the last line of its work request's log,
which is its error too, and the deployment's lifecycleDetails. A command: one line on standard
error and exit code 1.
"""

import json
import socket
import sys
from contextlib import closing

import oci
import pytest
from tests.e2e.artifacts import DOUBLE, EXAMPLES, UNLOADABLE, folder, scored, zipped
from tests.e2e.havre_server import HavreServer
from tests.e2e.oracle_client import OracleClient

HERE = "{}.{}".format(*sys.version_info)
OTHER = "3.12" if HERE != "3.12" else "3.11"

RUNTIME = """
MODEL_DEPLOYMENT:
  INFERENCE_CONDA_ENV:
    INFERENCE_ENV_SLUG: {slug}
    INFERENCE_ENV_TYPE: {kind}
    INFERENCE_PYTHON_VERSION: '{python}'
"""


def _runtime(slug="", kind="", python=""):
    return RUNTIME.format(slug=slug, kind=kind, python=python)


SHORT_LIVED = """
import os, threading

def begin():
    timer = threading.Timer(1, os._exit, [7])
    timer.daemon = True
    timer.start()

os.register_at_fork(after_in_child=begin)

def predict(data):
    return data
"""
DIES_WHEN_ASKED = "import os\ndef predict(data):\n    os.abort()\n"


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        pytest.param(
            zipped({"model.txt": "1"}),
            ["the artifact has no score.py", "its top holds model.txt"],
            id="no score.py",
        ),
        pytest.param(
            scored("def predict(data:\n    return 1\n"),
            ["score.py line 1", "SyntaxError"],
            id="syntax error",
        ),
        pytest.param(
            scored(UNLOADABLE),
            ["load_model() failed", "OSError: weights.bin is missing", "score.py line 3"],
            id="load_model raises",
        ),
        pytest.param(
            scored("import no_such_package\n"),
            [
                *("score.py line 1", "No module named 'no_such_package'"),
                *("names no environment, so this was the default", "deploy FOLDER --environment"),
            ],
            id="a package is not there",
        ),
        pytest.param(
            scored("def load_model():\n    return 1\n"),
            ["score.py has no predict function"],
            id="no predict",
        ),
        pytest.param(
            scored("predict = 'later'\n"),
            ["predict in score.py is not a function", "str"],
            id="predict cannot be called",
        ),
        pytest.param(
            scored("def predict(data, model):\n    return 1\n"),
            ["needs a default for every parameter", "model"],
            id="predict wants a model",
        ),
        pytest.param(
            scored("import sys\nsys.exit(3)\n"),
            ["score.py ended the program while loading", "line 2"],
            id="sys.exit",
        ),
        pytest.param(
            scored("import os\nos._exit(3)\n"),
            ["the model's process exited with code 3"],
            id="ends without a word",
        ),
        pytest.param(
            scored(DIES_WHEN_ASKED, **{"test_input.json": "[1]"}),
            ["did not answer the artifact's own sample", "killed by SIGABRT"],
            id="copies that die of the sample",
        ),
        pytest.param(
            scored(DOUBLE, **{"runtime.yaml": "MODEL_DEPLOYMENT: [unclosed"}),
            ["runtime.yaml cannot be read", "line 1"],
            id="runtime.yaml is not YAML",
        ),
        pytest.param(
            scored(DOUBLE, **{"runtime.yaml": _runtime(kind="conda")}),
            ["INFERENCE_ENV_TYPE", "data_science or published", "conda"],
            id="unknown kind of environment",
        ),
        pytest.param(
            scored(DOUBLE, **{"runtime.yaml": _runtime("notebook", "published").lower()}),
            ["line 2: model_deployment should be MODEL_DEPLOYMENT"],
            id="keys of runtime.yaml in other capitals",
        ),
        pytest.param(
            scored(DOUBLE, **{"runtime.yml": _runtime("notebook", "published")}),
            ["runtime.yml is not read: call it runtime.yaml"],
            id="runtime.yaml by another name",
        ),
        pytest.param(
            scored(DOUBLE, **{"runtime.yaml": _runtime("not_here_v1", "published")}),
            ["not_here_v1", "havre env publish"],
            id="environment that nobody published",
        ),
        pytest.param(
            scored(DOUBLE, **{"runtime.yaml": _runtime("not_here_v1", "data_science")}),
            ["not_here_v1", "generalml_p311_cpu_x86_64_v1"],
            id="unknown service environment",
        ),
        pytest.param(
            scored(DOUBLE, **{"runtime.yaml": _runtime("notebook", "published", OTHER)}),
            ["notebook", OTHER, HERE],
            id="another Python than the environment's",
        ),
        pytest.param(
            scored(DOUBLE, **{"requirements.txt": "numpy==1.0\n", "runtime.yaml": _runtime()}),
            ["numpy==1.0"],
            id="requirements that cannot be met",
        ),
        pytest.param(
            scored(DOUBLE, **{"requirements.txt": "--index-url http://127.0.0.1:9/\n"}),
            ["requirements.txt", "--index-url", "havre env publish"],
            id="requirements with options",
        ),
    ],
)
def test_a_deployment_that_fails_says_why_in_three_places(oracle, archive, told):
    assert_fails_and_says_why(oracle, archive, told)


def test_copies_that_live_for_a_second_fail_their_deployment(new_server):
    # Longer than a copy that gets no processor may live before it comes to its end.
    hesitant = OracleClient(new_server(HAVRE_MIN_READY_S="6"))
    told = ["copies keep dying: the last was exited with code 7"]
    for sample in ({}, {"test_input.json": "[1]"}):
        assert_fails_and_says_why(hesitant, scored(SHORT_LIVED, **sample), told)
    hesitant.close()


def assert_fails_and_says_why(oracle, archive, told):
    request = oracle.create(oracle.save(archive), copies=1)
    assert request.status == "FAILED"
    deployment = oracle.data_science.get_model_deployment(request.resources[0].identifier).data
    assert deployment.lifecycle_state == "FAILED"
    reason = deployment.lifecycle_details
    for words in told:
        assert words in reason
    assert len(reason.splitlines()) == 1
    assert str(oracle.server.home) not in reason.split("The full output is in")[0]
    assert oracle.log_lines(request.id)[-1] == reason
    (error,) = oracle.data_science.list_work_request_errors(request.id).data
    assert (error.message, bool(error.code)) == (reason, True)
    oracle.delete(deployment.id)


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        pytest.param(b"these are no zip's bytes", ["zip"], id="no zip"),
        pytest.param(zipped({"score.py": DOUBLE})[:-30], ["zip"], id="half a zip"),
        pytest.param(scored(DOUBLE, **{"../evil.py": ""}), ["../evil.py"], id="a way out"),
        pytest.param(b"", ["empty"], id="nothing"),
    ],
)
def test_a_wrong_artifact_is_refused_when_it_is_sent(oracle, archive, told):
    model_id = oracle.save(None)
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        oracle.data_science.create_model_artifact(model_id, archive)
    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")
    for words in told:
        assert words in caught.value.message
    # The right one can follow.
    oracle.data_science.create_model_artifact(model_id, scored(DOUBLE))


@pytest.mark.parametrize(
    ("choices", "status", "code", "told"),
    [
        pytest.param(
            {"shape": "VM.Imaginary.1", "figures": None},
            400,
            "InvalidParameter",
            ["VM.Imaginary.1", "modelDeploymentShapes"],
            id="unknown shape",
        ),
        pytest.param(
            {"figures": {"ocpus": 200.0, "memory_in_gbs": 400.0}},
            400,
            "InvalidParameter",
            ["ocpus must be 1 to 64", "200"],
            id="larger than the shape",
        ),
        pytest.param(
            {"figures": None},
            400,
            "InvalidParameter",
            ["VM.Standard.E4.Flex is flexible", "ocpus and memoryInGBs"],
            id="a flexible shape without figures",
        ),
        pytest.param(
            {"shape": "BM.GPU.H100.8", "figures": None},
            400,
            "LimitExceeded",
            ["GPUs: 8 asked", "this machine has"],
            id="more GPUs than there are",
        ),
        pytest.param(
            {"copies": 1000, "instances": 100},
            400,
            "LimitExceeded",
            ["copies: 100000 asked", "lower WEB_CONCURRENCY"],
            id="more copies than the machine takes",
        ),
        pytest.param(
            {"variables": {"TENANCY_OCID": "mine"}},
            400,
            "InvalidParameter",
            ["TENANCY_OCID"],
            id="a reserved variable",
        ),
        pytest.param(
            {"variables": {"WEB_CONCURRENCY": "many"}},
            400,
            "InvalidParameter",
            ["WEB_CONCURRENCY must be a whole number"],
            id="copies that are no number",
        ),
    ],
)
def test_a_wrong_configuration_is_refused_at_once(oracle, choices, status, code, told):
    model_id = oracle.save(scored(DOUBLE))
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        oracle.data_science.create_model_deployment(oracle.details(model_id, **choices))
    assert (caught.value.status, caught.value.code) == (status, code)
    for words in told:
        assert words in caught.value.message


def test_a_model_that_is_not_there(oracle):
    unknown = oracle.save(None)[:-4] + "zzzz"
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        oracle.data_science.create_model_deployment(oracle.details(unknown))
    assert caught.value.code == "RelatedResourceNotAuthorizedOrNotFound"
    assert unknown in caught.value.message


def test_a_model_without_an_artifact(oracle):
    model_id = oracle.save(None)
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        oracle.data_science.create_model_deployment(oracle.details(model_id))
    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")
    assert "artifact" in caught.value.message


def test_strict_capacity_names_what_is_asked_and_what_is_there(new_server):
    strict = new_server(HAVRE_CAPACITY="strict")
    refused = strict.havre(
        *("deploy", str(EXAMPLES / "iris"), "--ocpus", "64", "--memory", "1024"), check=False
    )
    assert refused.returncode == 1
    assert "hardware threads (2 per OCPU): 128 asked, 0 used, this machine has" in refused.stderr
    assert "memory: 1024.0 GB asked" in refused.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["deploy", "{empty}"], "score.py", id="a folder without score.py"),
        pytest.param(["deploy", "{absent}"], "absent", id="a folder that is not there"),
        pytest.param(
            ["deploy", "{broken}"], "load_model() failed: OSError", id="a model that cannot load"
        ),
        pytest.param(
            ["deploy", "{whole}", "--shape", "Huge"], "'Huge' is not a shape", id="unknown shape"
        ),
        pytest.param(
            ["deploy", "{whole}", "--env", "NAME"], "must be NAME=VALUE", id="a variable's form"
        ),
        pytest.param(["predict", "nobody", "[1]"], "havre list", id="unknown deployment"),
        pytest.param(
            ["predict", "ocid1.datasciencemodeldeployment.oc1.iad.nobody", "[1]"],
            "ocid1.datasciencemodeldeployment.oc1.iad.nobody",
            id="unknown OCID",
        ),
        pytest.param(["delete", "nobody"], "nobody", id="delete what is not there"),
        pytest.param(
            ["env", "publish", "x", "--prefix", "{empty}"],
            "is not an environment",
            id="no environment to publish",
        ),
        pytest.param(["env", "publish", "X Y", "--prefix", "{empty}"], "X Y", id="a slug's form"),
        pytest.param(["env", "show", "nothing"], "'nothing'", id="unknown environment"),
    ],
)
def test_a_command_that_fails_says_why(server, tmp_path, words, told):
    places = {
        "empty": folder(tmp_path / "empty", {"notes.txt": ""}),
        "absent": tmp_path / "absent",
        "broken": folder(tmp_path / "broken", {"score.py": UNLOADABLE}),
        "whole": folder(tmp_path / "whole", {"score.py": DOUBLE}),
    }
    before = server.havre("list", "--json").stdout
    done = server.havre(*(word.format(**places) for word in words), check=False)
    _assert_told(done, told)
    if words[1] != "{broken}":
        assert server.havre("list", "--json").stdout == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["list"], "havre up"),
        (["deploy", str(EXAMPLES / "iris")], "havre up"),
        (["up", "--detach", "--host", "0.0.0.0"], "lets other machines in while auth is off"),
        (["up", "--detach", "--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["up", "--detach", "--capacity", "elastic"], "overcommit, strict"),
    ],
)
def test_a_server_that_does_not_run_is_told(home, words, told):
    _assert_told(home.havre(*words, check=False), told)


def test_a_port_that_is_taken(home):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = home.havre("up", "--port", str(port), "--detach", check=False)
    _assert_told(done, f"port {port} on 127.0.0.1 is taken")
    assert home.havre("status", "--json", check=False).returncode == 3
    assert json.loads(home.havre("status", "--json", check=False).stdout)["running"] is False


def test_a_settings_file_with_a_word_too_many(home):
    (home.home / "havre.toml").write_text("prot = 80\n")
    _assert_told(home.havre("up", "--detach", check=False), "prot")


@pytest.fixture
def home():
    """A home in which nothing runs."""
    made = HavreServer({})
    yield made
    (made.home / "havre.toml").unlink(missing_ok=True)
    made.down()


def _assert_told(done, told):
    assert done.returncode == 1, done
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("havre: ") == 1
