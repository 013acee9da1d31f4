"""Files of a home that are lost or damaged while, or after, its supervisor runs."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.supervisor_harness import DEADLINE_S, SupervisorHarness, runs, wait_until

from havre.durable import remove_tree
from havre.supervisor import orphans
from havre.supervisor.protocol import BALANCER, Phase, Restart

LISTENS = """
import socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    while True:
        listener.accept()[0].close()
"""
ACCEPTS = """
import socket
listener = socket.socket(fileno=3)
while True:
    listener.accept()[0].close()
"""


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


def serve(harness: SupervisorHarness) -> dict[Path, int]:
    """A process that binds its socket itself, and one that gets it bound."""
    api, copy = harness.home.api_socket, harness.home.instance_sockets / "a.sock"
    own = harness.spec(
        "control-plane", sys.executable, "-S", "-c", LISTENS, str(api), restart=Restart.ALWAYS
    )
    pids = {
        api: harness.client.start(own).pid,
        copy: harness.client.start(harness.python("i-a", ACCEPTS, listen=(str(copy),))).pid,
    }
    kept = harness.home.run / "kept"
    wait_until(lambda: all((kept / path.name).exists() for path in pids), "a look at the sockets")
    return pids


def test_sockets_that_lost_their_names_get_them_back(harness: SupervisorHarness) -> None:
    supervisor = harness.launch()
    pids = serve(harness)
    for path in (*harness.home.run.glob("*.sock"), *harness.home.instance_sockets.iterdir()):
        path.unlink()
    harness.home.server_file.unlink()
    wait_until(harness.answers, "the supervisor")
    wait_until(lambda: all(map(answers, pids)), "the others")
    wait_until(harness.home.server_file.exists, "the file with the address")
    assert harness.server()["supervisor"]["pid"] == supervisor.pid  # type: ignore[index]
    for name, pid in zip(("control-plane", "i-a"), pids.values(), strict=True):
        assert (harness.status(name).pid, harness.status(name).restarts) == (pid, 0)
    harness.client.shutdown()
    assert list(harness.home.instance_sockets.iterdir()) == []
    assert not (harness.home.run / "kept").exists()


def test_what_cannot_be_reached_any_more_begins_anew(harness: SupervisorHarness) -> None:
    harness.launch()
    pids = serve(harness)
    remove_tree(harness.home.run)
    wait_until(harness.answers, "the supervisor")
    again = wait_until(
        lambda: status if (status := harness.status("control-plane")).restarts else None
    )
    wait_until(lambda: answers(harness.home.api_socket))
    assert again.pid != pids[harness.home.api_socket]
    assert harness.wait_for("i-a", Phase.EXITED).exit_code == -signal.SIGKILL


def test_the_next_supervisor_looks_after_the_sockets_too(harness: SupervisorHarness) -> None:
    harness.launch()
    pids = serve(harness)
    harness.crash()
    for path in pids:
        path.unlink()
    harness.launch()
    wait_until(lambda: all(map(answers, pids)), "the sockets")
    assert [harness.status(name).pid for name in ("control-plane", "i-a")] == list(pids.values())


def test_a_damaged_address_is_written_anew_while_the_server_runs(
    harness: SupervisorHarness,
) -> None:
    harness.launch()
    about = harness.server()
    harness.home.server_file.write_text('{"host":')
    wait_until(lambda: harness.home.server_file.read_bytes()[-1:] == b"}")
    assert harness.server() == about


def test_without_its_address_a_load_balancer_that_serves_is_not_taken_for_a_stranger(
    harness: SupervisorHarness,
) -> None:
    harness.launch()
    harness.client.start(harness.spec(BALANCER, "/bin/sleep", "600", restart=Restart.ALWAYS))
    harness.crash()
    harness.home.server_file.write_text("{")
    again = harness.launch("--port", "0", wait=False)
    assert again.wait(timeout=DEADLINE_S) == 1
    assert again.stderr is not None
    told = again.stderr.read()
    assert "server.json is missing or damaged" in told
    assert "havre down" in told


@pytest.fixture
def strange(harness: SupervisorHarness) -> SupervisorHarness:
    """A home whose processes have the command lines of real ones."""
    harness.home.make()
    for module in ("service", "telemetry"):
        folder = harness.home.root / "code" / "havre" / module
        folder.mkdir(parents=True)
        (folder / "__main__.py").write_text("import time\ntime.sleep(600)\n")
        (folder / "__init__.py").touch()
    (harness.home.root / "code" / "havre" / "__init__.py").touch()
    launcher = harness.home.lib / "0" / "havre_copy" / "launch.py"
    launcher.parent.mkdir(parents=True)
    launcher.write_text("import os, time\nos.fork()\ntime.sleep(600)\n")
    return harness


def start_all(harness: SupervisorHarness) -> dict[str, int]:
    root, code = harness.home.root, str(harness.home.root / "code")
    of_ours = {
        name: harness.spec(
            name, sys.executable, "-m", module, "--home", str(root), "--release", "1"
        )
        for name, module in (("control-plane", "havre.service"), ("telemetry", "havre.telemetry"))
    }
    for spec in of_ours.values():
        spec.environment["PYTHONPATH"] = code  # type: ignore[index]
    balancer = harness.python(BALANCER, "import time; time.sleep(600)")
    keeper = harness.spec(
        "i-0123456789ab",
        *(sys.executable, str(harness.home.lib / "0" / "havre_copy" / "launch.py")),
        str(harness.home.instances / "0123456789ab" / "spec.json"),
    )
    specs = [*of_ours.values(), balancer, keeper]
    return {spec.name: harness.client.start(spec).pid for spec in specs}


def sleeper_of(root: Path) -> subprocess.Popen[bytes]:
    """A process with the command line of a home's control plane."""
    sleep = (sys.executable, "-c", "import time; time.sleep(600)")
    return subprocess.Popen([*sleep, "-m", "havre.service", "--home", str(root)])


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_processes_that_no_record_names_are_found_and_ended(
    strange: SupervisorHarness, damage: str
) -> None:
    strange.launch()
    pids = start_all(strange)
    del pids[BALANCER]  # it keeps its record
    wait_until(lambda: len(strange.leftovers()) == 6, "a copy of the keeper")
    other = strange.home.root / "inner"  # a home may even lie in this one
    bystander = sleeper_of(other)
    strange.crash()
    for name in pids:
        path = strange.home.processes / f"{name}.json"
        if damage == "cut":
            os.truncate(path, 20)
        else:
            path.unlink()
    try:
        assert sorted(name for name, _ in orphans.find(strange.home, set())) == sorted(
            [*pids, "i-0123456789ab"]
        )
        strange.launch()
        assert [status.name for status in strange.client.list()] == [BALANCER]
        assert not any(map(runs, pids.values()))
        assert len(strange.leftovers()) == 3, "the supervisor, what is recorded, a bystander"
        assert bystander.poll() is None
        told = (strange.home.logs / "supervisor.log").read_text()
        assert "telemetry: ended, no record names it" in told
        assert [path.name for path in strange.home.processes.iterdir()] == ["load-balancer.json"]
    finally:
        bystander.kill()
        bystander.wait()


def test_what_a_dead_supervisor_left_without_records_is_ended_by_down(
    strange: SupervisorHarness,
) -> None:
    strange.launch()
    start_all(strange)
    strange.crash()
    for path in strange.home.processes.iterdir():
        os.truncate(path, 20 if path.stem != BALANCER else path.stat().st_size)
    assert strange.launch("--end", wait=False).wait(timeout=DEADLINE_S) == 0
    assert strange.leftovers() == []
    assert list(strange.home.processes.iterdir()) == []


def test_a_home_of_the_same_name_elsewhere_is_left_alone(harness: SupervisorHarness) -> None:
    """In a container, say: its processes are seen from outside, with the paths of inside."""
    namesake = 'mount -t tmpfs none "$0" && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", namesake, str(harness.home.root)]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount can be made here: it takes root, and not in a container")
    sleep = (sys.executable, "-c", "print(flush=True); import time; time.sleep(600)")
    home = ("-m", "havre.service", "--home", str(harness.home.root))
    with subprocess.Popen([*inside, *sleep, *home], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline(), "it runs"
            same = sleeper_of(harness.home.root)
            try:
                wait_until(lambda: orphans.find(harness.home, set()))
                found = [identity.pid for _, identity in orphans.find(harness.home, set())]
            finally:
                same.kill()
                same.wait()
            assert found == [same.pid]
        finally:
            other.kill()
