"""A supervisor that was killed, and the one after it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.supervisor_harness import DEADLINE_S, SupervisorHarness, runs, wait_until

from havre.domain.errors import EngineFault
from havre.supervisor import records
from havre.supervisor.identity import Identity, boot_id, identify
from havre.supervisor.protocol import BALANCER, Phase, Restart
from havre.supervisor.records import Record

SLEEPS = ("/bin/sleep", "600")


def test_processes_live_through_their_supervisors_death_and_are_adopted(
    harness: SupervisorHarness,
) -> None:
    harness.launch()
    before = {
        name: harness.client.start(harness.spec(name, *SLEEPS, restart=restart))
        for name, restart in [("i-a", Restart.NEVER), ("control-plane", Restart.ALWAYS)]
    }
    harness.crash()
    assert all(runs(status.pid) for status in before.values())
    harness.launch()
    for name, status in before.items():
        assert harness.status(name) == replace(status, adopted=True)
        same = harness.client.start(
            harness.spec(
                name,
                *SLEEPS,
                restart=Restart.NEVER if name == "i-a" else Restart.ALWAYS,
            )
        )
        assert same.pid == status.pid, "an adopted process is found, not started twice"


def test_the_death_of_an_adopted_process_is_seen(harness: SupervisorHarness) -> None:
    harness.launch()
    never = harness.client.start(harness.spec("i-a", *SLEEPS))
    always = harness.client.start(harness.spec(BALANCER, *SLEEPS, restart=Restart.ALWAYS))
    harness.crash()
    harness.launch()
    os.kill(never.pid, signal.SIGKILL)
    os.kill(always.pid, signal.SIGKILL)
    assert harness.wait_for("i-a", Phase.EXITED).exit_code is None, "only a parent learns the code"
    again = wait_until(
        lambda: status if (status := harness.status(BALANCER)).pid != always.pid else None
    )
    assert (again.phase, again.adopted, again.restarts) == (Phase.RUNNING, False, 1)


NO_DESCRIPTORS = """
import os
def refuse(*_):
    raise OSError(38, "Function not implemented")
os.pidfd_open = refuse
"""


def test_without_process_descriptors_it_adopts_watches_and_stops(
    harness: SupervisorHarness,
) -> None:
    """As on Linux before 5.3, and in sandboxes that do not let the call through."""
    harness.launch(before=NO_DESCRIPTORS)
    dies = harness.client.start(harness.spec("i-a", *SLEEPS))
    lives = harness.client.start(harness.spec("i-b", *SLEEPS))
    always = harness.client.start(harness.spec(BALANCER, *SLEEPS, restart=Restart.ALWAYS))
    harness.crash()
    harness.launch(before=NO_DESCRIPTORS)
    assert harness.status("i-a") == replace(dies, adopted=True)
    os.kill(dies.pid, signal.SIGKILL)
    os.kill(always.pid, signal.SIGKILL)
    harness.wait_for("i-a", Phase.EXITED)
    wait_until(lambda: harness.status(BALANCER).pid != always.pid, "its successor")
    harness.client.stop("i-b")
    assert not runs(lives.pid)


def test_what_died_in_between_is_restarted_or_told_dead(harness: SupervisorHarness) -> None:
    harness.launch()
    never = harness.client.start(harness.spec("i-a", *SLEEPS))
    always = harness.client.start(harness.spec(BALANCER, *SLEEPS, restart=Restart.ALWAYS))
    harness.crash()
    for status in (never, always):
        os.kill(status.pid, signal.SIGKILL)
    wait_until(lambda: not runs(never.pid) and not runs(always.pid))
    harness.launch("--port", str(harness.server()["port"]))
    assert harness.status("i-a").phase is Phase.EXITED
    again = harness.wait_for(BALANCER, Phase.RUNNING)
    assert again.pid != always.pid


def test_a_known_exit_code_survives(harness: SupervisorHarness) -> None:
    harness.launch()
    harness.client.start(harness.spec("i-a", "/bin/sh", "-c", "exit 3"))
    harness.wait_for("i-a", Phase.EXITED)
    harness.crash()
    harness.launch()
    assert harness.status("i-a").exit_code == 3


@pytest.mark.parametrize("leader_dies", ["before the supervisor", "after the supervisor"])
def test_orphans_are_found_again_and_ended(harness: SupervisorHarness, leader_dies: str) -> None:
    harness.launch()
    code = "sleep 600 & echo $!; wait"
    leader = harness.client.start(harness.spec("i-a", "/bin/sh", "-c", code))
    orphan = int(wait_until(lambda: harness.log("i-a")))
    if leader_dies == "before the supervisor":
        os.kill(leader.pid, signal.SIGKILL)
        harness.wait_for("i-a", Phase.EXITED)
        harness.crash()
    else:
        harness.crash()
        os.kill(leader.pid, signal.SIGKILL)
        wait_until(lambda: not runs(leader.pid))
    harness.launch()
    assert harness.status("i-a").orphans == 1
    assert runs(orphan)
    harness.client.stop("i-a")
    assert not runs(orphan)


@pytest.mark.parametrize(
    "forgery",
    [
        {"start_time": 1},
        {"boot_id": "00000000-0000-0000-0000-000000000000"},
    ],
    ids=["another start time", "another boot"],
)
@pytest.mark.parametrize("restart", [Restart.NEVER, Restart.ALWAYS])
@pytest.mark.parametrize("end", ["shutdown", "--end"])
def test_a_foreign_pid_in_a_record_is_never_signalled(
    harness: SupervisorHarness, forgery: dict[str, object], restart: Restart, end: str
) -> None:
    # A stranger that leads a group of its own, as a reused pid could.
    stranger = subprocess.Popen(SLEEPS, start_new_session=True, env={"PATH": os.environ["PATH"]})
    try:
        truth = identify(stranger.pid)
        assert truth is not None
        spec = harness.spec("control-plane", "/bin/true", restart=restart)
        spec = replace(spec, environment={"PATH": os.environ["PATH"]})
        harness.home.make()
        records.save(harness.home.processes, Record(spec, replace(truth, **forgery)))  # type: ignore[arg-type]
        if end == "shutdown":
            program = harness.launch()
            if restart is Restart.NEVER:
                status = harness.status("control-plane")
                assert (status.phase, status.orphans) == (Phase.EXITED, 0)
            harness.client.shutdown()
        else:
            program = harness.launch("--end", wait=False)
        assert program.wait(timeout=DEADLINE_S) == 0
        assert stranger.poll() is None
        assert list(harness.home.processes.iterdir()) == []
    finally:
        stranger.kill()
        stranger.wait()


def test_a_strangers_group_under_a_dead_leaders_number_is_left_alone(
    harness: SupervisorHarness,
) -> None:
    """The leader's number was reused by a program that left orphans of its own."""
    stranger = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"],
        start_new_session=True,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    orphan = int(stranger.communicate(timeout=10)[0])
    try:
        harness.home.make()
        spec = harness.spec("i-a", *SLEEPS)
        forged = Identity(stranger.pid, 1, boot_id())
        records.save(harness.home.processes, Record(spec, forged))
        harness.launch()
        assert harness.status("i-a").orphans == 0
        harness.client.stop("i-a")
        assert runs(orphan)
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_an_unreadable_record_does_not_keep_the_home_from_starting(
    harness: SupervisorHarness,
) -> None:
    harness.home.make()
    (harness.home.processes / "i-torn.json").write_text('{"format": 1, "spec"')
    harness.launch()
    assert harness.client.list() == []
    assert "i-torn.json" in (harness.home.logs / "supervisor.log").read_text()


def test_what_a_dead_supervisor_left_can_be_ended(harness: SupervisorHarness) -> None:
    harness.launch()
    for name in ("control-plane", BALANCER, "i-a"):
        harness.client.start(harness.spec(name, *SLEEPS, restart=Restart.ALWAYS))
    harness.crash()
    assert len(harness.leftovers()) == 3
    assert harness.launch("--end", wait=False).wait(timeout=DEADLINE_S) == 0
    assert harness.leftovers() == []
    assert list(harness.home.processes.iterdir()) == []


def test_one_supervisor_per_home(harness: SupervisorHarness) -> None:
    harness.launch()
    pid = harness.server()["supervisor"]["pid"]  # type: ignore[index]
    second = harness.launch("--port", "0", wait=False)
    assert second.wait(timeout=DEADLINE_S) == 1
    assert second.stderr is not None
    assert "runs already" in second.stderr.read()
    assert harness.client.ping()["supervisor"]["pid"] == pid
    assert json.loads(harness.home.server_file.read_text())["supervisor"]["pid"] == pid


def test_a_run_folder_that_others_may_write_to_is_refused(harness: SupervisorHarness) -> None:
    harness.home.make()
    harness.home.run.chmod(0o777)
    program = harness.launch("--port", "0", wait=False)
    assert program.wait(timeout=DEADLINE_S) == 1
    assert program.stderr is not None
    assert "0700" in program.stderr.read()


def test_a_supervisor_goes_on_as_another_program_in_its_place(harness: SupervisorHarness) -> None:
    program = harness.launch()
    always = harness.client.start(harness.spec("control-plane", *SLEEPS, restart=Restart.ALWAYS))
    never = harness.client.start(harness.spec("i-a", *SLEEPS))
    about = harness.client.ping()
    go_on(harness)
    assert harness.client.ping()["supervisor"] == about["supervisor"], "the same process"
    for status in (always, never):
        assert harness.status(status.name) == replace(status, adopted=True)
    # Still the parent: it learns how they end, and restarts what must always run.
    for status in (always, never):
        os.kill(status.pid, signal.SIGKILL)
    assert harness.wait_for("i-a", Phase.EXITED).exit_code == -signal.SIGKILL
    wait_until(lambda: harness.status("control-plane").pid != always.pid)
    harness.client.shutdown()
    assert program.wait(timeout=DEADLINE_S) == 0
    assert harness.leftovers() == []


def test_a_supervisor_does_not_go_on_as_what_cannot_run(harness: SupervisorHarness) -> None:
    harness.launch()
    status = harness.client.start(harness.spec("i-a", *SLEEPS))
    with pytest.raises(EngineFault, match="not a program"):
        harness.client.re_exec([str(harness.home.root / "missing")], {})
    # It looks like one, and the kernel refuses it only then.
    text = harness.home.root / "text"
    text.write_text("no program\n")
    text.chmod(0o700)
    harness.client.re_exec([str(text)], {})
    assert harness.status("i-a") == status
    assert "cannot go on as" in (harness.home.logs / "supervisor.log").read_text()
    os.kill(status.pid, signal.SIGKILL)
    assert harness.wait_for("i-a", Phase.EXITED).exit_code == -signal.SIGKILL, "it hears signals"


def test_another_specification_holds_from_the_next_start_on(harness: SupervisorHarness) -> None:
    harness.launch()
    before = harness.client.start(harness.spec(BALANCER, *SLEEPS, restart=Restart.ALWAYS))
    later = harness.spec(BALANCER, "/bin/sleep", "700", restart=Restart.ALWAYS)
    renewed = harness.client.renew(later)
    assert renewed == replace(before, renewed=True, spec_digest=later.digest)
    assert harness.client.renew(later) == renewed, "asked again, nothing changes"
    harness.crash()
    harness.launch()
    assert harness.status(BALANCER) == replace(renewed, adopted=True)
    os.kill(before.pid, signal.SIGKILL)
    again = wait_until(
        lambda: status if (status := harness.status(BALANCER)).pid != before.pid else None
    )
    assert (again.renewed, again.spec_digest) == (False, later.digest)
    assert b"700" in Path(f"/proc/{again.pid}/cmdline").read_bytes()
    with pytest.raises(EngineFault, match="does not run"):
        harness.client.renew(harness.spec("unknown", *SLEEPS))


def go_on(harness: SupervisorHarness) -> None:
    """As the same program, anew; returns when that answers."""
    log = harness.home.logs / "supervisor.log"
    told = log.read_text().count("adopted")
    port = str(harness.server()["port"])
    command = [sys.executable, "-m", "havre.supervisor", "--home", str(harness.home.root)]
    harness.client.re_exec(
        [*command, "--port", port], {**os.environ, "HAVRE_TEST_HOME": str(harness.home.root)}
    )
    wait_until(lambda: log.read_text().count("adopted") > told and harness.answers())
