"""`havre up`, `down`, `status`, `doctor`, `oci-config`, as a user runs them."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import pytest
from tests.support.supervisor_harness import SupervisorHarness, runs, wait_until

from havre.operate.bringup import is_healthy


class Havre(SupervisorHarness):
    """The command, on a home of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HAVRE_")},
            "HAVRE_TEST_HOME": str(self.home.root),
        }

    def command(self, *arguments: str) -> list[str]:
        code = "from havre.cli.main import run; run()"
        return [sys.executable, "-c", code, *arguments, "--home", str(self.home.root)]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=100,
            check=False,
        )

    def open(self, *arguments: str) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        )
        self._programs.append(program)
        return program

    def up(self, *arguments: str) -> dict[str, object]:
        done = self("up", "--detach", *(arguments or ("--port", "0")))
        assert done.returncode == 0, done.stderr
        return self.look()

    def look(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self("status", "--json").stdout)
        return found


@pytest.fixture
def havre() -> Iterator[Havre]:
    havre = Havre()
    yield havre
    havre.close()


@pytest.fixture
def second() -> Iterator[Havre]:
    second = Havre()
    yield second
    second.close()


def test_up_status_down(havre: Havre) -> None:
    report = havre.up()
    assert report["running"] is True
    assert report["healthy"] is True
    assert report["deployments"] == []
    assert report["version"] == "0.1.0"
    assert is_healthy(str(report["url"]))
    for key in ("pid", "supervisor_pid", "balancer_pid", "telemetry_pid"):
        assert runs(int(str(report[key])))
    # As root, the models of other users pass through it.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    assert havre.home.root.stat().st_mode & 0o777 == mode

    again = havre("up")
    assert again.returncode == 0, again.stderr
    assert "runs already" in again.stdout
    assert havre.look() == report

    moved = havre("up", "--port", "1")
    assert moved.returncode == 1
    assert "havre down" in moved.stderr
    assert havre.look() == report

    done = havre("down")
    assert done.returncode == 0, done.stderr
    assert str(report["url"]) in done.stdout
    assert havre.leftovers() == []
    assert "nothing runs" in havre("down").stdout
    down = havre("status")
    assert (down.returncode, "not running" in down.stdout) == (3, True)


def test_what_a_home_was_begun_with_is_not_lost(havre: Havre, tmp_path: Path) -> None:
    """The database, where artifacts are, and who may call: in another shell, and while it runs."""
    other = f"sqlite:///{tmp_path}/other.sqlite3"
    report = havre.up("--port", "0", "--database-url", other)
    refused = havre("up", "--auth", "oci", "--capacity", "strict")
    assert refused.returncode == 1
    assert "auth was off and is oci now" in refused.stderr
    assert "capacity was overcommit and is strict now" in refused.stderr
    assert "havre down" in refused.stderr
    assert havre("up", "--database-url", other).returncode == 0
    assert havre.look() == report
    assert havre("down").returncode == 0
    refused = havre("up", "--port", "0", "--detach")
    assert refused.returncode == 1
    assert f"database_url was {other} and is SQLite in the home" in refused.stderr
    assert not havre.home.database.exists()
    havre.up("--port", "0", "--database-url", other, "--auth", "oci", "--change", "auth")
    assert havre("down").returncode == 0
    refused = havre("up", "--port", "0", "--detach", "--database-url", other)
    assert "auth was oci and is off now" in refused.stderr


def test_a_control_plane_that_starts_again_goes_on_with_the_same_database(
    havre: Havre, tmp_path: Path
) -> None:
    """Whatever has become of the file of settings meanwhile."""
    file = havre.home.root / "havre.toml"
    other = f"sqlite:///{tmp_path}/other.sqlite3"
    file.write_text(f'database_url = "{other}"\n')
    before = havre.up()
    file.write_text("")
    os.kill(int(str(before["pid"])), signal.SIGKILL)
    log = havre.home.logs / "control-plane.log"
    told = f"database_url was {other} and is SQLite in the home"
    wait_until(lambda: told in log.read_text(), "the refusal")
    report = havre.look()
    assert report["healthy"] is False
    assert told in str(report["reason"])
    file.write_text(f'database_url = "{other}"\n')
    wait_until(lambda: is_healthy(str(before["url"])), "health")


def test_a_home_that_never_was_is_not_running(havre: Havre) -> None:
    assert havre("status", "--json").returncode == 3
    assert havre("down").returncode == 0
    assert list(havre.home.root.iterdir()) == [], "looking makes nothing"


def test_in_the_foreground_ctrl_c_stops_everything(havre: Havre) -> None:
    program = havre.open("up", "--port", "0")
    assert program.stdout is not None
    assert "havre serves http://127.0.0.1:" in program.stdout.readline()
    report = havre.look()
    assert report["supervisor_pid"] == program.pid, "the supervisor is the program itself"
    os.killpg(program.pid, signal.SIGINT)
    assert program.wait(timeout=30) == 0
    assert havre.leftovers() == []
    assert program.stderr is not None
    told = program.stderr.read()
    assert told.index("control-plane: stopped") < told.index("load-balancer: stopped")


@pytest.mark.parametrize("mode", [("--detach",), ()], ids=["detached", "foreground"])
def test_a_taken_port_is_one_clear_line(havre: Havre, mode: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = havre("up", "--port", port, *mode)
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in done.stderr
    assert "Traceback" not in done.stderr
    wait_until(lambda: not havre.leftovers(), "everything to end")


@pytest.mark.parametrize("mode", [("--detach",), ()], ids=["detached", "foreground"])
def test_what_does_not_come_up_shows_its_log_and_leaves_nothing(
    havre: Havre, mode: tuple[str, ...]
) -> None:
    (havre.home.root / "identity.json").write_text("{")
    done = havre("up", "--port", "0", *mode)
    assert done.returncode == 1
    assert "control-plane does not stay up" in done.stderr
    assert "identity.json is damaged" in done.stderr
    wait_until(lambda: not havre.leftovers(), "everything to end")
    assert havre("status").returncode == 3


@pytest.mark.parametrize("then", ["up", "down"])
def test_after_the_supervisors_death_serving_goes_on(havre: Havre, then: str) -> None:
    before = havre.up()
    os.kill(int(str(before["supervisor_pid"])), signal.SIGKILL)
    wait_until(lambda: not runs(int(str(before["supervisor_pid"]))))
    assert is_healthy(str(before["url"]))
    down = havre.look()
    assert down["running"] is False
    assert down["left_running"] == ["control-plane", "load-balancer", "telemetry"]
    if then == "up":
        after = havre.up("--port", "0")
        same = ("pid", "balancer_pid", "telemetry_pid", "url")
        assert [after[key] for key in same] == [before[key] for key in same]
        assert after["supervisor_pid"] != before["supervisor_pid"]
        assert after["healthy"] is True
    assert havre("down").returncode == 0
    assert havre.leftovers() == []


@pytest.mark.parametrize("waiting", [0, 200])
def test_a_stopped_supervisor_is_told_apart_from_a_dead_one(havre: Havre, waiting: int) -> None:
    """``waiting``: so many have asked it since; from 129 on the kernel takes no more."""
    pid = int(str(havre.up()["supervisor_pid"]))
    os.kill(pid, signal.SIGSTOP)
    with ExitStack() as kept:
        for _ in range(waiting):
            caller = kept.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            caller.connect_ex(str(havre.home.supervisor_socket))
        programs = [havre.open(*words) for words in (("down",), ("status",), ("up", "--detach"))]
        for program in programs:
            _, told = program.communicate(timeout=60)
            assert program.returncode == 1
            assert "is stopped" in told
            assert f"kill -CONT {pid}" in told
    os.kill(pid, signal.SIGCONT)
    assert havre("down").returncode == 0


def test_the_api_does_not_hang_up_on_the_balancer(havre: Havre) -> None:
    """It would close a connection just as a balancer that had no processor for it uses it again."""
    havre.up()
    with socket.socket(socket.AF_UNIX) as balancer:
        balancer.connect(str(havre.home.api_socket))
        balancer.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = HTTPResponse(balancer)
        answer.begin()
        assert answer.status == 200
        assert answer.read()
        balancer.settimeout(6.0)  # more than the 5 s for which uvicorn keeps one by itself
        with pytest.raises(TimeoutError):
            balancer.recv(1)


@pytest.mark.parametrize("victim", ["pid", "balancer_pid", "telemetry_pid"])
def test_what_is_killed_comes_back(havre: Havre, victim: str) -> None:
    before = havre.up()
    os.kill(int(str(before[victim])), signal.SIGKILL)
    wait_until(lambda: not runs(int(str(before[victim]))))
    wait_until(lambda: is_healthy(str(before["url"])), "health")
    wait_until(lambda: havre.look()[victim] not in (0, before[victim]), "another process")
    after = havre.look()
    assert after["url"] == before["url"]


def test_two_homes_side_by_side(havre: Havre, second: Havre) -> None:
    first, other = havre.up(), second.up()
    assert first["url"] != other["url"]
    assert havre("down").returncode == 0
    assert is_healthy(str(other["url"]))
    assert second.look() == other


def test_a_server_that_all_may_use_is_not_shown_to_others(havre: Havre) -> None:
    done = havre("up", "--detach", "--host", "0.0.0.0")
    assert done.returncode == 1
    assert "auth is off" in done.stderr


def test_doctor_looks_and_changes_nothing(havre: Havre) -> None:
    done = havre("doctor", "--json")
    findings = {row["check"]: row for row in json.loads(done.stdout)}
    for check in ("Python for models", "uv", "Envoy"):
        assert findings[check]["verdict"] == "ok", findings[check]
    for row in findings.values():
        assert set(row) == {"check", "verdict", "found", "remedy"}
        assert row["verdict"] == "ok" or row["remedy"], row
    assert list(havre.home.root.iterdir()) == []
    assert "Envoy" in havre("doctor").stdout


def test_the_profile_drives_ocis_own_command(havre: Havre, tmp_path: Path) -> None:
    report = havre.up()
    told = json.loads(havre("oci-config", "--output", str(tmp_path / "config"), "--json").stdout)
    assert told["endpoint"] == report["url"]
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("oci")), "--config-file", told["file"]),
            *("--profile", "HAVRE", "--endpoint", told["endpoint"]),
            *("data-science", "project", "get", "--project-id", told["project"]),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["compartment-id"] == told["compartment"]
    assert done.stderr == "", "no warnings about the files"
