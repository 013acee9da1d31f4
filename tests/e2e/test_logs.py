"""Logs, end to end on one server: oracle-ads, the `oci` command and `havre logs`, unpatched."""

import json
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import oci
import pytest
from tests.e2e.artifacts import scored
from tests.e2e.havre_server import HAVRE
from tests.e2e.test_cli import WAIT, OciCli

ADS_SESSION = Path(__file__).with_name("ads_logs.py")
DEADLINE_S = 60
OFTEN = {"max_interval_seconds": 1, "max_wait_seconds": 60}
GROUPS = ("logging", "log-group")

TALKING = """
import logging

def load_model():
    return logging.getLogger("score")

def predict(data, model=load_model()):
    [word] = data
    print("heard %s" % word)
    if word == "second":
        print("\\n".join("step %d" % number for number in range(30)))
    if word == "trouble":
        raise ValueError("no such iris")
    model.warning("answered")
    return {"prediction": data}
"""


def talked_to(oracle) -> str:
    """A new deployment that was asked three times, with the built-in logs."""
    deployment_id = oracle.deploy(oracle.save(scored(TALKING)), name="talking", copies=1)
    for word in ("first", "second"):
        oracle.predictions.predict(deployment_id, [word], opc_request_id=f"asked-{word}")
    with pytest.raises(oci.exceptions.ServiceError):
        oracle.once.predict(deployment_id, ["trouble"], opc_request_id="asked-trouble")
    return deployment_id


@pytest.fixture(scope="module")
def told(oracle) -> str:
    """For tests that ask it nothing more: they come in any order."""
    return talked_to(oracle)


def once(look: Callable[[], Any]) -> Any:
    """What ``look`` finds, as soon as it finds something: entries take a moment to arrive."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "no entry came"
        time.sleep(0.2)
    return found


def test_havre_logs(oracle, told):
    def shown(*options: str) -> list[str]:
        return oracle.server.havre("logs", told, *options).stdout.splitlines()

    # What failed comes last: what was before it is there as well by then.
    last = once(lambda: shown("--access", "--request", "asked-trouble"))
    assert len(last) == 1
    assert "  access   500  " in last[0]
    assert "  POST predict  " in last[0]
    assert last[0].endswith("  asked-trouble")
    trace = "\n".join(once(lambda: shown("--predict", "--grep", "VALUEERROR")))
    assert trace.count("Traceback") == 1
    assert "ValueError: no such iris" in trace
    requests = [line.rpartition("  ")[2] for line in shown("--access", "-n", "2")]
    assert requests == ["asked-second", "asked-trouble"]
    second = shown("--request", "asked-second", "--since", "1h")
    assert sorted(line.split("  ")[1] for line in second) == ["access", *["predict"] * 32]
    said = [line.split("  ")[-1] for line in second]
    steps = [f"step {number}" for number in range(30)]
    assert [line for line in said if line.startswith("step")] == steps
    assert said[-1].endswith("answered"), "it came last"
    assert shown("--request", "asked-second", "-n", "9") == second[-9:]
    assert any(line.endswith("  predict  heard second") for line in second)
    assert any("answered" in line for line in second)
    contents = [json.loads(line)["logContent"] for line in shown("--json")]
    data = next(each["data"] for each in contents if each["data"].get("status") == 200)
    assert data["modelLatency"] <= data["totalLatency"]
    ids = [content["id"] for content in contents]
    assert len(ids) == len(set(ids))
    assert ids == [json.loads(line)["logContent"]["id"] for line in shown("--json")][: len(ids)]
    wrong = oracle.server.havre("logs", told, "--since", "tomorrow", check=False)
    assert (wrong.returncode, "like 30s, 10m, 2h" in wrong.stderr) == (1, True)


def test_havre_logs_follows(oracle):
    told = talked_to(oracle)
    once(lambda: "asked-trouble" in oracle.server.havre("logs", told, "--access").stdout)
    command = [HAVRE, "logs", told, "-f", "--access", "--home", str(oracle.server.home)]
    following = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=oracle.server.environment
    )
    assert following.stdout is not None
    with following:
        try:
            before = [following.stdout.readline() for _ in range(3)]
            oracle.predictions.predict(told, ["later"], opc_request_id="asked-later")
            assert following.stdout.readline().endswith("  asked-later\n")
            assert [line.split()[-1] for line in before][-1] == "asked-trouble"
        finally:
            following.terminate()


def test_oci_logging_and_logging_search(oracle, told):
    cli = OciCli(oracle.server)

    def ran(*words: str) -> Any:
        return json.loads(cli.run(*words).stdout)["data"]

    where = ("--compartment-id", oracle.compartment_id)
    made = ran(*GROUPS, "create", *where, "--display-name", "from-the-cli", *WAIT)
    group = made["resources"][0]["identifier"]
    client = oci.logging.LoggingManagementClient(oracle.config, service_endpoint=oracle.server.url)
    composite = oci.logging.LoggingManagementClientCompositeOperations(client)
    details = oci.logging.models.CreateLogDetails(display_name="l", log_type="CUSTOM")
    log = composite.create_log_and_wait_for_state(
        group, details, ["SUCCEEDED"], waiter_kwargs=OFTEN
    )
    log_id = log.data.resources[0].identifier
    assert [row.id for row in client.list_logs(group).data] == [log_id]
    assert group in [row.id for row in client.list_log_groups(oracle.compartment_id).data]
    assert client.get_log(group, log_id).data.log_type == "CUSTOM"
    ended = [
        composite.delete_log_and_wait_for_state(group, log_id, ["SUCCEEDED"], waiter_kwargs=OFTEN),
        composite.delete_log_group_and_wait_for_state(group, ["SUCCEEDED"], waiter_kwargs=OFTEN),
    ]
    assert [each.data.operation_type for each in ended] == ["DELETE_LOG", "DELETE_LOG_GROUP"]
    client.base_client.session.close()

    once(lambda: "asked-trouble" in oracle.server.havre("logs", told, "--access").stdout)
    now = datetime.now(UTC)
    window = ("--time-start", (now - timedelta(hours=1)).isoformat(timespec="milliseconds"))
    window += ("--time-end", (now + timedelta(minutes=1)).isoformat(timespec="milliseconds"))

    query = f"search \"{oracle.compartment_id}\" | where source = '*{told}' and data.status = 500"
    words = ("logging-search", "search-logs", "--search-query", query, *window)
    [row] = ran(*words)["results"]
    assert row["data"]["logContent"]["data"]["opcRequestId"] == "asked-trouble"


def test_ads(oracle, notebook):
    profile = oracle.server.profile
    told = notebook.run(
        *(str(ADS_SESSION), profile["file"], profile["profile"], oracle.server.url),
        *(oracle.compartment_id, oracle.project_id, oracle.save(scored(TALKING))),
    )
    assert told["logs"] == ["requests", "words"]
    assert [line[:5] for line in told["access"]] == ["[A] -"] * 3
    assert [line.rpartition(" - ")[2] for line in told["predict"]] == [
        "heard one",
        "heard two",
        "heard three",
    ]
    assert told["limited"] == told["access"][1:]
    assert told["head"] == told["access"][:1]
    assert [row["type"] for row in told["shown"]] == ["access"] * 3
    assert len({row["id"] for row in told["shown"]}) == 3
    # Two looks three minutes apart by their times of entries: each entry is shown once.
    for lines in (told["streamed"], told["watched"]):
        assert set(told["access"]) | set(told["predict"]) <= set(lines)
    assert sum("heard" in line for line in told["streamed"]) == 3
    assert oracle.state(told["id"]) == "DELETED"
