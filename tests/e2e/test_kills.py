"""Anything may be killed at any time: what it costs, in requests, and what comes back."""

import contextlib
import http.client
import json
import os
import random
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from tests.e2e.killing import is_alive, kill, kill_everything, kill_supervisor
from tests.e2e.load import Load
from tests.e2e.operated_server import (
    TROUBLED,
    OperatedServer,
    configuration,
    unfinished,
    wait_for,
)
from tests.e2e.operated_server import operated as operated
from tests.support.gate import Gate
from tests.support.gate import gate as gate
from tests.support.slowness import STANDSTILL_S, slowness

from havre.client import ApiError
from havre.domain.logs import Category
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE, TELEMETRY, Phase
from havre.telemetry.files.log_reader import LogReader

COPIES = 4
IN_FLIGHT = 32
HOLD_S = 0.08
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "5"))
"""`make chaos` runs more of them."""
ENVOY_BACK_WITHIN_S = 1.0
NOTICED_WITHIN_S = 10.0
"""Both on a machine that has time for it."""


@pytest.fixture
def deployment(operated: OperatedServer) -> Iterator[str]:
    made = operated.deploy(variables={"WEB_CONCURRENCY": str(COPIES)})
    yield made
    operated.delete(made)


# A copy


class Crowd:
    """Requests sent all at once, a connection each; none is answered when the last is sent: those
    that copies serve wait at a gate.
    """

    def __init__(self, url: str, bodies: list[dict]) -> None:
        where = urlsplit(url)
        self._held = [http.client.HTTPConnection(where.netloc, timeout=60) for _ in bodies]
        for held in self._held:
            held.connect()
        for held, body in zip(self._held, bodies, strict=True):
            kind = {"content-type": "application/json"}
            held.request("POST", f"{where.path}/predict", json.dumps(body), kind)
        answered, _, _ = select.select([held.sock for held in self._held], [], [], 0)
        assert answered == []

    def outcomes(self) -> list[int]:
        """The status of each, in their order; 200 only for an answer to that very request."""
        statuses = []
        for number, held in enumerate(self._held):
            answer = held.getresponse()
            told = json.loads(answer.read())
            statuses.append(answer.status)
            assert answer.status != 200 or told["echo"] == number
            held.close()
        return statuses


def test_a_copy_that_dies_fails_the_one_request_it_served(
    operated: OperatedServer, deployment: str, gate: Gate
) -> None:
    chance = random.Random(1)
    for round_ in range(2 * ROUNDS):
        wait_for("all copies", lambda: are_all_there(operated, deployment))
        # Those at the front are served when it happens, those behind them wait in the queue.
        victim = chance.randrange(IN_FLIGHT)
        act = ("be killed", "crash", "leave")[round_ % 3]
        held = {"gate": gate.port, "sleep": HOLD_S}
        bodies = [{"echo": number, **held} for number in range(IN_FLIGHT)]
        bodies[victim]["act"] = act
        gate.shut()
        crowd = Crowd(f"{operated.url}/{deployment}", bodies)
        gate.open()
        statuses = crowd.outcomes()
        assert statuses[victim] == 500, f"round {round_}, {act}"
        assert Counter(statuses) == {200: IN_FLIGHT - 1, 500: 1}, f"round {round_}, {act}"


def test_a_copy_that_is_killed_fails_the_one_request_it_served(
    operated: OperatedServer, deployment: str, gate: Gate
) -> None:
    chance = random.Random(2)
    url = f"{operated.url}/{deployment}"
    for round_ in range(2 * ROUNDS):
        wait_for("all copies", lambda: are_all_there(operated, deployment))
        victim = chance.choice(operated.copies(deployment))
        gate.shut()
        served = Crowd(url, [{"echo": n, "gate": gate.port} for n in range(COPIES)])
        wait_for("all busy", lambda: gate.waiting == COPIES)
        waiting = Crowd(url, [{"echo": n, "sleep": HOLD_S} for n in range(IN_FLIGHT - COPIES)])
        # All are busy until the gate opens: whichever it is, it serves exactly one.
        victim.kill()
        wait_for("its end", lambda victim=victim: not is_alive(victim))
        gate.open()
        statuses = Counter(served.outcomes() + waiting.outcomes())
        assert statuses == {200: IN_FLIGHT - 1, 500: 1}, f"round {round_}"


def are_all_there(operated: OperatedServer, deployment: str) -> bool:
    """Whether there are as many copies as there should be: none has died that still counts."""
    living = [copy for copy in operated.copies(deployment) if is_alive(copy)]
    return operated.keeper_of(deployment).ready == len(living) == COPIES


# The processes of a home


def test_the_control_plane_is_killed(operated: OperatedServer, deployment: str) -> None:
    before = operated.pids()
    with Load(f"{operated.url}/{deployment}") as load:
        load.wait_for_more()
        copies = {copy.pid for copy in operated.copies(deployment)}
        kill(operated, CONTROL_PLANE)
        wait_for("the API", operated.is_healthy)
        load.wait_for_more()
        after = operated.pids()
        assert {copy.pid for copy in operated.copies(deployment)} == copies
        assert operated.state(deployment) == "ACTIVE"
        # Whoever took over has the route in hand: a change goes through, on the same instance.
        [instance] = operated.instances(deployment)
        model = model_of(operated, deployment)
        operated.update(
            deployment, model, bandwidth_mbps=20, variables={"WEB_CONCURRENCY": str(COPIES)}
        )
        assert operated.instances(deployment) == [instance]
        load.wait_for_more()
    assert load.failures == []
    assert {name for name in before if before[name] != after.get(name)} == {CONTROL_PLANE}


def test_the_telemetry_process_is_killed(operated: OperatedServer, deployment: str) -> None:
    """And every request is in the access log, once, with who answered it."""
    began_ms = time.time_ns() // 1_000_000
    before = operated.pids()
    store = LogReader(operated.home)

    def found(what: str) -> list[tuple[Any, ...]]:
        return store.query(
            f"SELECT {what} FROM entries",
            category=Category.ACCESS,
            deployments=[deployment],
            time_from_ms=began_ms,
            time_to_ms=2**53,
        ).rows

    with Load(f"{operated.url}/{deployment}") as load:
        for _ in range(2):
            load.wait_for_more()
            kill(operated, TELEMETRY)
            wait_for("another", lambda: operated.processes()[TELEMETRY].phase is Phase.RUNNING)
        load.wait_for_more()
        wait_for("answers of all copies", lambda: found("count(DISTINCT copy)") == [(COPIES,)])
    assert load.failures == []
    after = operated.pids()
    assert {name for name in before if before[name] != after.get(name)} == {TELEMETRY}
    sent = len(load.outcomes)
    wait_for("all entries", lambda: found("count(*), count(DISTINCT id)") == [(sent, sent)])
    [instance] = operated.instances(deployment)
    spec = json.loads((operated.home.instances / instance / "spec.json").read_text())
    revision = spec["revision"]
    assert set(found("status, instance, revision")) == {(200, instance, revision)}
    [(copies, shortest, longest)] = found("count(DISTINCT copy), min(model_ms), max(model_ms)")
    assert copies == COPIES
    assert 0 < shortest <= longest < 10_000
    closed = operated.home.telemetry / "access"
    wait_for("segments", lambda: list((closed / deployment).glob("*.parquet")) != [])
    assert found("count(*), count(DISTINCT id)") == [(sent, sent)]
    store.close()


def test_a_keeper_is_killed(operated: OperatedServer, deployment: str) -> None:
    [instance] = operated.instances(deployment)
    with Load(f"{operated.url}/{deployment}") as load:
        load.wait_for_more()
        orphans = operated.copies(deployment)
        kill(operated, f"i-{instance}")
        wait_for("a replacement", lambda: operated.instances(deployment) not in ([instance], []))
        wait_for("the end of the orphans", lambda: not any(map(psutil.Process.is_running, orphans)))
        wait_for("one instance", lambda: len(operated.instances(deployment)) == 1)
        load.wait_for_more()
        assert operated.keeper_of(deployment).ready == COPIES
        assert operated.state(deployment) == "ACTIVE"
    assert load.failures == []


def test_a_keeper_that_stands_still_fails_no_request_and_is_replaced(
    operated: OperatedServer, deployment: str
) -> None:
    [instance] = operated.instances(deployment)
    with Load(f"{operated.url}/{deployment}", keep_alive=2, short_lived=4) as load:
        load.wait_for_more()
        stopped = psutil.Process(operated.pids()[f"i-{instance}"])
        began = time.monotonic()
        stopped.suspend()
        wait_for("its end", lambda: not is_alive(stopped))
        # Of one that only waits for the machine it would be sixty.
        within_s = min(NOTICED_WITHIN_S * slowness() + STANDSTILL_S, 55)
        assert time.monotonic() - began < within_s
        load.wait_for_more()  # the copies accept for themselves
        wait_for("a replacement", lambda: operated.instances(deployment) not in ([instance], []))
        wait_for("one instance", lambda: len(operated.instances(deployment)) == 1)
        load.wait_for_more()
        assert operated.keeper_of(deployment).ready == COPIES
        assert operated.state(deployment) == "ACTIVE"
    assert load.failures == []


def test_one_of_two_instances_is_lost(operated: OperatedServer, gate: Gate) -> None:
    """Its keeper and all its copies: only what was in it is lost, and it is replaced."""
    gate.open()
    deployment = operated.deploy(instances=2, variables={"GATE": gate.port})
    lost, left = operated.instances(deployment)
    pids = operated.pids()
    others = psutil.Process(pids[f"i-{left}"]).children()
    keeper = psutil.Process(pids[f"i-{lost}"])
    told: set[int] = set()

    def is_repaired() -> bool:
        shown = operated.client.deployment(deployment)
        told.add(shown["modelDeploymentSystemData"]["currentInstanceCount"])
        assert shown["lifecycleState"] == "ACTIVE"
        return len(operated.instances(deployment)) == 2 and lost not in operated.instances(
            deployment
        )

    with Load(f"{operated.url}/{deployment}") as load:
        load.wait_for_more()
        gate.shut()
        for process in (keeper, *keeper.children()):
            process.kill()
        # The next one loads until the gate opens.
        wait_for("one to be lost", lambda: is_repaired() or 1 in told)
        gate.open()
        wait_for("another instance", is_repaired)
        wait_for("both", lambda: is_repaired() and max(told) == 2)
        load.wait_for_more()
    assert told == {1, 2}
    assert all(copy.is_running() for copy in others)
    # At most what was in it: each of the load's clients sends one request at a time.
    assert len(load.failures) <= 20
    assert {failure.what for failure in load.failures} <= {"500 InternalServerError"}
    operated.delete(deployment)


def test_envoy_is_killed(
    operated: OperatedServer, deployment: str, record_property: Callable[[str, object], None]
) -> None:
    before = operated.pids()
    outages = []
    with Load(f"{operated.url}/{deployment}") as load:
        for _ in range(3):  # more of them are taken for a crash loop, and wait
            load.wait_for_more()
            killed, known = time.monotonic(), len(load.failures)
            kill(operated, BALANCER)
            load.wait_for_more()
            ends = [failure.ended for failure in load.failures[known:]]
            outages.append(round(max(ends, default=killed) - killed, 2))
    after = operated.pids()
    failures = load.failures
    record_property("failed_requests", len(failures))
    record_property("outages_s", outages)
    # The machine of the tests has other work, too: one of them was left in peace.
    slow = slowness()
    assert min(outages) < ENVOY_BACK_WITHIN_S * slow, outages
    assert max(outages) < ENVOY_BACK_WITHIN_S * slow + STANDSTILL_S, outages
    assert failures != []
    # Cut in flight, or not let in: nothing was answered wrongly.
    assert {failure.what for failure in failures} <= {
        "ConnectionRefusedError",
        "ConnectionResetError",
        "RemoteDisconnected",
        "BrokenPipeError",
        "IncompleteRead",
    }
    assert {name for name in before if before[name] != after.get(name)} == {BALANCER}


def test_the_supervisor_is_killed(operated: OperatedServer, deployment: str) -> None:
    before = operated.pids()
    with Load(f"{operated.url}/{deployment}") as load:
        load.wait_for_more()
        copies = {copy.pid for copy in operated.copies(deployment)}
        kill_supervisor(operated)
        assert operated.server.havre("status", check=False).returncode == 3
        load.wait_for_more()
        operated.server.up()
        load.wait_for_more()
        assert operated.pids() == before
        assert {copy.pid for copy in operated.copies(deployment)} == copies
        assert operated.state(deployment) == "ACTIVE"
        # What the dead one's successor is asked to do, it does.
        operated.delete(operated.deploy())
    assert load.failures == []


def test_everything_is_killed_at_once(operated: OperatedServer, deployment: str) -> None:
    url = operated.client.deployment(deployment)["modelDeploymentUrl"]
    kill_everything(operated)
    operated.up_again()
    assert operated.client.deployment(deployment)["modelDeploymentUrl"] == url
    # Its state is what is wanted; that it is true again takes the start of an instance.
    wait_for("an answer", lambda: operated.answers(deployment))
    with Load(url) as load:
        load.wait_for_more()
    assert load.failures == []
    wait_for("ACTIVE", lambda: operated.state(deployment) == "ACTIVE")
    wait_for("one instance", lambda: len(operated.instances(deployment)) == 1)
    assert operated.keeper_of(deployment).ready == COPIES


# While changes are under way


def test_the_control_plane_is_killed_again_and_again_while_changes_run(
    operated: OperatedServer, deployment: str
) -> None:
    chance = random.Random(3)
    models = [operated.save(), operated.save(TROUBLED + "\n# another\n")]
    script = Script(operated, chance, models)
    with Load(f"{operated.url}/{deployment}", keep_alive=4, short_lived=2) as load, script:
        for round_ in range(ROUNDS):
            wait_for("the API", operated.is_healthy)
            wait_for("a change", lambda round_=round_: len(script.work_requests) > round_)
            time.sleep(chance.uniform(0.0, 0.6))  # any moment will do
            if round_ % 4 == 3:  # a new supervisor does not make it wait for dying so often
                kill_supervisor(operated)
                operated.server.up()
            kill(operated, CONTROL_PLANE)
        wait_for("the API", operated.is_healthy)
    for work_request in script.work_requests:
        assert operated.end_of(work_request)["status"] in {"SUCCEEDED", "FAILED", "CANCELED"}
    assert load.failures == []
    assert len(script.work_requests) >= ROUNDS
    # Those as well whose acceptance nobody was told of.
    wait_for("the end of all", lambda: unfinished(operated) == [])
    wanted = {row["id"]: row for row in operated.client.deployments()}
    assert {row["lifecycleState"] for row in wanted.values()} == {"ACTIVE"}
    for made, row in wanted.items():
        assert operated.answers(made), row
    for made in set(wanted) - {deployment}:
        operated.delete(made)
    assert_only_this_is_there(operated, deployment)


class Script:
    """Creates, changes and deletes deployments from a thread, as patient as the SDK.

    ``work_requests`` are those that the server has accepted.
    """

    def __init__(self, server: OperatedServer, chance: random.Random, models: list[str]) -> None:
        self.work_requests: list[str] = []
        self._server = server
        self._chance = chance
        self._models = models
        self._made: list[str] = []
        self._ending = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._step()
                self._ending.wait(self._chance.uniform(0.0, 0.2))
        except BaseException as fault:
            self._fault = fault

    def _step(self) -> None:
        model = self._chance.choice(self._models)
        variables = {"MARK": str(self._chance.random())}
        with contextlib.suppress(httpx.TransportError, ApiError):
            if len(self._made) < 2:
                made, accepted = self._server.create(model, variables=variables)
                self._made.append(made)
            elif self._chance.random() < 0.6:
                told = configuration(model, variables=variables)
                accepted = self._server.client.update_deployment(
                    self._chance.choice(self._made), told
                )
            else:
                gone = self._made[0]
                accepted = self._server.client.delete_deployment(gone)
                self._made.remove(gone)
            self.work_requests.append(accepted)


def assert_only_this_is_there(operated: OperatedServer, deployment: str) -> None:
    """No instance, route, socket or process but this deployment's one."""
    wait_for("one instance", lambda: len(list(operated.home.instances.iterdir())) == 1)
    [instance] = operated.instances(deployment)
    names = {BALANCER, CONTROL_PLANE, TELEMETRY, f"i-{instance}"}
    wait_for("no other process", lambda: set(operated.processes()) == names)
    sockets = {f"{instance}.sock", f"{instance}.ctl"}
    wait_for(
        "no other socket",
        lambda: {path.name for path in operated.home.instance_sockets.iterdir()} == sockets,
    )

    def routes() -> list[str]:
        table = json.loads((operated.home.balancer / "routes.json").read_text())
        return [*(route["deployment_id"] for route in table["routes"]), *table["retiring"]]

    wait_for("no other route", lambda: routes() == [deployment])
    wait_for("one cluster", lambda: len(operated.balancer.active_requests()) <= 2)


def model_of(operated: OperatedServer, deployment: str) -> str:
    details = operated.client.deployment(deployment)["modelDeploymentConfigurationDetails"]
    model_id: str = details["modelConfigurationDetails"]["modelId"]
    return model_id
