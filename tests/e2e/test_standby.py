"""Two homes on one PostgreSQL: one reconciles, the other stands by; and the database's bad days."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.e2e.load import Load
from tests.e2e.operated_server import TROUBLED, OperatedServer, configuration, wait_for
from tests.support.gate import Gate
from tests.support.gate import gate as gate
from tests.support.postgresql_server import PostgresServer
from tests.support.slowness import STANDSTILL_S

from havre.client import API, ApiError
from havre.operate import bringup, diagnosis
from havre.store import names
from havre.store.postgresql import CONNECT_LIMIT_S, STATEMENT_LIMIT_S
from havre.supervisor.protocol import CONTROL_PLANE

ROLES = ["holder", "standby"]
REFUSED_WITHIN_S = 2 * (STATEMENT_LIMIT_S + CONNECT_LIMIT_S) + STANDSTILL_S
"""Sooner than a client has had enough of waiting."""


@dataclass(frozen=True)
class Pair:
    """Two servers, each in a home of its own, and the database and the artifacts they share."""

    database: PostgresServer
    servers: tuple[OperatedServer, OperatedServer]

    def holder(self) -> OperatedServer:
        return self._in_role("holder")

    def standby(self) -> OperatedServer:
        return self._in_role("standby")

    def _in_role(self, role: str) -> OperatedServer:
        def in_roles() -> dict[str, OperatedServer] | None:
            found = {str(role_of(each)): each for each in self.servers}
            return found if sorted(found) == ROLES else None

        server: OperatedServer = wait_for("the roles", in_roles)[role]
        return server

    def token(self) -> int:
        return int(self.database.ask("SELECT token FROM lease")[0][0])


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    database = PostgresServer()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hv") as artifacts:
        settings = {"HAVRE_DATABASE_URL": database.url, "HAVRE_ARTIFACT_STORE": artifacts}
        servers = OperatedServer(**settings), OperatedServer(**settings)
        try:
            database.start()
            for server in servers:
                server.start()
            yield Pair(database, servers)
        finally:
            for server in servers:
                server.server.down()
            database.remove()


def role_of(server: OperatedServer) -> str | None:
    return (bringup.health(server.url) or {}).get("role")


def answers(server: OperatedServer, deployment: str) -> int:
    """The status of a prediction asked of this server."""
    answer = httpx.post(
        f"{server.url}/{deployment}/predict", json={"echo": 1}, timeout=10, trust_env=False
    )
    if answer.status_code != 200:
        assert set(answer.json()) == {"code", "message"}
    return answer.status_code


def wish(
    server: OperatedServer, model: str, mark: str, *, gate: Gate | None = None
) -> tuple[str, str]:
    return server.create(model, variables=variables_of(mark, gate))


def change(
    server: OperatedServer, deployment: str, model: str, mark: str, *, gate: Gate | None = None
) -> str:
    """The work request of an update."""
    variables = variables_of(mark, gate)
    return server.client.update_deployment(deployment, configuration(model, variables=variables))


def variables_of(mark: str, gate: Gate | None) -> dict[str, str]:
    """With a gate, instances load until it is open."""
    return {"MARK": mark, **({"GATE": gate.port} if gate else {})}


def status_of(server: OperatedServer, work_request: str) -> str:
    return str(server.client._json("GET", f"/workRequests/{work_request}")["status"])


def cancel(server: OperatedServer, work_request: str) -> None:
    server.client._check(server.client._http.delete(f"{API}/workRequests/{work_request}"))


def succeeds(server: OperatedServer, work_request: str) -> None:
    ended = server.end_of(work_request)
    assert ended["status"] == "SUCCEEDED", (ended, server.server.tell_logs())


def test_what_is_wished_for_at_the_standby_is_carried_out_by_the_holder(
    pair: Pair, gate: Gate
) -> None:
    holder, standby = pair.holder(), pair.standby()
    assert holder.server.profile["project"] == standby.server.profile["project"]
    told = standby.server.status()
    assert (told["role"], told["holder"]) == ("standby", holder.url)
    assert holder.server.status()["role"] == "holder"
    model = standby.save()
    deployment, work_request = wish(standby, model, "first")
    asked = time.monotonic()
    wait_for("somebody", lambda: status_of(standby, work_request) != "ACCEPTED")
    print(f"a wish at the standby was taken up after {time.monotonic() - asked:.2f} s")
    succeeds(standby, work_request)
    for each in (holder, standby):
        told = each.client.deployment(deployment)
        assert told["modelDeploymentUrl"] == f"{holder.url}/{deployment}"
    assert answers(holder, deployment) == 200
    assert answers(standby, deployment) == 404
    # A change is called off from the standby, too.
    work_request = change(standby, deployment, model, "never", gate=gate)
    wait_for("the start", lambda: gate.waiting)
    cancel(standby, work_request)
    assert standby.end_of(work_request)["status"] == "CANCELED"
    assert len(standby.instances(deployment)) == 0
    standby.delete(deployment)


@contextmanager
def down(database: PostgresServer, end: Callable[[], Any]) -> Iterator[None]:
    end()
    try:
        yield
    finally:
        database.start()


FAULTS: dict[str, Callable[[PostgresServer], AbstractContextManager[None]]] = {
    "stopped": lambda database: down(database, database.stop),
    "killed": lambda database: down(database, database.kill),
    "frozen": PostgresServer.frozen,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_database_that_is_away_loses_no_prediction_and_no_change(
    pair: Pair, fault: str, gate: Gate
) -> None:
    holder, token = pair.holder(), pair.token()
    model = holder.save()
    deployment, work_request = wish(holder, model, "old")
    succeeds(holder, work_request)
    with Load(f"{holder.url}/{deployment}", keep_alive=4, short_lived=1) as load:
        load.wait_for_more(mark="old")
        work_request = change(holder, deployment, model, "new", gate=gate)
        wait_for("the start", lambda: gate.waiting)
        with FAULTS[fault](pair.database):
            asked = [
                lambda: holder.state(deployment),
                lambda: holder.client.create_model("refused"),
                lambda: holder.client.delete_deployment(deployment),
                lambda: cancel(holder, work_request),
                lambda: holder.save(),
            ]
            for ask in asked[:2] if fault == "frozen" else asked:
                began = time.monotonic()
                with pytest.raises(ApiError) as refused:
                    ask()
                assert time.monotonic() - began < REFUSED_WITHIN_S
                assert (refused.value.status, refused.value.code) == (503, "ServiceUnavailable")
                assert "the database" in refused.value.message
            gate.open()
            load.wait_for_more(mark="old")
        back = time.monotonic()
        wait_for("the API", holder.is_healthy)
        succeeds(holder, work_request)
        print(f"{fault}: the change was done {time.monotonic() - back:.1f} s after it was back")
        load.wait_for_more(mark="new")
        # It was frozen for longer than a term: the standby has every chance to get it wrong.
        enough = time.monotonic() + 3
        while time.monotonic() < enough:
            assert role_of(holder) != "standby"
            load.wait_for_more(mark="new")
    assert load.failures == []
    assert pair.token() == token
    holder.delete(deployment)


def test_a_database_that_is_away_is_the_reason_that_every_command_gives(pair: Pair) -> None:
    """And predictions go on for who asks by name, whether the control plane is up or not."""
    holder = pair.holder()
    deployment, work_request = wish(holder, holder.save(), "kept")
    succeeds(holder, work_request)
    home, havre = holder.home, holder.server.havre
    wait_for("its name", lambda: names.read(home).get(deployment) == "failing")
    for is_killed in (False, True):
        with down(pair.database, pair.database.stop):
            if is_killed:
                os.kill(holder.pids()[CONTROL_PLANE], signal.SIGKILL)
                wait_for("its word", lambda: "the database" in diagnosis.last_refusal(home))
            for words in (
                *(("list",), ("top", "--once"), ("logs", "failing"), ("delete", "failing")),
                *(("cancel", "failing"), ("deploy", "examples/iris"), ("up", "--detach"))[
                    : 2 if is_killed else 3
                ],
            ):
                refused = havre(*words, check=False)
                assert refused.returncode == 1, words
                assert "the database" in refused.stderr, words
                assert "havre up --detach" not in refused.stderr, words
            told = holder.server.status()
            assert told["healthy"] is False
            assert "the database" in told["reason"]
            assert "the database" in havre("status").stdout
            found = {
                row["check"]: row
                for row in json.loads(havre("doctor", "--json", check=False).stdout)
            }
            assert found["database"]["verdict"] == "missing"
            assert "the database" in found["database"]["found"]
            assert "the database" in found["server"]["found"]
            for name in ("failing", deployment):
                assert json.loads(havre("predict", name, '{"echo": 1}').stdout)["echo"] == 1
            unknown = havre("predict", "unknown", "{}", check=False)
            assert "the database" in unknown.stderr
            assert "OCID" in unknown.stderr
        wait_for("the API", holder.is_healthy)
    holder.delete(deployment)
    wait_for("its name to go", lambda: deployment not in names.read(home))


def test_a_standby_says_what_it_cannot_know(pair: Pair) -> None:
    holder, standby = pair.holder(), pair.standby()
    deployment, work_request = wish(standby, standby.save(), "there")
    succeeds(standby, work_request)
    havre = standby.server.havre
    answered = havre("predict", "failing", '{"echo": 2}')
    assert json.loads(answered.stdout)["echo"] == 2
    assert holder.url in answered.stderr
    for words in (("logs", "failing"), ("top", "--once"), ("captured", "failing")):
        told = havre(*words)
        assert "is a standby" in told.stderr
        assert holder.url in told.stderr
        assert "standby" not in holder.server.havre(*words).stderr
    assert holder.url in havre("list").stdout
    assert f"deployments are served by {holder.url}" in havre("status").stdout
    assert f"deployments are served by {holder.url}" in havre("doctor", check=False).stdout
    standby.delete(deployment)


def test_connections_that_are_cut_again_and_again_lose_nothing(pair: Pair, gate: Gate) -> None:
    holder = pair.holder()
    model = holder.save()
    deployment, work_request = wish(holder, model, "old")
    succeeds(holder, work_request)
    cut = 0
    with Load(f"{holder.url}/{deployment}", keep_alive=4, short_lived=1) as load:
        load.wait_for_more()
        for number in range(2):
            gate.shut()
            work_request = change(holder, deployment, model, f"number {number}", gate=gate)
            for is_open in (False, True):
                if is_open:
                    gate.open()
                # Whoever has lost his connection may take his time to make another.
                enough = cut + 5
                for times in range(200):
                    if times >= 5 and cut >= enough:
                        break
                    cut += pair.database.cut_connections()
                    load.wait_for_more(5)
            wait_for("the API", holder.is_healthy)
            succeeds(holder, work_request)
        load.wait_for_more(mark="number 1")
    assert cut > 10
    assert load.failures == []
    holder.delete(deployment)


def test_a_control_plane_that_is_killed_takes_its_lease_back_at_once(pair: Pair) -> None:
    holder, standby, token = pair.holder(), pair.standby(), pair.token()
    deployment, work_request = wish(holder, holder.save(), "kept")
    succeeds(holder, work_request)
    instances = holder.instances(deployment)
    # The other does not look meanwhile: on a busy machine a start may take a whole term.
    other = psutil.Process(standby.pids()[CONTROL_PLANE])
    other.suspend()
    try:
        with Load(f"{holder.url}/{deployment}", keep_alive=4, short_lived=1) as load:
            load.wait_for_more()
            os.kill(holder.pids()[CONTROL_PLANE], signal.SIGKILL)
            killed = time.monotonic()
            wait_for("the holder", lambda: pair.token() > token and role_of(holder) == "holder")
            print(f"the lease was taken back {time.monotonic() - killed:.1f} s after the kill")
            load.wait_for_more()
    finally:
        other.resume()
    assert load.failures == []
    assert pair.holder() is holder
    assert pair.token() == token + 1
    assert holder.instances(deployment) == instances
    holder.delete(deployment)


def test_a_holder_that_slept_too_long_changes_nothing_when_it_wakes_up(
    pair: Pair, gate: Gate
) -> None:
    first, second = pair.holder(), pair.standby()
    model = first.save()
    served, work_request = wish(first, model, "served")
    succeeds(first, work_request)
    begun, work_request = wish(first, model, "begun", gate=gate)
    wait_for("the start", lambda: gate.waiting)
    sleeper = psutil.Process(first.pids()[CONTROL_PLANE])
    with Load(f"{first.url}/{served}", keep_alive=2, short_lived=1) as load:
        sleeper.suspend()
        gate.open()
        slept = time.monotonic()
        try:
            wait_for("the second", lambda: role_of(second) == "holder")
            print(f"taken over {time.monotonic() - slept:.1f} s after the holder fell asleep")
            succeeds(second, work_request)
            wait_for("both", lambda: answers(second, served) == answers(second, begun) == 200)
            load.wait_for_more(20)  # whoever is not told goes on asking the first
            for each in (served, begun):
                wait_for("all of it", lambda each=each: is_whole(pair, second, each))
            before = record(pair)
        finally:
            sleeper.resume()
        # It was about to route to the instance that became ready in its sleep, and to tell so.
        wait_for("the first to know", lambda: role_of(first) == "standby")
        wait_for("it to clear away", lambda: not first.instances(served) + first.instances(begun))
    assert {failure.what for failure in load.failures} <= {"404 NotAuthorizedOrNotFound"}
    assert record(pair) == before
    assert answers(first, begun) == 404
    assert answers(second, begun) == answers(second, served) == 200
    assert pair.holder() is second
    for each in (served, begun):
        second.delete(each)


def is_whole(pair: Pair, holder: OperatedServer, deployment: str) -> bool:
    """Whether nothing is left to do for a deployment of one instance, nor to write about it."""
    shown = holder.client.deployment(deployment)
    rows = pair.database.ask("SELECT id, deployment_id FROM instances")
    return (
        shown["lifecycleState"] == "ACTIVE"
        and shown["modelDeploymentSystemData"]["currentInstanceCount"] == 1
        and [row for row, of in rows if of == deployment] == holder.instances(deployment)
    )


def record(pair: Pair) -> list[list[tuple[Any, ...]]]:
    """All that the reconciler writes."""
    ask = pair.database.ask
    return [
        ask("SELECT id, lifecycle_state, version, current_instances FROM deployments ORDER BY id"),
        ask("SELECT id, revision FROM instances ORDER BY id"),
        ask("SELECT deployment_id, workload FROM revisions ORDER BY id"),
        ask("SELECT id, message FROM work_request_logs ORDER BY id"),
        ask("SELECT holder, token FROM lease"),
    ]


def test_when_all_of_the_holder_is_killed_the_standby_takes_over(pair: Pair, gate: Gate) -> None:
    first, second = pair.holder(), pair.standby()
    model = first.save()
    deployment, work_request = wish(first, model, "old")
    succeeds(first, work_request)
    work_request = change(first, deployment, model, "new", gate=gate)
    wait_for("the start", lambda: gate.waiting)
    killed = time.monotonic()
    kill_all(first)
    gate.open()
    wait_for("the standby", lambda: role_of(second) == "holder")
    taken_s = time.monotonic() - killed
    wait_for("an answer", lambda: answers(second, deployment) == 200)
    served_s = time.monotonic() - killed
    print(f"taken over {taken_s:.1f} s after the death, serving after {served_s:.1f} s")
    succeeds(second, work_request)
    with Load(f"{second.url}/{deployment}", keep_alive=4, short_lived=1) as load:
        load.wait_for_more(mark="new")
        first.up_again()
        wait_for("the first", lambda: role_of(first) == "standby")
        wait_for("its routes to go", lambda: answers(first, deployment) == 404)
        wait_for("its instances to go", lambda: not first.instances(deployment))
        load.wait_for_more(mark="new")
    assert load.failures == []
    assert first.client.deployment(deployment)["modelDeploymentUrl"].startswith(second.url)
    first.delete(deployment)
    wait_for("nothing to be left", lambda: not second.instances(deployment))


def kill_all(server: OperatedServer) -> None:
    """`kill -9` of everything that runs in the home, as a machine dies."""
    family = [psutil.Process(server.server.status()["supervisor_pid"])]
    family += [psutil.Process(pid) for pid in server.pids().values() if pid]
    family += [child for each in family for child in each.children(recursive=True)]
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(set(family), timeout=10)


def test_bytes_that_are_not_here_are_the_reason_that_is_told(pair: Pair) -> None:
    holder = pair.holder()
    model = holder.save(TROUBLED.replace("time.sleep(3600)", "pass"))
    [(digest,)] = pair.database.ask("SELECT digest FROM artifacts ORDER BY id DESC LIMIT 1")
    [file] = Path(holder.server._environment["HAVRE_ARTIFACT_STORE"]).rglob(digest)
    file.unlink()
    deployment, work_request = wish(holder, model, "lost")
    ended = holder.end_of(work_request)
    assert ended["status"] == "FAILED"
    assert "artifact_store" in ended["reason"]
    holder.delete(deployment)
