"""Another version takes over a home whose models serve: what it costs in requests, what stays."""

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.havre_server import HAVRE
from tests.e2e.load import Load
from tests.e2e.operated_server import TROUBLED, OperatedServer, wait_for
from tests.e2e.other_version import OtherVersion

import havre
from havre.home import Home
from havre.supervisor import records
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE, TELEMETRY

OLD = "0.0.9"
COPIES = 2
KEEP_ALIVE, SHORT_LIVED = 8, 4
"""Fewer clients than an instance of so few copies admits, however slow the machine is."""
KEPT = {"WEB_CONCURRENCY": str(COPIES)}


class Upgraded:
    """A home that the other version started, with a deployment of its making."""

    def __init__(self, other: OtherVersion) -> None:
        self.other = other
        self.server = OperatedServer()
        self.server.server.code = other.folder
        self.deployment = ""

    def start(self) -> None:
        self.server.start()
        self.deployment = self.server.deploy(variables={**KEPT, "MARK": "old"})

    @property
    def url(self) -> str:
        return f"{self.server.url}/{self.deployment}"

    def up(self, *, code: Path | None = None, check: bool = True) -> subprocess.CompletedProcess:
        """`havre up` of this version, or of the one whose code is there."""
        self.server.server.code = code
        return self.server.server.havre("up", "--detach", check=check)

    def assert_serves_as_before(self) -> None:
        row = self.server.client.deployment(self.deployment)
        assert row["lifecycleState"] == "ACTIVE"
        assert row["modelDeploymentUrl"] == self.url
        wait_for("all copies", lambda: self.server.keeper_of(self.deployment).ready == COPIES)

    def copies(self) -> set[int]:
        return {copy.pid for copy in self.server.copies(self.deployment)}


@pytest.fixture
def other(tmp_path: Path) -> OtherVersion:
    return OtherVersion(tmp_path, OLD)


@pytest.fixture
def upgraded(other: OtherVersion) -> Iterator[Upgraded]:
    """Not started yet: the test may change the other version first."""
    upgraded = Upgraded(other)
    yield upgraded
    upgraded.server.server.code = None
    upgraded.server.server.down()


def test_an_upgrade_loses_no_prediction_and_restarts_no_copy(upgraded: Upgraded) -> None:
    upgraded.start()
    server, deployment = upgraded.server, upgraded.deployment
    status, before, copies = server.server.status(), server.pids(), upgraded.copies()
    assert (status["version"], status["behind"]) == (OLD, [])
    with Load(upgraded.url, keep_alive=KEEP_ALIVE, short_lived=SHORT_LIVED) as load:
        load.wait_for_more()
        done = upgraded.up()
        assert f"upgrading {OLD} → {havre.__version__}" in done.stderr
        load.wait_for_more()
        after = server.server.status()
        assert (after["version"], after["healthy"]) == (havre.__version__, True)
        assert after["supervisor_pid"] == status["supervisor_pid"]
        assert changed(before, server.pids()) == {CONTROL_PLANE, TELEMETRY}
        assert upgraded.copies() == copies
        upgraded.assert_serves_as_before()
        [balancer] = after["behind"]
        assert "load balancer" in balancer
        examined = json.loads(server.server.havre("doctor", "--json", check=False).stdout)
        [version] = [row for row in examined if row["check"] == "version"]
        assert (version["verdict"], "havre down" in version["remedy"]) == ("warn", True)
        # It has the home in hand: a change goes through, and the new instance is of its own code.
        server.update(deployment, server.save(TROUBLED), variables={**KEPT, "MARK": "new"})
        load.wait_for_more(mark="new")
        wait_for("one instance", lambda: len(server.pids()) == len(before))
        # And back: the same tables, the same protocol.
        pids = server.pids()
        done = upgraded.up(code=upgraded.other.folder)
        assert f"going back {havre.__version__} → {OLD}" in done.stderr
        load.wait_for_more()
        assert server.server.status()["version"] == OLD
        assert changed(pids, server.pids()) == {CONTROL_PLANE, TELEMETRY}
        upgraded.up()
        load.wait_for_more()
        upgraded.assert_serves_as_before()
    assert load.failures == []
    # The load balancer's next start is one of this version.
    os.kill(server.pids()[BALANCER], signal.SIGKILL)
    wait_for("the API", server.is_healthy)
    assert server.server.status()["behind"] == []


def test_keepers_of_another_protocol_are_replaced_without_a_lost_prediction(
    upgraded: Upgraded,
) -> None:
    upgraded.other.speak_another_protocol()
    upgraded.start()
    server, deployment = upgraded.server, upgraded.deployment
    [instance] = server.instances(deployment)
    with Load(upgraded.url, keep_alive=KEEP_ALIVE, short_lived=SHORT_LIVED) as load:
        load.wait_for_more()
        upgraded.up()
        wait_for(
            "a replacement alone",
            lambda: instance not in (found := server.instances(deployment)) and len(found) == 1,
        )
        load.wait_for_more()
        upgraded.assert_serves_as_before()
    assert load.failures == []
    wait_for("no other process", lambda: len(server.pids()) == 4)


def test_what_cannot_be_upgraded_serves_on(upgraded: Upgraded) -> None:
    upgraded.start()
    server = upgraded.server
    before = server.pids()
    with Load(upgraded.url, keep_alive=KEEP_ALIVE, short_lived=SHORT_LIVED) as load:
        load.wait_for_more()
        schema = set_schema(server.home, "9999")
        refused = upgraded.up(check=False)
        assert refused.returncode == 1
        assert "changed by a newer version of havre (its schema is 9999" in refused.stderr
        assert server.pids() == before
        assert json.loads(server.home.server_file.read_text())["version"] == OLD
        set_schema(server.home, schema)
        # What only shows once it runs: no model is stopped for that.
        identity = server.home.root / "identity.json"
        kept = identity.read_text()
        identity.write_text("{")
        failed = upgraded.up(check=False)
        assert failed.returncode == 1
        assert "identity.json is damaged" in failed.stderr
        assert "serves on" in failed.stderr
        load.wait_for_more()
        identity.write_text(kept)
        upgraded.up()
        upgraded.assert_serves_as_before()
        assert changed(before, server.pids()) == {CONTROL_PLANE, TELEMETRY}
    assert load.failures == []


def test_in_the_foreground_an_upgrade_stays_in_its_terminal(upgraded: Upgraded) -> None:
    """And what was stated when it was started holds, from whatever shell it is upgraded."""
    server = upgraded.server.server
    words = ("up", "--port", "0", "--log-level", "warning", "--home", str(server.home))
    with subprocess.Popen(
        [HAVRE, *words],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as terminal:
        assert terminal.stdout is not None
        assert "havre serves" in terminal.stdout.readline()
        upgraded.up()
        assert server.status()["version"] == havre.__version__
        assert server.status()["supervisor_pid"] == terminal.pid
        found, _ = records.load_all(upgraded.server.home.processes)
        [told] = [each.spec.environment for each in found if each.spec.name == CONTROL_PLANE]
        assert told["HAVRE_LOG_LEVEL"] == "warning"
        assert "PYTHONPATH" not in told
        os.killpg(terminal.pid, signal.SIGINT)
        _, stderr = terminal.communicate(timeout=120)
        assert terminal.returncode == 0
    assert stderr.index("going on as") < stderr.index("control-plane: stopped")
    assert upgraded.server.server.havre("status", check=False).returncode == 3


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in before | after if before.get(name) != after.get(name)}


def set_schema(home: Home, revision: str) -> str:
    """Write another revision into the database; returns the one that was there."""
    with closing(sqlite3.connect(home.database)) as database, database:
        [(before,)] = database.execute("SELECT version_num FROM alembic_version").fetchall()
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    return str(before)
