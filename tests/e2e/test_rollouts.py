"""Rollouts that are checked, replayed and staged, under load: not one request fails."""

import time
from collections.abc import Iterator

import pytest
from tests.e2e.load import Load
from tests.e2e.operated_server import TROUBLED, OperatedServer, wait_for
from tests.e2e.operated_server import operated as operated

COPIES, CLIENTS = 4, 16
SLOW_MARK, HANGING_MARK = "slow", "hangs"
SLOWED = TROUBLED.replace(
    '    time.sleep(data.get("sleep", 0))\n',
    f'    times = {{"{SLOW_MARK}": 0.2, "{HANGING_MARK}": 6.5}}\n'
    '    time.sleep(times.get(model, data.get("sleep", 0)))\n',
)
assert SLOWED != TROUBLED


@pytest.fixture(scope="module")
def model(operated: OperatedServer) -> str:
    return operated.save(SLOWED, sample='{"echo": 1}')


@pytest.fixture
def deployment(operated: OperatedServer, model: str) -> Iterator[str]:
    made, work_request = operated.create(model, variables={"MARK": "first"})
    assert operated.end_of(work_request)["status"] == "SUCCEEDED"
    yield made
    operated.delete(made)


@pytest.fixture
def load(operated: OperatedServer, deployment: str) -> Iterator[Load]:
    """What it is asked for, it answers: whatever happens in the test."""
    with Load(f"{operated.url}/{deployment}", pause_s=0.05) as running:
        running.wait_for_more()
        yield running
        running.wait_for_more()
    assert running.failures == []


def log_of(operated: OperatedServer, work_request: str) -> str:
    return "\n".join(line for _, lines in operated.client.follow(work_request) for line in lines)


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        ('{"act": "raise", "echo": "setosa"}', "with 500: ValueError: no such iris setosa"),
        ('{"act": "be killed"}', "did not answer the artifact's own sample"),
    ],
)
def test_a_revision_that_fails_its_own_sample_never_answers_anybody(
    operated: OperatedServer, deployment: str, load: Load, sample: str, told: str
) -> None:
    bad = operated.save(TROUBLED, sample=sample)
    end = operated.end_of(operated.change(deployment, model_id=bad, variables={"MARK": "bad"}))
    assert end["status"] == "FAILED"
    assert end["reason"].startswith("the check failed: ")
    assert told in end["reason"]
    row = operated.client.deployment(deployment)
    assert row["lifecycleState"] == "ACTIVE"
    assert row["lifecycleDetails"] == end["reason"]
    load.wait_for_more()
    assert {outcome.mark for outcome in load.outcomes} == {"first"}
    wait_for("one instance", lambda: len(operated.instances(deployment)) == 1)


def test_live_requests_are_replayed_and_a_limit_stops_the_rollout(
    operated: OperatedServer, deployment: str, load: Load
) -> None:
    [instance] = operated.instances(deployment)
    operated.end_of(operated.change(deployment, freeformTags={"havre-replay": "20 equal=95%"}))
    answered = operated.keeper(instance).answered
    wait_for("requests to replay", lambda: operated.keeper(instance).answered > answered + 40)
    same = {"MARK": "first", "WEB_CONCURRENCY": "3"}
    assert "20 of 20 responses are equal" in log_of(
        operated, operated.change(deployment, variables=same)
    )
    [instance] = set(operated.instances(deployment)) - {instance}
    wait_for("requests to replay", lambda: operated.keeper(instance).answered > 40)
    end = operated.end_of(operated.change(deployment, variables={"MARK": "other"}))
    assert end["status"] == "FAILED"
    assert "0 of 20 responses are equal, 20 differ (the first is request 1)" in end["reason"]
    load.wait_for_more()
    assert {outcome.mark for outcome in load.outcomes} == {"first"}


def test_a_canary_takes_over_step_by_step(
    operated: OperatedServer, deployment: str, load: Load
) -> None:
    work_request = operated.change(
        deployment,
        variables={"MARK": "second"},
        freeformTags={"havre-canary": "20%/3s 60%/3s slowdown=50"},
    )
    log = log_of(operated, work_request)
    assert "20 % of the requests go to the new revision for 3 s" in log
    assert "Canary at 60 %: new revision " in log
    assert log.endswith("The model deployment is updated.")
    here = time.monotonic()
    load.wait_for_more()
    outcomes = load.outcomes
    assert {outcome.mark for outcome in outcomes if outcome.began > here} == {"second"}
    first = min(outcome.began for outcome in outcomes if outcome.mark == "second")
    last = max(outcome.began for outcome in outcomes if outcome.mark == "first")
    assert last - first > 2  # both answered for as long as the steps took, but for a standstill


def test_a_canary_that_is_slower_is_taken_back(
    operated: OperatedServer, deployment: str, load: Load
) -> None:
    before = operated.instances(deployment)
    work_request = operated.change(
        deployment,
        variables={"MARK": SLOW_MARK},
        freeformTags={"havre-canary": "30%/60s slowdown=3"},
    )
    end = operated.end_of(work_request)
    assert end["status"] == "FAILED"
    assert "more than 3 times as slow (new revision " in end["reason"]
    assert_back(operated, deployment, before, load)
    assert SLOW_MARK in {outcome.mark for outcome in load.outcomes}


def test_a_canary_that_hangs_is_taken_back_before_its_step_is_over(
    operated: OperatedServer, deployment: str
) -> None:
    before = operated.instances(deployment)
    # Few clients: those that wait for the hanging one are all answered in the end.
    with Load(f"{operated.url}/{deployment}", keep_alive=6, short_lived=0) as load:
        load.wait_for_more()
        work_request = operated.change(
            deployment,
            variables={"MARK": HANGING_MARK},
            freeformTags={"havre-canary": "15%/2s"},
        )
        end = operated.end_of(work_request)
        assert end["status"] == "FAILED"
        assert "the canary was stopped: " in end["reason"]
        assert "in hand" in end["reason"]
        assert_back(operated, deployment, before, load)
    assert load.failures == []


def test_a_canary_is_called_off(operated: OperatedServer, deployment: str, load: Load) -> None:
    before = operated.instances(deployment)
    work_request = operated.change(
        deployment,
        variables={"MARK": "second"},
        freeformTags={"havre-canary": "30%/60s slowdown=50"},
    )
    load.wait_for_more(mark="second", count=10)
    told = operated.server.havre("cancel", deployment).stdout
    assert "ACTIVE" in told
    assert operated.end_of(work_request)["status"] == "CANCELED"
    assert_back(operated, deployment, before, load)
    refused = operated.server.havre("cancel", deployment, check=False)
    assert refused.returncode == 1
    assert "no change of failing is under way" in refused.stderr


def assert_back(operated: OperatedServer, deployment: str, before: list[str], load: Load) -> None:
    """All traffic is with the instances of before, and the others are gone."""
    wait_for("the old instances", lambda: operated.instances(deployment) == before)
    here = time.monotonic()
    load.wait_for_more()
    assert {outcome.mark for outcome in load.outcomes if outcome.began > here} == {"first"}


def test_copies_that_are_killed_cost_no_request_where_it_may_be_repeated(
    operated: OperatedServer, model: str
) -> None:
    deployment = operated.deploy(
        SLOWED, variables={"MARK": "first", "WEB_CONCURRENCY": str(COPIES)}
    )
    operated.end_of(operated.change(deployment, freeformTags={"havre-idempotent": "true"}))
    killed, at = 0, f"{operated.url}/{deployment}"
    with Load(at, pause_s=0, keep_alive=CLIENTS - 4, short_lived=4, sleep=0.02) as load:
        load.wait_for_more()
        while killed < 15:
            # A request is repeated once: what the last one had is answered before the next dies.
            load.wait_for_answers()
            load.wait_for_more(3 * CLIENTS)
            wait_for("another", lambda: operated.keeper_of(deployment).ready == COPIES)
            for copy in operated.copies(deployment)[:1]:
                copy.kill()
                killed += 1
        load.wait_for_more()
    assert load.failures == []
    operated.delete(deployment)
