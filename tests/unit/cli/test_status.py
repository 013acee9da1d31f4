"""What `havre status` tells of what does not serve."""

import json

import pytest

from havre.cli.status import _show
from havre.operate.status import ServerStatus

DEPLOYMENTS = [
    {
        "id": "ocid1.a",
        "displayName": "iris",
        "lifecycleState": "NEEDS_ATTENTION",
        "lifecycleDetails": "no instance answers: its copies keep dying",
        "modelDeploymentUrl": "http://127.0.0.1:1/ocid1.a",
    },
    {
        "id": "ocid1.b",
        "displayName": "rose",
        "lifecycleState": "ACTIVE",
        "lifecycleDetails": None,
        "modelDeploymentUrl": "http://127.0.0.1:1/ocid1.b",
    },
]


def test_a_deployment_that_needs_attention_has_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = ServerStatus("/home", is_running=True, healthy=True, deployments=DEPLOYMENTS)
    told = json.loads(json.dumps(report.to_json()))["deployments"]
    assert [row["details"] for row in told] == ["no instance answers: its copies keep dying", ""]
    assert told[0]["state"] == "NEEDS_ATTENTION"
    _show(report)
    lines = capsys.readouterr().out.splitlines()
    assert "iris is NEEDS_ATTENTION: no instance answers: its copies keep dying" in lines
    assert not any(line.startswith("rose is") for line in lines)


def test_a_server_that_is_not_healthy_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    why = "the database cannot be asked: connection refused; predictions go on"
    report = ServerStatus("/home", is_running=True, reason=why)
    assert report.to_json()["reason"] == why
    _show(report)
    assert why in capsys.readouterr().out.splitlines()
