"""`havre up`, `down` and `status` where files of the home were lost or damaged."""

import json
import os
import signal
from pathlib import Path

import pytest
from tests.integration.test_cli_server import Havre, havre
from tests.support.supervisor_harness import (
    DEADLINE_S,
    SupervisorHarness,
    harness,
    runs,
    wait_until,
)

from havre.domain.errors import SystemFault
from havre.operate import presence
from havre.operate.bringup import is_healthy
from havre.supervisor.identity import identify

__all__ = ["harness", "havre"]

FROM_ANOTHER_VERSION = (
    "import havre.supervisor.reachability as r; r.Reachability.look = lambda *_: None"
)
"""A supervisor that does not look after its socket."""


def test_a_server_whose_sockets_were_removed_is_used_and_stopped_as_before(havre: Havre) -> None:
    before = havre.up()
    wait_until(lambda: len(list((havre.home.run / "kept").iterdir())) == 3, "a look")
    paths = (*havre.home.run.glob("*.sock"), *havre.home.instance_sockets.iterdir())
    # The supervisor's last: who finds another finds all.
    for path in sorted(paths, key=lambda path: path == havre.home.supervisor_socket):
        path.unlink()
    assert havre.look() == before, "the command waits until there is a socket again"
    wait_until(lambda: is_healthy(str(before["url"])), "health")
    assert "runs already" in havre("up", "--detach").stdout
    done = havre("down")
    assert (done.returncode, done.stderr) == (0, "")
    assert havre.leftovers() == []


def test_an_emptied_database_is_no_new_server(havre: Havre) -> None:
    havre.up()
    assert havre("down").returncode == 0
    identity = (havre.home.root / "identity.json").read_bytes()
    havre.home.database.write_bytes(b"")
    for mode in (("--detach",), ()):
        done = havre("up", "--port", "0", *mode)
        assert done.returncode == 1
        assert "havre.sqlite3 is empty" in done.stderr
        assert "--new-database" in done.stderr
        assert "Traceback" not in done.stderr
    assert havre.leftovers() == []
    report = havre.up("--port", "0", "--new-database")
    assert report["healthy"] is True
    assert (havre.home.root / "identity.json").read_bytes() == identity
    again = havre("up", "--detach", "--new-database")
    assert again.returncode == 1
    assert "havre down" in again.stderr
    # The control plane looks, too: it may be started again when nobody types a command.
    assert havre("down").returncode == 0


@pytest.mark.parametrize("damage", [b"x" * 5000, b"SQLite format 3\0" + bytes(84)])
def test_a_damaged_database_is_one_line(havre: Havre, damage: bytes) -> None:
    havre.home.make()
    havre.home.database.write_bytes(damage)
    done = havre("up", "--detach", "--port", "0")
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert str(havre.home.database) in line
    assert "backup" in line
    assert havre.leftovers() == []


def test_processes_without_records_are_taken_care_of_by_the_commands(havre: Havre) -> None:
    before = havre.up()
    os.kill(int(str(before["supervisor_pid"])), signal.SIGKILL)
    wait_until(lambda: not runs(int(str(before["supervisor_pid"]))))
    for path in havre.home.processes.iterdir():
        os.truncate(path, 20)
    assert havre.look()["left_running"] == ["control-plane", "load-balancer", "telemetry"]
    port = json.loads(havre.home.server_file.read_text())["port"]
    after = havre.up("--port", str(port))
    assert (after["healthy"], after["url"]) == (True, before["url"])
    for name in ("pid", "balancer_pid", "telemetry_pid"):
        assert not runs(int(str(before[name])))
    assert havre("down").returncode == 0
    assert havre.leftovers() == []


def without_a_socket(harness: SupervisorHarness, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(presence, "BACK_WITHIN_S", 0.2)
    supervisor = harness.launch(before=FROM_ANOTHER_VERSION)
    harness.client.start(harness.spec("i-a", "/bin/sleep", "600"))
    harness.home.supervisor_socket.unlink()
    return supervisor.pid


@pytest.mark.parametrize("kept", ["server.json", ""])
def test_a_supervisor_that_has_no_socket_any_more_can_be_ended(
    harness: SupervisorHarness, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    pid = without_a_socket(harness, monkeypatch)
    if not kept:
        harness.home.server_file.unlink()
        # The test starts it by its code: not by the name that a command line is known by.
        monkeypatch.setattr(presence.orphans, "supervisor_of", lambda _: identify(pid))
    with pytest.raises(presence.Unreachable, match=r"`havre down`") as told:
        presence.running(harness.home)
    assert told.value.supervisor.pid == pid
    harness._programs[-1].poll()
    presence.end_unreachable(harness.home, told.value.supervisor)
    assert harness._programs[-1].wait(timeout=DEADLINE_S) == 0
    assert harness.leftovers() == []
    assert presence.running(harness.home) is None


def test_one_that_is_stopped_is_told_from_one_that_ends(
    harness: SupervisorHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = without_a_socket(harness, monkeypatch)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: " T " in Path(f"/proc/{pid}/stat").read_text())
    with pytest.raises(SystemFault, match=rf"is stopped.*kill -CONT {pid}"):
        presence.running(harness.home)
