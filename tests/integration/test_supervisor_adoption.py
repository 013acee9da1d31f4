"""A supervisor that was killed, and the one after it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.supervisor_bench import SupervisorBench, runs, wait_until

from havre.domain.errors import EngineFault
from havre.supervisor import records
from havre.supervisor.identity import Identity, boot_id, identify
from havre.supervisor.protocol import Phase, Restart
from havre.supervisor.records import Record

SLEEPS = ("/bin/sleep", "600")


def test_processes_live_through_their_supervisors_death_and_are_adopted(
    bench: SupervisorBench,
) -> None:
    bench.launch()
    before = {
        name: bench.client.start(bench.spec(name, *SLEEPS, restart=restart))
        for name, restart in [("i-a", Restart.NEVER), ("control-plane", Restart.ALWAYS)]
    }
    bench.crash()
    assert all(runs(status.pid) for status in before.values())
    bench.launch()
    for name, status in before.items():
        assert bench.status(name) == replace(status, adopted=True)
        same = bench.client.start(
            bench.spec(
                name,
                *SLEEPS,
                restart=Restart.NEVER if name == "i-a" else Restart.ALWAYS,
            )
        )
        assert same.pid == status.pid, "an adopted process is found, not started twice"


def test_the_death_of_an_adopted_process_is_seen(bench: SupervisorBench) -> None:
    bench.launch()
    never = bench.client.start(bench.spec("i-a", *SLEEPS))
    always = bench.client.start(bench.spec("envoy", *SLEEPS, restart=Restart.ALWAYS))
    bench.crash()
    bench.launch()
    os.kill(never.pid, signal.SIGKILL)
    os.kill(always.pid, signal.SIGKILL)
    assert bench.wait_for("i-a", Phase.EXITED).exit_code is None, "only a parent learns the code"
    again = wait_until(
        lambda: status if (status := bench.status("envoy")).pid != always.pid else None
    )
    assert (again.phase, again.adopted, again.restarts) == (Phase.RUNNING, False, 1)


def test_what_died_in_between_is_restarted_or_told_dead(bench: SupervisorBench) -> None:
    bench.launch()
    never = bench.client.start(bench.spec("i-a", *SLEEPS))
    always = bench.client.start(bench.spec("envoy", *SLEEPS, restart=Restart.ALWAYS))
    bench.crash()
    for status in (never, always):
        os.kill(status.pid, signal.SIGKILL)
    wait_until(lambda: not runs(never.pid) and not runs(always.pid))
    bench.launch("--port", str(bench.server()["port"]))
    assert bench.status("i-a").phase is Phase.EXITED
    again = bench.wait_for("envoy", Phase.RUNNING)
    assert again.pid != always.pid


def test_a_known_exit_code_survives(bench: SupervisorBench) -> None:
    bench.launch()
    bench.client.start(bench.spec("i-a", "/bin/sh", "-c", "exit 3"))
    bench.wait_for("i-a", Phase.EXITED)
    bench.crash()
    bench.launch()
    assert bench.status("i-a").exit_code == 3


@pytest.mark.parametrize("leader_dies", ["before the supervisor", "after the supervisor"])
def test_orphans_are_found_again_and_ended(bench: SupervisorBench, leader_dies: str) -> None:
    bench.launch()
    code = "sleep 600 & echo $!; wait"
    leader = bench.client.start(bench.spec("i-a", "/bin/sh", "-c", code))
    orphan = int(wait_until(lambda: bench.log("i-a")))
    if leader_dies == "before the supervisor":
        os.kill(leader.pid, signal.SIGKILL)
        bench.wait_for("i-a", Phase.EXITED)
        bench.crash()
    else:
        bench.crash()
        os.kill(leader.pid, signal.SIGKILL)
        wait_until(lambda: not runs(leader.pid))
    bench.launch()
    assert bench.status("i-a").orphans == 1
    assert runs(orphan)
    bench.client.stop("i-a")
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
    bench: SupervisorBench, forgery: dict[str, object], restart: Restart, end: str
) -> None:
    # A stranger that leads a group of its own, as a reused pid could.
    stranger = subprocess.Popen(SLEEPS, start_new_session=True, env={"PATH": os.environ["PATH"]})
    try:
        truth = identify(stranger.pid)
        assert truth is not None
        spec = bench.spec("control-plane", "/bin/true", restart=restart)
        spec = replace(spec, environment={"PATH": os.environ["PATH"]})
        bench.home.make()
        records.save(bench.home.processes, Record(spec, replace(truth, **forgery)))  # type: ignore[arg-type]
        if end == "shutdown":
            program = bench.launch()
            if restart is Restart.NEVER:
                status = bench.status("control-plane")
                assert (status.phase, status.orphans) == (Phase.EXITED, 0)
            bench.client.shutdown()
        else:
            program = bench.launch("--end", wait=False)
        assert program.wait(timeout=20) == 0
        assert stranger.poll() is None
        assert list(bench.home.processes.iterdir()) == []
    finally:
        stranger.kill()
        stranger.wait()


def test_a_strangers_group_under_a_dead_leaders_number_is_left_alone(
    bench: SupervisorBench,
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
        bench.home.make()
        spec = bench.spec("i-a", *SLEEPS)
        forged = Identity(stranger.pid, 1, boot_id())
        records.save(bench.home.processes, Record(spec, forged))
        bench.launch()
        assert bench.status("i-a").orphans == 0
        bench.client.stop("i-a")
        assert runs(orphan)
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_an_unreadable_record_does_not_keep_the_home_from_starting(
    bench: SupervisorBench,
) -> None:
    bench.home.make()
    (bench.home.processes / "i-torn.json").write_text('{"format": 1, "spec"')
    bench.launch()
    assert bench.client.list() == []
    assert "i-torn.json" in (bench.home.logs / "supervisor.log").read_text()


def test_what_a_dead_supervisor_left_can_be_ended(bench: SupervisorBench) -> None:
    bench.launch()
    for name in ("control-plane", "envoy", "i-a"):
        bench.client.start(bench.spec(name, *SLEEPS, restart=Restart.ALWAYS))
    bench.crash()
    assert len(bench.leftovers()) == 3
    assert bench.launch("--end", wait=False).wait(timeout=20) == 0
    assert bench.leftovers() == []
    assert list(bench.home.processes.iterdir()) == []


def test_one_supervisor_per_home(bench: SupervisorBench) -> None:
    bench.launch()
    pid = bench.server()["supervisor"]["pid"]  # type: ignore[index]
    second = bench.launch("--port", "0", wait=False)
    assert second.wait(timeout=20) == 1
    assert second.stderr is not None
    assert "runs already" in second.stderr.read()
    assert bench.client.ping()["supervisor"]["pid"] == pid
    assert json.loads(bench.home.server_file.read_text())["supervisor"]["pid"] == pid


def test_a_run_folder_that_others_may_write_to_is_refused(bench: SupervisorBench) -> None:
    bench.home.make()
    bench.home.run.chmod(0o777)
    program = bench.launch("--port", "0", wait=False)
    assert program.wait(timeout=20) == 1
    assert program.stderr is not None
    assert "0700" in program.stderr.read()


def test_a_supervisor_goes_on_as_another_program_in_its_place(bench: SupervisorBench) -> None:
    program = bench.launch()
    always = bench.client.start(bench.spec("control-plane", *SLEEPS, restart=Restart.ALWAYS))
    never = bench.client.start(bench.spec("i-a", *SLEEPS))
    about = bench.client.ping()
    go_on(bench)
    assert bench.client.ping()["supervisor"] == about["supervisor"], "the same process"
    for status in (always, never):
        assert bench.status(status.name) == replace(status, adopted=True)
    # Still the parent: it learns how they end, and restarts what must always run.
    for status in (always, never):
        os.kill(status.pid, signal.SIGKILL)
    assert bench.wait_for("i-a", Phase.EXITED).exit_code == -signal.SIGKILL
    wait_until(lambda: bench.status("control-plane").pid != always.pid)
    bench.client.shutdown()
    assert program.wait(timeout=20) == 0
    assert bench.leftovers() == []


def test_a_supervisor_does_not_go_on_as_what_cannot_run(bench: SupervisorBench) -> None:
    bench.launch()
    status = bench.client.start(bench.spec("i-a", *SLEEPS))
    with pytest.raises(EngineFault, match="not a program"):
        bench.client.become([str(bench.home.root / "missing")], {})
    # It looks like one, and the kernel refuses it only then.
    text = bench.home.root / "text"
    text.write_text("no program\n")
    text.chmod(0o700)
    bench.client.become([str(text)], {})
    assert bench.status("i-a") == status
    assert "cannot go on as" in (bench.home.logs / "supervisor.log").read_text()
    os.kill(status.pid, signal.SIGKILL)
    assert bench.wait_for("i-a", Phase.EXITED).exit_code == -signal.SIGKILL, "it hears signals"


def test_another_specification_holds_from_the_next_start_on(bench: SupervisorBench) -> None:
    bench.launch()
    before = bench.client.start(bench.spec("envoy", *SLEEPS, restart=Restart.ALWAYS))
    later = bench.spec("envoy", "/bin/sleep", "700", restart=Restart.ALWAYS)
    renewed = bench.client.renew(later)
    assert renewed == replace(before, renewed=True, spec_digest=later.digest)
    assert bench.client.renew(later) == renewed, "asked again, nothing changes"
    bench.crash()
    bench.launch()
    assert bench.status("envoy") == replace(renewed, adopted=True)
    os.kill(before.pid, signal.SIGKILL)
    again = wait_until(
        lambda: status if (status := bench.status("envoy")).pid != before.pid else None
    )
    assert (again.renewed, again.spec_digest) == (False, later.digest)
    assert b"700" in Path(f"/proc/{again.pid}/cmdline").read_bytes()
    with pytest.raises(EngineFault, match="does not run"):
        bench.client.renew(bench.spec("unknown", *SLEEPS))


def go_on(bench: SupervisorBench) -> None:
    """As the same program, anew; returns when that answers."""
    log = bench.home.logs / "supervisor.log"
    told = log.read_text().count("adopted")
    port = str(bench.server()["port"])
    command = [sys.executable, "-m", "havre.supervisor", "--home", str(bench.home.root)]
    bench.client.become(
        [*command, "--port", port], {**os.environ, "HAVRE_TEST_HOME": str(bench.home.root)}
    )
    wait_until(lambda: log.read_text().count("adopted") > told and bench.answers())
