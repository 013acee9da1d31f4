"""The `oci` command, as installed: a model's whole life without a line of Python."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.artifacts import EXAMPLES, IRIS_ANSWER, IRIS_ROWS, STREAM, packed, scored

OCI = Path(sys.executable).with_name("oci")
COMMAND_LIMIT_S = 120
WAIT = ("--wait-for-state", "SUCCEEDED", "--wait-interval-seconds", "1", "--max-wait-seconds", "90")


class OciCli:
    """Runs `oci` with the profile that `havre oci-config` wrote."""

    def __init__(self, server) -> None:
        self.server = server
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OCI_")},
            "OCI_CLI_SUPPRESS_FILE_PERMISSIONS_WARNING": "True",
            "SUPPRESS_LABEL_WARNING": "True",
        }

    def run(self, *words, endpoint=True, check=True):
        profile = self.server.profile
        command = [OCI, "--config-file", profile["file"], "--profile", profile["profile"]]
        if endpoint:
            command += ["--endpoint", self.server.url]
        done = subprocess.run(
            [*command, *words],
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        if check:
            assert done.returncode == 0, (words, done.stderr, self.server.tell_logs())
        return done

    def data_science(self, *words):
        """What ``oci data-science …`` printed."""
        return json.loads(self.run("data-science", *words).stdout)


@pytest.fixture(scope="module")
def cli(server):
    return OciCli(server)


def test_a_model_from_its_first_day_to_its_last(cli, tmp_path):
    where = ("-c", cli.server.profile["compartment"], "--project-id", cli.server.profile["project"])
    archive = tmp_path / "iris.zip"
    archive.write_bytes(packed(EXAMPLES / "iris"))
    model = cli.data_science("model", "create", *where, "--display-name", "iris")["data"]
    assert model["lifecycle-state"] == "ACTIVE"
    model_option = ("--model-id", model["id"])
    cli.run(
        *("data-science", "model", "create-model-artifact", *model_option),
        *("--model-artifact-file", str(archive)),
    )
    copy = tmp_path / "copy.zip"
    cli.run(*("data-science", "model", "get-artifact-content", *model_option, "--file", str(copy)))
    assert copy.read_bytes() == archive.read_bytes()

    request = cli.data_science(
        *("model-deployment", "create", *where, "--display-name", "from-the-cli"),
        *("--model-deployment-configuration-details", _configuration(model["id"]), *WAIT),
    )["data"]
    assert (request["status"], request["percent-complete"]) == ("SUCCEEDED", 100.0)
    deployment_id = request["resources"][0]["identifier"]
    option = ("--model-deployment-id", deployment_id)
    lines = [
        row["message"]
        for row in cli.data_science(
            "work-request", "list-work-request-logs", "--work-request-id", request["id"]
        )["data"]
    ]
    assert "Load balancer is provisioned." in lines
    assert lines[-1] == "The model deployment is ACTIVE."

    told = cli.run(
        *("model-deployment", "inference-result", "predict", *option),
        *("--request-body", json.dumps(IRIS_ROWS)),
    )
    assert json.loads(json.loads(told.stdout)["data"]) == IRIS_ANSWER

    raw = cli.run(
        *("raw-request", "--http-method", "POST", "--request-body", json.dumps(IRIS_ROWS)),
        *("--target-uri", f"{cli.server.url}/{deployment_id}/predict"),
        endpoint=False,
    )
    answer = json.loads(raw.stdout)
    assert (answer["status"], answer["data"]) == ("200 OK", IRIS_ANSWER)
    assert answer["headers"]["opc-request-id"]

    update = cli.data_science(
        *("model-deployment", "update", *option, "--description", "changed"), "--force", *WAIT
    )["data"]
    assert update["operation-type"] == "MODEL_DEPLOYMENT_UPDATE"
    listed = cli.data_science(
        *("model-deployment", "list", "-c", where[1], "--all", "--page-size", "1"),
        *("--display-name", "from-the-cli"),
    )["data"]
    assert [(row["id"], row["lifecycle-state"]) for row in listed] == [(deployment_id, "ACTIVE")]
    assert listed[0]["description"] == "changed"

    gone = cli.data_science("model-deployment", "delete", *option, "--force", *WAIT)["data"]
    assert gone["resources"][0]["action-type"] == "DELETED"
    seen = cli.data_science("model-deployment", "get", *option)["data"]
    assert seen["lifecycle-state"] == "DELETED"


def test_a_stream_is_written_to_standard_output(cli, oracle):
    deployment_id = oracle.deploy(oracle.save(scored(STREAM)), copies=1)
    told = cli.run(
        *("model-deployment", "inference-result", "predict-with-response-stream"),
        *("--model-deployment-id", deployment_id, "--file", "-"),
        *("--request-body", json.dumps({"words": ["a", "breeze"]})),
    )
    parts = [line.removeprefix("data: ") for line in told.stdout.splitlines() if line]
    assert [json.loads(part)["word"] for part in parts] == ["a", "breeze"]
    oracle.delete(deployment_id)


def test_why_a_deployment_failed_is_in_its_work_request(cli, oracle):
    model_id = oracle.save(scored("import no_such_package"))
    request = cli.data_science(
        *("model-deployment", "create", "-c", oracle.compartment_id),
        *("--project-id", oracle.project_id),
        *("--model-deployment-configuration-details", _configuration(model_id)),
        *("--wait-for-state", "FAILED", *WAIT),
    )["data"]
    assert request["status"] == "FAILED"
    (error,) = cli.data_science(
        "work-request", "list-work-request-errors", "--work-request-id", request["id"]
    )["data"]
    assert "No module named 'no_such_package'" in error["message"]


def test_a_refusal_is_a_service_error_and_exit_code_1(cli):
    done = cli.run(
        *("data-science", "model-deployment", "get", "--model-deployment-id", "ocid1.x.y.z"),
        check=False,
    )
    assert done.returncode == 1
    assert "NotAuthorizedOrNotFound" in done.stderr


def _configuration(model_id):
    return json.dumps(
        {
            "deploymentType": "SINGLE_MODEL",
            "modelConfigurationDetails": {
                "modelId": model_id,
                "bandwidthMbps": 10,
                "instanceConfiguration": {
                    "instanceShapeName": "VM.Standard.E4.Flex",
                    "modelDeploymentInstanceShapeConfigDetails": {"ocpus": 1, "memoryInGBs": 16},
                },
                "scalingPolicy": {"policyType": "FIXED_SIZE", "instanceCount": 1},
            },
        }
    )
